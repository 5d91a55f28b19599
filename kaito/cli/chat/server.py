"""ChatServer: an inference server, asked directly or through the API server's proxy; its errors in one line each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import msgspec

from kaito.cli.chat.events import DONE, events
from kaito.cli.rights import giving_commands, refused_user
from kaito.client.client import Client
from kaito.client.errors import TransportError
from kaito.client.transport import Request, ResponseStream
from kaito.kube.core_v1 import Service
from kaito.kube.object_key import ObjectKey

PORT = 80
"""Of the Workspace's Service."""
SILENCE_S = 600.0
"""A long prompt is read for minutes before the first word of the answer."""
_GOODBYE_S = 1.0
_SHOWN = 300


class ChatError(Exception):
    """There is no answer, or no whole one; the text says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of an answer.

    Attributes:
        text: what was written since the piece before.
        finish_reason: why it ended: ``stop``, ``length``; None until then.
        usage: tokens that it took, if the server says.
        model: who wrote it.
    """

    text: str = ""
    finish_reason: str | None = None
    usage: Mapping[str, int] = field(default_factory=dict)
    model: str = ""


class ChatServer:
    """An inference server.

    Args:
        client: how it is reached; the client's host is the API server, or the inference server itself.
        workspace: whose server it is, asked through the API server; None: it is asked directly.
        headers: sent with each request.
    """

    def __init__(
        self, client: Client, workspace: ObjectKey | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        self._client = client
        self._workspace = workspace
        self._path = ""
        if workspace is not None:
            self._path = Service.resource_type.path(workspace.namespace, f"{workspace.name}:{PORT}", "proxy")
        self._headers = dict(headers or {})

    async def models(self) -> list[str]:
        """The names of what can be asked: the base model first, then its adapters.

        Raises:
            ChatError: the server does not tell.
        """
        answer = await self._whole(self._request("GET", "/v1/models"))
        try:
            return [str(card["id"]) for card in answer["data"]]
        except (KeyError, TypeError) as error:
            raise ChatError(f"what answers at {self._path}/v1/models is no inference server") from error

    async def ask(self, body: Mapping[str, Any]) -> AsyncIterator[Piece]:
        """Sends a conversation; yields the answer as it is written, or whole, as the body asks for.

        Raises:
            ChatError: the server refuses, or the answer breaks off.
        """
        request = self._request("POST", "/v1/chat/completions", msgspec.json.encode(body))
        if not body.get("stream"):
            yield _piece(await self._whole(request), "message")
            return
        try:
            async with self._client.stream(request) as stream:
                await self._check(stream)
                async for piece in _pieces(stream):
                    yield piece
        except TransportError as error:
            raise ChatError(_unreachable(error)) from error

    def _request(self, method: str, path: str, body: bytes | None = None) -> Request:
        verb = "create" if body is not None else "get"
        headers = {"Accept": "text/event-stream, application/json", **self._headers}
        return Request(method, self._path + path, verb, body=body, headers=headers, timeout_s=SILENCE_S, chunked=True)

    async def _whole(self, request: Request) -> Any:
        # As a stream, whose connection is not kept: between two questions the loop stands still.
        try:
            async with self._client.stream(request) as stream:
                await self._check(stream)
                return msgspec.json.decode(await _body(stream))
        except TransportError as error:
            raise ChatError(_unreachable(error)) from error
        except msgspec.DecodeError as error:
            raise ChatError(f"what answers {request.describe()} is no inference server: {error}") from error

    async def _check(self, stream: ResponseStream) -> None:
        if stream.status >= 300:
            raise ChatError(self._why(stream.status, await _body(stream)))

    def _why(self, status: int, body: bytes) -> str:
        said = _message(body)
        hint = self._hint(status, said, by_api_server=_is_of_api_server(body))
        return f"{status}: {said}" + (f"; {hint}" if hint else "")

    def _hint(self, status: int, said: str, *, by_api_server: bool) -> str:
        if self._workspace is None:
            return _server_hint(status, said, "POST /v1/completions")
        if not by_api_server and (hint := _server_hint(status, said, _create_raw(self._path))):
            return hint
        key = self._workspace
        if by_api_server and status == 403:
            return f"you need the right to get and create services/proxy. {_giving(key, said)}"
        if by_api_server and status == 404:
            return "is that the Workspace's name, and its namespace (-n)?"
        if status in (502, 503, 504):
            return f"no pod serves just now; kaito explain workspace {key.name} -n {key.namespace} tells why"
        return ""


async def _body(stream: ResponseStream) -> bytes:
    return b"".join([chunk async for chunk in stream.chunks()])


async def _pieces(stream: ResponseStream) -> AsyncIterator[Piece]:
    chunks = stream.chunks()
    async for data in events(chunks):
        if data == DONE:
            await _to_the_end(chunks)
            return
        try:
            chunk = msgspec.json.decode(data)
        except msgspec.DecodeError as error:
            raise ChatError(f"what came in the middle of the answer is no part of one: {error}") from error
        if isinstance(chunk, dict) and chunk.get("error"):
            raise ChatError(f"the server broke the answer off: {_message(data.encode())}")
        yield _piece(chunk, "delta")
    raise ChatError("the answer broke off: the connection ended in the middle; the server may have been stopped")


async def _to_the_end(chunks: AsyncIterator[bytes]) -> None:
    """Hears a stream out: the API server logs an error of its own for each that is left before."""
    with suppress(TimeoutError, TransportError):
        async with asyncio.timeout(_GOODBYE_S):
            async for _ in chunks:
                pass


def _piece(answer: Any, part: str) -> Piece:
    try:
        choice = (answer.get("choices") or [{}])[0]
        text = (choice.get(part) or {}).get("content") or ""
        return Piece(text, choice.get("finish_reason"), answer.get("usage") or {}, answer.get("model") or "")
    except (AttributeError, LookupError, TypeError) as error:
        raise ChatError("what came back is no answer of an inference server") from error


def _message(body: bytes) -> str:
    """The sentence in the body of a refusal: OpenAI's, Kubernetes', FastAPI's, or the text itself."""
    try:
        answer = msgspec.json.decode(body)
    except msgspec.DecodeError:
        return " ".join(body.decode(errors="replace").split())[:_SHOWN] or "no reason was given"
    if not isinstance(answer, dict):
        return str(answer)[:_SHOWN]
    error = answer.get("error")
    said = error.get("message") if isinstance(error, dict) else error
    return " ".join(str(said or answer.get("message") or answer.get("detail") or answer).split())


def _is_of_api_server(body: bytes) -> bool:
    """Whether the API server refuses, and not the server that it was to pass the question on to."""
    try:
        answer = msgspec.json.decode(body)
    except msgspec.DecodeError:
        return False
    return isinstance(answer, dict) and answer.get("kind") == "Status"


def _create_raw(path: str) -> str:
    return f"kubectl create --raw {path}/v1/completions -f -"


def _giving(key: ObjectKey, said: str) -> str:
    verbs, service = ("get", "create"), f"{key.name}:{PORT}"
    commands = giving_commands(
        f"kaito-chat-{key.name}", refused_user(said), key.namespace, verbs, ("services/proxy",), only=service
    )
    return "\n  ".join(["An administrator gives it with", *commands])


def _server_hint(status: int, said: str, completions: str) -> str:
    words = said.lower()
    if status == 400 and "chat template" in words:
        return (
            f'it can only go on with a text, which kaito chat cannot ask for; {completions} can, with {{"prompt": …}}'
        )
    if status == 400 and ("context" in words or "max_tokens" in words or "max_model_len" in words):
        return "/clear forgets the conversation, /set max_tokens N (--max-tokens N) asks for a shorter answer"
    if status == 401:
        return (
            "put the API key into $KAITO_API_KEY, and give the server's address with --url: the API server's proxy "
            "passes no key on"
        )
    return ""


def _unreachable(error: TransportError) -> str:
    return f"the answer broke off, or never came: {error}"
