"""Errors as answers: OpenAI's error object under `/v1` and beside it, FastAPI's `detail` on KAITO's own paths."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from kaito.inference.errors import BadRequest, RequestError

OPENAI_PATHS = ("/v1", "/tokenize", "/detokenize")
"""Paths, with all below them, whose errors are OpenAI's error objects."""


class ClientGone(Exception):
    """The client has closed its connection; nobody reads an answer."""


def add_error_handlers(app: FastAPI) -> None:
    """Every error of an application becomes an answer in the form of its path."""
    app.add_exception_handler(RequestError, _request_error)
    app.add_exception_handler(HTTPException, _http_exception)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(ClientGone, _client_gone)
    app.add_exception_handler(ClientDisconnect, _client_gone)
    app.add_exception_handler(Exception, _defect)


def error_response(error: RequestError, path: str) -> Response:
    """The answer that tells a client of an error.

    Args:
        error: what is wrong; its `retry_after_s` becomes the header `Retry-After`.
        path: of the request, which decides on the form.
    """
    headers = {} if error.retry_after_s is None else {"Retry-After": str(error.retry_after_s)}
    content = error_object(error) if is_openai(path) else {"detail": error.message}
    return _json(error.status, content, headers)


def error_object(error: RequestError) -> dict[str, dict[str, str | None]]:
    """An error as OpenAI's clients know it."""
    return {
        "error": {"message": error.message, "type": error.type, "param": error.param, "code": error.code},
    }


def defect() -> RequestError:
    """What a client is told of an exception that nobody foresaw."""
    return RequestError("the server has failed on this request; its log says why")


def is_openai(path: str) -> bool:
    """Whether a path's errors are OpenAI's error objects."""
    return any(path == each or path.startswith(f"{each}/") for each in OPENAI_PATHS)


async def _request_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    return error_response(error, request.url.path)


async def _http_exception(request: Request, error: Exception) -> Response:
    """Of the framework: no such path, or not that method on it."""
    assert isinstance(error, HTTPException)
    path = request.url.path
    message = str(error.detail)
    if is_openai(path):
        message = {
            404: f"there is no {request.method} {path} here; GET /openapi.json lists what there is",
            405: f"{path} does not take {request.method}; /openapi.json lists what it takes",
        }.get(error.status_code, message)
        kind = "invalid_request_error" if error.status_code < 500 else "server_error"
        content: Mapping[str, Any] = {"error": {"message": message, "type": kind, "param": None, "code": None}}
    else:
        content = {"detail": message}
    return _json(error.status_code, content, error.headers)


async def _validation_error(request: Request, error: Exception) -> Response:
    """Of a parameter that FastAPI checks itself; bodies under `/v1` are read by `kaito.inference.http.openai.body`."""
    assert isinstance(error, RequestValidationError)
    if not is_openai(request.url.path):
        return _json(422, {"detail": [_plain(each) | _hint(request, each) for each in error.errors()]})
    first = error.errors()[0]
    return error_response(BadRequest(first["msg"], param=str(first["loc"][-1])), request.url.path)


def _plain(error: Mapping[str, Any]) -> dict[str, Any]:
    # What a client sent may be no JSON at all, and exceptions in `ctx` are none either.
    return {"type": error["type"], "loc": error["loc"], "msg": error["msg"]}


def _hint(request: Request, error: Mapping[str, Any]) -> dict[str, str]:
    """What `curl -d` without the header is to be told: that body is a string for FastAPI, whatever is in it."""
    media_type = request.headers.get("content-type", "none")
    if tuple(error["loc"]) != ("body",) or media_type.split(";")[0].strip().lower() == "application/json":
        return {}
    return {
        "msg": f"the body is not read as JSON, as its Content-Type is {media_type[:100]}; send the header "
        "Content-Type: application/json"
    }


async def _client_gone(request: Request, error: Exception) -> Response:
    """Nobody reads it, and the status is nginx's; `ClientDisconnect` is of a body that did not come to its end."""
    return Response(status_code=499)


async def _defect(request: Request, error: Exception) -> Response:
    """The framework raises it again once this is sent, so that it is logged with its traceback."""
    return error_response(defect(), request.url.path)


def _json(status: int, content: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(content), status, headers, "application/json")
