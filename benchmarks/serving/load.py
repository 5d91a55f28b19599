"""The load generator: a closed loop of clients that read streams, over `/v1/chat/completions`."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median, quantiles
from typing import Any

import aiohttp

from benchmarks.serving.workload import Ask

TIMEOUT_S = 600.0


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer as its client saw it.

    Attributes:
        sent: when the request was sent, s.
        arrivals: when each piece of text came, s.
        tokens: of the answer, as the server counts them.
    """

    sent: float
    arrivals: tuple[float, ...]
    tokens: int


@dataclass(frozen=True, slots=True)
class Figures:
    """What a load took.

    Attributes:
        tokens_per_s: of all answers, from the first request to the last token.
        ttft_p50_s, ttft_p95_s: time from sending to the first piece of text.
        itl_p50_s, itl_p95_s: time between two pieces of a stream.
        tokens: of all answers.
    """

    tokens_per_s: float
    ttft_p50_s: float
    ttft_p95_s: float
    itl_p50_s: float
    itl_p95_s: float
    tokens: int


AskOne = Callable[[Ask], Awaitable[Answer]]


async def load(ask: AskOne, asks: Sequence[Ask], concurrency: int) -> Figures:
    """So many clients share the requests; each sends its next one when it has its answer."""
    waiting = iter(asks)
    answers: list[Answer] = []

    async def client() -> None:
        for each in waiting:
            answers.append(await ask(each))

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(concurrency):
            group.create_task(client())
    return figures(answers, time.perf_counter() - began)


def figures(answers: Sequence[Answer], seconds: float) -> Figures:
    """Sums answers up."""
    first = [answer.arrivals[0] - answer.sent for answer in answers]
    gaps = [after - before for answer in answers for before, after in pairwise(answer.arrivals)]
    tokens = sum(answer.tokens for answer in answers)
    return Figures(tokens / seconds, median(first), _p95(first), median(gaps), _p95(gaps), tokens)


def over_http(session: aiohttp.ClientSession, model: str) -> AskOne:
    """Asks a server that speaks OpenAI's chat completions, with its base URL in the session."""

    async def ask(one: Ask) -> Answer:
        body = {
            "model": model,
            "messages": [{"role": "user", "content": one.text}],
            "max_tokens": one.max_tokens,
            "temperature": 0.0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        sent = time.perf_counter()
        async with session.post("/v1/chat/completions", json=body) as response:
            if response.status != 200:
                raise RuntimeError(f"{response.status}: {(await response.text())[:500]}")
            arrivals, tokens = [], 0
            async for event in _events(response.content):
                if usage := event.get("usage"):
                    tokens = usage["completion_tokens"]
                if any(choice["delta"].get("content") for choice in event.get("choices", ())):
                    arrivals.append(time.perf_counter())
        # Few tokens may be no whole character; then the end is the first that comes.
        return Answer(sent, tuple(arrivals) or (time.perf_counter(),), tokens)

    return ask


async def _events(stream: aiohttp.StreamReader) -> AsyncIterator[dict[str, Any]]:
    async for line in stream:
        if line.startswith(b"data: ") and not line.startswith(b"data: [DONE]"):
            event: dict[str, Any] = json.loads(line[6:])
            if "error" in event:
                raise RuntimeError(str(event["error"]))
            yield event


def _p95(values: Sequence[float]) -> float:
    return quantiles(values, n=20)[-1] if len(values) > 1 else values[0]
