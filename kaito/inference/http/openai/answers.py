"""Runs the requests of one call: gathers their answers, or passes them on as they come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field

from fastapi import Request

from kaito.inference.http.openai.chunks import ChunkWriter
from kaito.inference.http.sse import until_gone
from kaito.inference.requests import Delta, FinishReason, GenerationRequest, TokenLogprob
from kaito.inference.runtime import Generation, Runtime


@dataclass(slots=True)
class Answer:
    """What came of one request.

    Attributes:
        text: all of it.
        tokens: how many, that which ended it included.
        logprobs: one for each, if asked for.
        finish_reason: why it ended.
        stop_reason: the stop string or token that ended it.
    """

    text: str = ""
    tokens: int = 0
    logprobs: list[TokenLogprob] = field(default_factory=list)
    finish_reason: FinishReason | None = None
    stop_reason: str | int | None = None


async def gather(request: Request, runtime: Runtime, requests: Sequence[GenerationRequest]) -> list[Answer]:
    """Answers of requests that run together.

    Args:
        request: the call; when its client goes, all are cancelled.
        runtime: on which they run.
        requests: all of the call.

    Raises:
        ClientGone: The client has gone.
        RequestError: One of them, or all, were refused or failed; the others are cancelled.
    """
    generations = await runtime.submit(requests)

    async def work() -> list[Answer]:
        return await asyncio.gather(*map(_collect, generations))

    try:
        answers = await until_gone(request.receive, work())
    finally:
        await _close(generations)
    prompt_tokens = sum(len(each.prompt) for each in requests)
    request.state.tokens = (prompt_tokens, sum(answer.tokens for answer in answers))
    return answers


async def merge(generations: Sequence[Generation]) -> AsyncGenerator[tuple[int, Delta], None]:
    """Deltas of several as they come, each with the place of its generation."""
    if len(generations) == 1:
        async for delta in generations[0]:
            yield 0, delta
        return
    deltas: asyncio.Queue[tuple[int, Delta | Exception | None]] = asyncio.Queue()
    tasks = [asyncio.create_task(_pass_on(index, each, deltas)) for index, each in enumerate(generations)]
    try:
        running = len(tasks)
        while running:
            index, came = await deltas.get()
            if isinstance(came, Exception):
                raise came
            if came is None:
                running -= 1
            else:
                yield index, came
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def end_stream(request: Request, generations: Sequence[Generation], writer: ChunkWriter) -> None:
    """Cancels those that still run, and leaves the number of tokens for the log."""
    request.state.tokens = (writer.prompt_tokens, writer.tokens)
    await _close(generations)


async def _close(generations: Sequence[Generation]) -> None:
    for each in generations:
        await each.aclose()


async def _collect(generation: Generation) -> Answer:
    answer, texts = Answer(), []
    async for delta in generation:
        texts.append(delta.text)
        answer.tokens += len(delta.tokens)
        answer.logprobs.extend(delta.logprobs)
        answer.finish_reason, answer.stop_reason = delta.finish_reason, delta.stop_reason
    answer.text = "".join(texts)
    return answer


async def _pass_on(
    index: int, generation: Generation, deltas: asyncio.Queue[tuple[int, Delta | Exception | None]]
) -> None:
    try:
        async for delta in generation:
            deltas.put_nowait((index, delta))
    except Exception as error:
        deltas.put_nowait((index, error))
    else:
        deltas.put_nowait((index, None))
