"""vLLM's own routes on our port: those that clients need, and no others, which sleep, pause or change the server."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, cast

import aiohttp
import msgspec
from fastapi import APIRouter, Request, Response
from pydantic import Field
from starlette.types import Receive, Scope, Send

from kaito.inference.errors import BadRequest, RequestError, Unavailable
from kaito.inference.http.errors import ClientGone, error_object
from kaito.inference.http.openai.body import Fields, parse
from kaito.inference.http.openai.fields import AdapterStrength
from kaito.inference.http.openai.prepare import adapters, find_model
from kaito.inference.http.sse import event, until_gone
from kaito.inference.runtime import Runtime
from kaito.inference.starting import StartingRuntime
from kaito.inference.vllm.admission import Aborted, Admitted
from kaito.inference.vllm.upstream import Upstream, gone

if TYPE_CHECKING:
    # Its libraries take seconds, in which the routes answer already.
    from kaito.inference.vllm.runtime import VllmRuntime

_POST = (
    "/v1/completions",
    "/v1/chat/completions",
    "/v1/chat/completions/batch",
    "/v1/responses",
    "/v1/responses/{id}/cancel",
    "/v1/messages",
    "/v1/messages/count_tokens",
    "/v1/decisions",
    "/v1/systemone",
    "/v1/embeddings",
    "/v1/score",
    "/v1/rerank",
    "/v1/audio/transcriptions",
    "/v1/audio/translations",
    "/tokenize",
    "/detokenize",
)
_GET = ("/v1/responses/{id}", "/version", "/load")
_GENERATE = frozenset({"/v1/completions", "/v1/chat/completions", "/v1/responses", "/v1/messages"})
"""Whose bodies may say `lora`, as without vLLM."""
_HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
# Our key is not vLLM's, a body that was changed has another length, and what is compressed would have to be unpacked.
_NOT_SENT = _HOP_BY_HOP | {"host", "authorization", "content-length", "accept-encoding", "expect", "x-request-id"}
_NOT_RETURNED = _HOP_BY_HOP | {"server", "date", "x-request-id"}
_BYTES_PER_TOKEN = 4

router = APIRouter(tags=["vllm"])


async def _pass_on(request: Request) -> Response:
    """Passed on to vLLM as it is."""
    runtime = _vllm(request.app.state.runtime)
    server = runtime.ready()
    body = await request.body()
    if request.headers.get("content-type", "").split(";")[0].strip().lower() in ("application/json", ""):
        body = _checked(runtime, request.url.path, body)
    [admitted] = runtime.admission.enter([len(body) // _BYTES_PER_TOKEN] if request.method == "POST" else [0])
    path = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return _Relay(server, admitted, request.method, path, list(_sent(request)), body)


for _path in _POST:
    router.add_api_route(_path, _pass_on, methods=["POST"], name=f"POST {_path}")
for _path in _GET:
    router.add_api_route(_path, _pass_on, methods=["GET"], name=f"GET {_path}")


class _Lora(Fields):
    lora: Annotated[list[AdapterStrength], Field(max_length=64)]


class _Relay(Response):
    """vLLM's answer as it comes. A client that goes closes the connection to vLLM, which ends the request there."""

    def __init__(
        self,
        server: Upstream,
        admitted: Admitted,
        method: str,
        path: str,
        headers: Sequence[tuple[str, str]],
        body: bytes,
    ) -> None:
        super().__init__()
        self._server, self._admitted = server, admitted
        self._method, self._path, self._sent, self._body = method, path, headers, body
        self._answer: aiohttp.ClientResponse | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Asks vLLM and sends what it answers."""
        try:
            await until_gone(receive, self._relay(send))
        except ClientGone:
            pass
        except RequestError as error:
            if self._answer is None or self._answer.content_type != "text/event-stream":
                raise
            # The head is sent: all that is left is to say it in the stream, maybe after half an event.
            await send({"type": "http.response.body", "body": b"\n\n" + event(error_object(error))})
        finally:
            if self._answer is not None:
                self._answer.close()
            self._admitted.leave()

    async def _relay(self, send: Send) -> None:
        try:
            async with self._admitted.timed():
                answer = await self._server.open(self._method, self._path, headers=self._sent, body=self._body)
                self._answer = answer
                await send({"type": "http.response.start", "status": answer.status, "headers": list(_returned(answer))})
                async for chunk in answer.content.iter_any():
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
        except Aborted:
            raise Unavailable("the server is stopping, and this request took too long to be waited for") from None
        except aiohttp.ClientError as error:
            raise gone() from error
        await send({"type": "http.response.body", "body": b""})


def _vllm(runtime: Runtime) -> VllmRuntime:
    built = runtime.built if isinstance(runtime, StartingRuntime) else runtime
    # By its name, as to import its class here would take seconds.
    assert built.name == "vllm"
    return cast("VllmRuntime", built)


def _checked(runtime: VllmRuntime, path: str, body: bytes) -> bytes:
    """A JSON body as vLLM takes it: it ignores fields that it does not know, and knows no `lora`."""
    if not body:
        return body
    try:
        content = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"the body is not valid JSON: {error}") from None
    if not isinstance(content, dict):
        raise BadRequest("the body must be an object")
    extra = {"lora"} if path in _GENERATE else set()
    _check_fields(content, runtime.fields(path), extra)
    if isinstance(name := content.get("model"), str):
        find_model(runtime, name)
    if not extra or content.get("lora") is None:
        return body
    asked = parse(msgspec.json.encode({"lora": content.pop("lora")}), _Lora).lora
    strengths = adapters(runtime, find_model(runtime, None), asked)
    return msgspec.json.encode({**content, "model": runtime.named(strengths)})


def _check_fields(content: Mapping[str, Any], fields: frozenset[str], extra: set[str]) -> None:
    for name in content:
        if fields and name not in fields | extra:
            near = difflib.get_close_matches(name, sorted(fields | extra), 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise BadRequest(f"{name}: vLLM knows no such field of this request{hint}", param=name)


def _sent(request: Request) -> Iterable[tuple[str, str]]:
    for name, value in request.headers.items():
        if name not in _NOT_SENT:
            yield name, value
    if request_id := getattr(request.state, "request_id", None):
        yield "x-request-id", request_id


def _returned(answer: aiohttp.ClientResponse) -> Iterable[tuple[bytes, bytes]]:
    return ((name.lower(), value) for name, value in answer.raw_headers if name.decode().lower() not in _NOT_RETURNED)
