"""`POST /chat`: one answer, or its pieces as server-sent events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from kaito.inference.errors import BadRequest, Unavailable
from kaito.inference.http.chat.body import ChatRequest
from kaito.inference.http.chat.keywords import (
    Lengths,
    beyond_engine,
    engine_requests,
    lengths,
    transformers_keywords,
)
from kaito.inference.http.chat.prompt import Prompt, read_prompt, strengths
from kaito.inference.http.sse import DONE, EventStream, event, until_gone
from kaito.inference.runtime import Generation, Runtime, WithTransformers

router = APIRouter(tags=["KAITO"])

_ERROR = {"content": {"application/json": {"example": {"detail": "Text generation parameter prompt required"}}}}
_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The text; or, with stream, events with a piece each and [DONE].",
        "content": {
            "application/json": {"example": {"Result": "What is KAITO? It is"}},
            "text/event-stream": {"example": 'data: {"Result": "What is"}\n\ndata: [DONE]\n\n'},
        },
    },
    400: {"description": "A field is wrong, or transformers refuses a keyword.", **_ERROR},
    404: {"description": "There is no adapter of a name.", **_ERROR},
    408: {"description": "It took longer than a request may take.", **_ERROR},
    429: {"description": "Too much waits; Retry-After says when to come again.", **_ERROR},
    503: {"description": "The model is loading, or the server stops.", **_ERROR},
}


@router.post("/chat", responses=_ANSWERS)
async def chat(request: Request, body: ChatRequest) -> Response:
    """Continues a prompt or a conversation."""
    runtime: Runtime = request.app.state.runtime
    prompt = await read_prompt(runtime, body)
    keywords, adapters = body.keywords(), strengths(runtime, body.lora)
    length = lengths(keywords, len(prompt.tokens), prompt.prefix_tokens, runtime.models()[0].max_model_len)
    if beyond := beyond_engine(keywords):
        work = _with_transformers(runtime, prompt, keywords, beyond, length, adapters)
        answers = await until_gone(request.receive, work)
    else:
        generations = await runtime.submit(engine_requests(keywords, prompt.tokens, length, adapters))
        if body.stream:
            return EventStream(_pieces(request, prompt, generations), lambda: _close(generations))
        try:
            answers = await until_gone(request.receive, _all(generations))
        finally:
            await _close(generations)
    request.state.tokens = (len(prompt.tokens), sum(map(len, answers)))
    skip = keywords.get("skip_special_tokens") is not False
    texts = [runtime.tokenizer().decode(answer, skip_special_tokens=skip) for answer in answers]
    if body.stream:
        return EventStream(_at_once(prompt, texts), lambda: _close(()))
    return JSONResponse({"Result": prompt.result(texts)})


async def _with_transformers(
    runtime: Runtime,
    prompt: Prompt,
    keywords: Mapping[str, Any],
    beyond: Sequence[str],
    length: Lengths,
    adapters: Mapping[str, float],
) -> Sequence[Sequence[int]]:
    if not isinstance(runtime, WithTransformers):
        name = f"generate_kwargs.{beyond[0]}"
        raise BadRequest(f"{name}: the runtime {runtime.name} does not have it, or not with this value", param=name)
    given = transformers_keywords(keywords, beyond, length)
    return await runtime.generate_with_transformers(prompt.tokens, given, adapters)


async def _all(generations: Sequence[Generation]) -> Sequence[Sequence[int]]:
    return await asyncio.gather(*map(_tokens, generations))


async def _tokens(generation: Generation) -> Sequence[int]:
    """All of it: decoded together they are what transformers' pipeline makes of them, stop strings included."""
    tokens: list[int] = []
    async for delta in generation:
        tokens += delta.tokens
        if delta.finish_reason == "abort":
            raise Unavailable("the server is stopping, and the answer is not complete", retry_after_s=5)
    return tokens


async def _close(generations: Sequence[Generation]) -> None:
    for generation in generations:
        await generation.aclose()


async def _pieces(request: Request, prompt: Prompt, generations: Sequence[Generation]) -> AsyncGenerator[bytes, None]:
    """Several sequences come one after the other, as they stand in one answer."""
    count = 0
    for generation in generations:
        if prompt.head:
            yield event({"Result": prompt.head})
        async for delta in generation:
            count += len(delta.tokens)
            request.state.tokens = (len(prompt.tokens), count)
            if delta.text:
                yield event({"Result": delta.text})
            if delta.finish_reason == "abort":
                raise Unavailable("the server is stopping, and the answer is not complete", retry_after_s=5)
    yield DONE


async def _at_once(prompt: Prompt, texts: Sequence[str]) -> AsyncGenerator[bytes, None]:
    for text in texts:
        yield event({"Result": prompt.head + text})
    yield DONE
