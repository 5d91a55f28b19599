"""`POST /v1/completions`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from fastapi import APIRouter, Request, Response

from kaito.inference.http.openai import documentation
from kaito.inference.http.openai.answers import Answer, end_stream, gather, merge
from kaito.inference.http.openai.body import BodyRoute
from kaito.inference.http.openai.chunks import ChunkWriter, Identity, encode, usage
from kaito.inference.http.openai.logprobs import TokenTexts, completion_logprobs
from kaito.inference.http.openai.prepare import check_tokens, choices, find_model, generation_request, runtime_of
from kaito.inference.http.openai.requests import CompletionRequest
from kaito.inference.http.openai.responses import Completion, CompletionChoice
from kaito.inference.http.sse import DONE, EventStream
from kaito.inference.requests import GenerationRequest
from kaito.inference.runtime import Generation, Runtime

_DEFAULT_MAX_TOKENS = 16

router = APIRouter(route_class=BodyRoute, tags=["OpenAI"])


@dataclass(frozen=True, slots=True)
class _Prompt:
    tokens: tuple[int, ...]
    text: str | None
    param: str


@router.post("/v1/completions", responses=documentation.of(Completion, streams=True))
async def create_completion(request: Request, body: CompletionRequest) -> Response:
    """Continues one prompt or several."""
    runtime = runtime_of(request)
    prompts = await _prompts(body, runtime)
    requests = [each for prompt in prompts for each in choices(_asked(body, runtime, prompt), body.n)]
    prompt_tokens = sum(len(prompt.tokens) for prompt in prompts)
    identity = Identity.of_call("cmpl", runtime, body.model)
    echoes = [_echo(body, runtime, prompt) for prompt in prompts for _ in range(body.n or 1)]
    texts = None if body.logprobs is None else TokenTexts(runtime.tokenizer())
    if body.stream:
        generations = await runtime.submit(requests)
        writer = ChunkWriter("text_completion", identity, len(requests), prompt_tokens, body.stream_options)
        events = _events(generations, writer, texts, echoes)
        return EventStream(events, lambda: end_stream(request, generations, writer))
    answers = await gather(request, runtime, requests)
    content: Completion = {
        "id": identity.id,
        "object": "text_completion",
        "created": identity.created,
        "model": identity.model,
        "system_fingerprint": identity.system_fingerprint,
        "choices": _choices(answers, texts, echoes),
        "usage": usage(prompt_tokens, sum(answer.tokens for answer in answers)),
    }
    return Response(encode(content), media_type="application/json")


async def _prompts(body: CompletionRequest, runtime: Runtime) -> list[_Prompt]:
    model, tokenizer = find_model(runtime, body.model), runtime.tokenizer()
    given = body.prompt
    several: Sequence[str | Sequence[int]]
    if isinstance(given, str) or isinstance(given[0], int):
        several, params = [given], ["prompt"]
    else:
        several, params = given, [f"prompt[{index}]" for index in range(len(given))]
    prompts = []
    for each, param in zip(several, params, strict=True):
        if isinstance(each, str):
            special = body.add_special_tokens is not False
            prompts.append(_Prompt(await tokenizer.encode_async(each, add_special_tokens=special), each, param))
        else:
            check_tokens(each, model.vocab_size, param)
            prompts.append(_Prompt(tuple(each), None, param))
    return prompts


def _asked(body: CompletionRequest, runtime: Runtime, prompt: _Prompt) -> GenerationRequest:
    return generation_request(
        body,
        runtime,
        prompt.tokens,
        param=prompt.param,
        max_tokens=body.max_tokens,
        default_max_tokens=_DEFAULT_MAX_TOKENS,
        logprobs=body.logprobs,
    )


def _echo(body: CompletionRequest, runtime: Runtime, prompt: _Prompt) -> str:
    if not body.echo:
        return ""
    return runtime.tokenizer().decode(prompt.tokens) if prompt.text is None else prompt.text


def _choices(answers: Sequence[Answer], texts: TokenTexts | None, echoes: Sequence[str]) -> list[CompletionChoice]:
    return [
        {
            "index": index,
            "text": echo + answer.text,
            "logprobs": None if texts is None else completion_logprobs(texts, answer.logprobs, 0),
            "finish_reason": answer.finish_reason,
            "stop_reason": answer.stop_reason,
        }
        for index, (answer, echo) in enumerate(zip(answers, echoes, strict=True))
    ]


async def _events(
    generations: Sequence[Generation], writer: ChunkWriter, texts: TokenTexts | None, echoes: Sequence[str]
) -> AsyncGenerator[bytes, None]:
    offsets = [0] * len(generations)
    start = b"".join(writer.first(index, b'"text":%b' % encode(echo)) for index, echo in enumerate(echoes) if echo)
    if start:
        yield start
    async with aclosing(merge(generations)) as deltas:
        async for index, delta in deltas:
            if not (delta.text or delta.finish_reason is not None or delta.logprobs or writer.shows_every_delta):
                writer.skip(delta)
                continue
            logprobs = None
            if texts is not None:
                logprobs = completion_logprobs(texts, delta.logprobs, offsets[index])
                offsets[index] += sum(map(len, logprobs["tokens"]))
            yield writer.next(index, b'"text":%b' % encode(delta.text), delta, logprobs)
    yield writer.last() + DONE
