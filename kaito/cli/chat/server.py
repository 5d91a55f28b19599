"""ChatServer: an inference server, asked directly or through the API server's proxy; its errors in one line each."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from kaito.cli.chat.events import DONE, events
from kaito.client.client import Client
from kaito.client.errors import TransportError
from kaito.client.transport import Request, ResponseStream

SILENCE_S = 600.0
"""A long prompt is read for minutes before the first word of the answer."""
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
        path: what stands before ``/v1`` in its paths.
        headers: sent with each request.
    """

    def __init__(self, client: Client, path: str = "", headers: Mapping[str, str] | None = None) -> None:
        self._client = client
        self._path = path
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
        return Request(method, self._path + path, verb, body=body, headers=headers, timeout_s=SILENCE_S)

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
        hint = _hint(status, said, f"{self._path}/v1/completions", through_proxy=bool(self._path))
        return f"{status}: {said}" + (f"; {hint}" if hint else "")


async def _body(stream: ResponseStream) -> bytes:
    return b"".join([chunk async for chunk in stream.chunks()])


async def _pieces(stream: ResponseStream) -> AsyncIterator[Piece]:
    async for data in events(stream.chunks()):
        if data == DONE:
            return
        try:
            chunk = msgspec.json.decode(data)
        except msgspec.DecodeError as error:
            raise ChatError(f"what came in the middle of the answer is no part of one: {error}") from error
        if isinstance(chunk, dict) and chunk.get("error"):
            raise ChatError(f"the server broke the answer off: {_message(data.encode())}")
        yield _piece(chunk, "delta")
    raise ChatError("the answer broke off: the connection ended in the middle; the server may have been stopped")


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


def _hint(status: int, said: str, completions: str, *, through_proxy: bool) -> str:
    words = said.lower()
    if status == 400 and "chat template" in words:
        ask = f"kubectl create --raw {completions} -f -" if through_proxy else f"POST {completions}"
        return f'it can only go on with a text, which kaito chat cannot ask for; {ask} can, with {{"prompt": …}}'
    if status == 400 and ("context" in words or "max_tokens" in words or "max_model_len" in words):
        return "/clear forgets the conversation, /set max_tokens N (--max-tokens N) asks for a shorter answer"
    if status == 401:
        return "with --url, put the API key into $KAITO_API_KEY; the API server's proxy cannot pass one on"
    if status == 403 and through_proxy:
        return "you need the right to get and create services/proxy in that namespace"
    if status in (502, 503, 504) and through_proxy:
        return "no pod serves just now; kaito explain workspace NAME tells why"
    return ""


def _unreachable(error: TransportError) -> str:
    return f"the answer broke off, or never came: {error}"
