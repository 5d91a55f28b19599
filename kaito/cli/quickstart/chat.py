"""POST /chat to the address that was printed, as a user would, with the answer shown as it comes."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import aiohttp

from kaito.cli.quickstart.errors import QuickstartError
from kaito.cli.quickstart.screen import Screen

QUESTION = "What is Kubernetes?"
MAX_NEW_TOKENS = 48
REFUSED_FOR_S = 30.0
"""How long a server that was ready may be away: one that was killed comes back."""
_RETRY_S = 0.25
_BUSY = frozenset({502, 503})
_DONE = "[DONE]"
_GENERATED = "vllm:generation_tokens_total"
_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=300)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back.

    Attributes:
        text: the answer.
        first_s: seconds to its first piece.
        seconds: until it was complete.
        tokens: how many the server generated for it; 0: it did not tell.
    """

    text: str
    first_s: float
    seconds: float
    tokens: int

    @property
    def tokens_per_s(self) -> float:
        """Tokens by second, the time before the first included."""
        return round(self.tokens / self.seconds, 1) if self.seconds else 0.0


def curl(address: str, question: str = QUESTION) -> str:
    """The same as a line for a shell."""
    body = json.dumps({"prompt": question})
    return f"curl -X POST {address}/chat -H 'Content-Type: application/json' -d '{body}'"


async def ask(address: str, question: str = QUESTION, show: Callable[[str], None] = lambda _: None) -> Answer:
    """Asks, always for the likeliest token, so that the same question has the same answer.

    Args:
        address: of the Service, as URL.
        question: the user's turn.
        show: takes each piece of the answer as it comes.

    Raises:
        QuickstartError: there is no answer.
    """
    deadline = time.monotonic() + REFUSED_FOR_S
    async with aiohttp.ClientSession(timeout=_TIMEOUT) as session:
        while True:
            try:
                return await _ask(session, address, question, show)
            except (_Busy, aiohttp.ClientConnectionError) as error:
                if time.monotonic() > deadline:
                    raise QuickstartError(f"POST {address}/chat: no answer for {REFUSED_FOR_S:g} s: {error}") from error
            except (aiohttp.ClientError, TimeoutError) as error:
                raise QuickstartError(f"POST {address}/chat: {type(error).__name__}: {error}") from error
            await asyncio.sleep(_RETRY_S)  # it is coming back, and nobody tells when


async def show_answer(screen: Screen, address: str, phase: str) -> Answer:
    """Asks the quickstart's question; shows question, answer, and how long it took.

    Raises:
        QuickstartError: there is no answer.
    """
    screen.step(f"asking: {QUESTION}", f"curl -X POST {address}/chat …")
    begun = asyncio.Event()

    def show(piece: str) -> None:
        begun.set()
        screen.more(piece)

    async with screen.phase(phase, lambda: "" if begun.is_set() else "waits for the first word"):
        answer = await ask(address, show=show)
    screen.more("\n")
    speed = f"{answer.tokens} tokens, {answer.tokens_per_s:g} a second; " if answer.tokens else ""
    screen.plain(f"    ({speed}the first after {answer.first_s:.2f} s, all after {answer.seconds:.2f} s)")
    return answer


class _Busy(Exception):
    """The server is not there yet, or not any more."""


async def _ask(session: aiohttp.ClientSession, address: str, question: str, show: Callable[[str], None]) -> Answer:
    body = {
        "messages": [{"role": "user", "content": question}],
        "generate_kwargs": {"max_new_tokens": MAX_NEW_TOKENS, "do_sample": False},
        "stream": True,
    }
    before = await _generated(session, address)
    began = time.monotonic()
    first_s: float | None = None
    pieces: list[str] = []
    async with session.post(f"{address}/chat", json=body) as response:
        if response.status in _BUSY:
            raise _Busy(f"{response.status} {(await response.text())[:200]}")
        if response.status != 200:
            raise QuickstartError(f"POST {address}/chat: {response.status} {(await response.text())[:500]}")
        async for piece in _pieces(response):
            first_s = time.monotonic() - began if first_s is None else first_s
            pieces.append(piece)
            show(piece)
    seconds = time.monotonic() - began
    tokens = await _generated(session, address) - before
    return Answer("".join(pieces), round(first_s or seconds, 3), round(seconds, 3), tokens)


async def _pieces(response: aiohttp.ClientResponse) -> AsyncIterator[str]:
    async for line in response.content:
        text = line.decode().strip()
        if not text.startswith("data:"):
            continue
        data = text.removeprefix("data:").strip()
        if data == _DONE:
            return
        event = json.loads(data)
        if "Result" not in event:
            raise QuickstartError(f"the answer broke off: {data[:300]}")
        yield event["Result"]
    raise QuickstartError("the answer broke off: the connection ended before the answer did")


async def _generated(session: aiohttp.ClientSession, address: str) -> int:
    """How many tokens the server has generated so far."""
    async with session.get(f"{address}/metrics") as response:
        lines = (await response.text()).splitlines() if response.status == 200 else []
    return int(sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(_GENERATED)))
