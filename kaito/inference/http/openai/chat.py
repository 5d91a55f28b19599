"""`POST /v1/chat/completions`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from fastapi import APIRouter, Request, Response

from kaito.inference.http.openai import documentation
from kaito.inference.http.openai.answers import Answer, end_stream, gather, merge
from kaito.inference.http.openai.body import BodyRoute
from kaito.inference.http.openai.chunks import ChunkWriter, Identity, encode, usage
from kaito.inference.http.openai.logprobs import TokenTexts, chat_logprobs
from kaito.inference.http.openai.prepare import choices, generation_request, rendered, runtime_of
from kaito.inference.http.openai.requests import ChatCompletionRequest
from kaito.inference.http.openai.responses import ChatChoice, ChatCompletion
from kaito.inference.http.sse import DONE, EventStream
from kaito.inference.requests import GenerationRequest
from kaito.inference.runtime import Generation, Runtime

router = APIRouter(route_class=BodyRoute, tags=["OpenAI"])


@router.post("/v1/chat/completions", responses=documentation.of(ChatCompletion, streams=True))
async def create_chat_completion(request: Request, body: ChatCompletionRequest) -> Response:
    """Answers a conversation."""
    runtime = runtime_of(request)
    asked = await _asked(body, runtime)
    requests = choices(asked, body.n)
    identity = Identity.of_call("chatcmpl", runtime, body.model)
    # What the answer continues, if it is the assistant's own message and the client wants to see all of it.
    echo = body.messages[-1].text if body.echo and body.messages[-1].role == "assistant" else ""
    texts = TokenTexts(runtime.tokenizer())
    if body.stream:
        generations = await runtime.submit(requests)
        writer = ChunkWriter("chat.completion.chunk", identity, len(requests), len(asked.prompt), body.stream_options)
        events = _events(generations, writer, texts if body.logprobs else None, echo)
        return EventStream(events, lambda: end_stream(request, generations, writer))
    answers = await gather(request, runtime, requests)
    content: ChatCompletion = {
        "id": identity.id,
        "object": "chat.completion",
        "created": identity.created,
        "model": identity.model,
        "system_fingerprint": identity.system_fingerprint,
        "choices": _choices(answers, texts if body.logprobs else None, echo),
        "usage": usage(len(asked.prompt), sum(answer.tokens for answer in answers)),
    }
    return Response(encode(content), media_type="application/json")


async def _asked(body: ChatCompletionRequest, runtime: Runtime) -> GenerationRequest:
    tokenizer = runtime.tokenizer()
    text = tokenizer.render(
        rendered(body.messages),
        add_generation_prompt=body.add_generation_prompt is not False,
        continue_final_message=bool(body.continue_final_message),
        template_kwargs=body.chat_template_kwargs,
    )
    return generation_request(
        body,
        runtime,
        await tokenizer.encode_async(text, add_special_tokens=bool(body.add_special_tokens)),
        param="messages",
        max_tokens=body.max_completion_tokens or body.max_tokens,
        default_max_tokens=None,
        logprobs=(body.top_logprobs or 0) if body.logprobs else None,
    )


def _choices(answers: Sequence[Answer], texts: TokenTexts | None, echo: str) -> list[ChatChoice]:
    return [
        {
            "index": index,
            "message": {"role": "assistant", "content": echo + answer.text, "refusal": None},
            "logprobs": None if texts is None else chat_logprobs(texts, answer.logprobs),
            "finish_reason": answer.finish_reason,
            "stop_reason": answer.stop_reason,
        }
        for index, answer in enumerate(answers)
    ]


async def _events(
    generations: Sequence[Generation], writer: ChunkWriter, texts: TokenTexts | None, echo: str
) -> AsyncGenerator[bytes, None]:
    start = b'"delta":{"role":"assistant","content":%b}' % encode(echo)
    yield b"".join(writer.first(index, start) for index in range(len(generations)))
    async with aclosing(merge(generations)) as deltas:
        async for index, delta in deltas:
            if delta.text:
                body = b'"delta":{"content":%b}' % encode(delta.text)
            elif delta.finish_reason is not None or delta.logprobs or writer.shows_every_delta:
                body = b'"delta":{}'
            else:
                writer.skip(delta)
                continue
            logprobs = None if texts is None else chat_logprobs(texts, delta.logprobs)
            yield writer.next(index, body, delta, logprobs)
    yield writer.last() + DONE
