"""Reads a request's body: strictly, with the field at fault in the error, and nothing ignored."""

from __future__ import annotations

import difflib
import inspect
import json
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, ClassVar, Self, TypeVar

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError, from_json

from kaito.inference.errors import BadRequest, UnsupportedMediaType

M = TypeVar("M", bound=BaseModel)

Off = Mapping[str, tuple[object, ...]]


def _describe(schema: dict[str, Any], model: type[BaseModel]) -> None:
    assert issubclass(model, Fields)
    schema |= {"additionalProperties": False, **model.schema_extra}
    for name, values in model.off.items():
        schema["properties"][name] = {"enum": list(values), "description": "Nothing but this: it is not supported."}


class Fields(BaseModel):
    """An object in a body. A field that is not honoured is refused, unless its value asks for nothing.

    Attributes:
        off: by name of such a field, values that ask for nothing: what clients send who mean the default.
        schema_extra: what its JSON schema says beside its fields.
    """

    model_config = ConfigDict(
        strict=True,
        frozen=True,
        extra="allow",
        allow_inf_nan=False,
        json_schema_extra=_describe,
        protected_namespaces=(),
    )
    off: ClassVar[Off] = {}
    schema_extra: ClassVar[Mapping[str, Any]] = {}

    @model_validator(mode="after")
    def _honoured(self) -> Self:
        for name, value in (self.model_extra or {}).items():
            if name not in self.off:
                raise PydanticCustomError("unknown", "{reason}", {"field": name, "reason": self._unknown(name)})
            if not any(type(value) is type(each) and value == each for each in self.off[name]):
                raise PydanticCustomError("not_honoured", "{reason}", {"field": name, "reason": self._refusal(name)})
        return self

    def _unknown(self, name: str) -> str:
        near = difflib.get_close_matches(name, type(self).model_fields, 1)
        return f"no field of this request{f'; did you mean {near[0]}?' if near else ''}"

    def _refusal(self, name: str) -> str:
        allowed = ", ".join(json.dumps(each) for each in self.off[name])
        return f"not supported by this server; leave it out (allowed: {allowed})"


class BodyRoute(APIRoute):
    """A route whose endpoint takes a request and its body; FastAPI documents the body as if it were its own."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Reads the body and calls the endpoint."""
        endpoint = self.endpoint
        model = inspect.signature(endpoint, eval_str=True).parameters["body"].annotation

        async def handle(request: Request) -> Response:
            answer = await endpoint(request, await read(request, model))
            assert isinstance(answer, Response)
            return answer

        return handle


async def read(request: Request, model: type[M]) -> M:
    """A request's body.

    Raises:
        UnsupportedMediaType: It says that it is no JSON, or does not say what it is.
        BadRequest: It is not what the model says.
    """
    # Asked for even of bodies that are JSON: a page of another site can send any other type without being asked.
    media_type = request.headers.get("content-type", "")
    if media_type.split(";")[0].strip().lower() != "application/json":
        raise UnsupportedMediaType(f"Content-Type must be application/json, was {media_type or 'not given'}")
    return parse(await request.body(), model)


def parse(body: bytes, model: type[M]) -> M:
    """A body's object.

    Raises:
        BadRequest: It is not what the model says.
    """
    try:
        content = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise BadRequest(f"the body is not valid JSON: {error}") from None
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise _bad_request(error.errors(include_url=False)[0]) from None


def _bad_request(error: ErrorDetails) -> BadRequest:
    context = error.get("ctx", {})
    location = (*error["loc"], context["field"]) if "field" in context else error["loc"]
    param = _param(location)
    reason = error["msg"].replace("Input should be", "must be", 1)
    if error["type"] == "missing":
        return BadRequest(f"{param}: required, but not given", param=param)
    if error["type"].startswith("model_"):
        reason = "must be an object"
    if error["type"] not in ("unknown", "not_honoured", "combination"):
        reason += f", was {_shown(error['input'])}"
    return BadRequest(f"{param or 'the body'}: {reason}", param=param or None)


def _param(location: tuple[int | str, ...]) -> str:
    """As the client wrote it: ``messages[0].role``. Names of a union's kinds, which start with `KIND`, are not his."""
    param = ""
    for part in location:
        if isinstance(part, int):
            param += f"[{part}]"
        elif not part.startswith(KIND) and part != "[key]":
            param += f".{part}" if param else part
    return param[:200]


KIND = "kind:"


def _shown(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case int() | float():
            return str(value)[:40]
        case str():
            return repr(value) if len(value) <= 60 else f"{value[:60]!r}…"
        case list():
            return "a list" if value else "[]"
        case _:
            return "an object"
