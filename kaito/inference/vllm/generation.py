"""Our requests as vLLM's `/v1/completions` takes them, and its stream as our deltas."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import aiohttp

from kaito.inference.errors import BadRequest, RequestError, Unavailable
from kaito.inference.requests import Delta, FinishReason, GenerationRequest, TokenLogprob
from kaito.inference.vllm.admission import Aborted, Admitted
from kaito.inference.vllm.upstream import gone

_REASONS: Mapping[str, FinishReason] = {"stop": "stop", "length": "length", "abort": "abort"}
_ELSEWHERE = "the runtime vllm does not do it; leave it out, or serve with --runtime transformers"


def body(request: GenerationRequest, model: str) -> dict[str, Any]:
    """A request for `/v1/completions`.

    Args:
        request: what is asked for.
        model: vLLM's name of the base model, or of an adapter's module.

    Raises:
        BadRequest: It asks for what vLLM does not do.
    """
    sampling = request.sampling
    for name, given, off in (
        ("typical_p", sampling.typical_p, 1.0),
        ("no_repeat_ngram_size", sampling.no_repeat_ngram_size, 0),
        ("bad_words_ids", sampling.bad_words_ids, ()),
    ):
        if given != off:
            raise BadRequest(f"{name}: {_ELSEWHERE}", param=name)
    return {
        "model": model,
        "prompt": list(request.prompt),
        "stream": True,
        "return_token_ids": True,
        "return_tokens_as_token_ids": True,
        "max_tokens": request.max_tokens,
        "min_tokens": request.min_tokens,
        # Each is told, since what is left out is taken from the model's generation_config.json.
        "temperature": sampling.temperature,
        "top_k": sampling.top_k,
        "top_p": sampling.top_p,
        "min_p": sampling.min_p,
        "repetition_penalty": sampling.repetition_penalty,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "stop": list(request.stop),
        "stop_token_ids": sorted(request.stop_token_ids),
        "include_stop_str_in_output": request.include_stop,
        "ignore_eos": request.ignore_eos,
        "skip_special_tokens": request.skip_special_tokens,
        **_if_set("seed", sampling.seed),
        **_if_set("logprobs", request.logprobs),
        **_if_set("logit_bias", {str(token): bias for token, bias in sampling.logit_bias.items()} or None),
        **_if_set("allowed_token_ids", sampling.allowed_token_ids),
    }


class VllmGeneration:
    """A `kaito.inference.runtime.Generation` over vLLM's stream of server-sent events."""

    def __init__(self, response: aiohttp.ClientResponse, admitted: Admitted, logprobs: int | None) -> None:
        self._response, self._admitted, self._logprobs = response, admitted, logprobs
        self._buffer = b""
        self._ended = False

    def __aiter__(self) -> AsyncIterator[Delta]:
        return self

    async def __anext__(self) -> Delta:
        if self._ended:
            raise StopAsyncIteration
        try:
            delta = await self._next()
        except Aborted:
            delta = Delta(finish_reason="abort")
        except BaseException:
            # A cancelled reader reads no more.
            await self.aclose()
            raise
        if delta.finish_reason is not None:
            await self.aclose()
        return delta

    async def aclose(self) -> None:
        """Closes the connection, at which vLLM ends the request."""
        self._ended = True
        self._response.close()
        self._admitted.leave()

    async def _next(self) -> Delta:
        while True:
            event = json.loads(await self._event())
            if "error" in event:
                raise RequestError(f"vLLM failed: {event['error'].get('message', event['error'])}")
            if event["choices"]:
                return _delta(event["choices"][0], self._logprobs)

    async def _event(self) -> bytes:
        """The data of the next event."""
        while True:
            head, found, rest = self._buffer.partition(b"\n\n")
            if not found:
                await self._read()
                continue
            self._buffer = rest
            # Lines with a colon first keep the connection alive.
            if head.startswith(b"data:"):
                data = head.removeprefix(b"data:").strip()
                if data == b"[DONE]":
                    raise Unavailable("vLLM ended the answer without a reason")
                return data

    async def _read(self) -> None:
        async with self._admitted.timed():
            try:
                chunk = await self._response.content.readany()
            except aiohttp.ClientError as error:
                raise gone() from error
        if not chunk:
            raise gone()
        self._buffer += chunk


def _delta(choice: Mapping[str, Any], logprobs: int | None) -> Delta:
    reason = choice.get("finish_reason")
    return Delta(
        text=choice["text"],
        tokens=tuple(choice.get("token_ids") or ()),
        logprobs=() if logprobs is None else _logprobs(choice["logprobs"], logprobs),
        finish_reason=None if reason is None else _REASONS.get(reason, "stop"),
        stop_reason=choice.get("stop_reason"),
    )


def _logprobs(logprobs: Mapping[str, Sequence[Any]], count: int) -> tuple[TokenLogprob, ...]:
    rows = zip(logprobs["tokens"], logprobs["token_logprobs"], logprobs["top_logprobs"], strict=True)
    return tuple(TokenLogprob(_token(token), value, _top(top or {})[:count]) for token, value, top in rows)


def _top(top: Mapping[str, float]) -> tuple[tuple[int, float], ...]:
    """Likeliest first; the chosen token is among them in any case, maybe as one too many."""
    return tuple(sorted(((_token(token), value) for token, value in top.items()), key=lambda pair: -pair[1]))


def _token(text: str) -> int:
    """vLLM writes tokens as ``token_id:17`` when asked for ids."""
    return int(text.removeprefix("token_id:"))


def _if_set(name: str, value: Any) -> dict[str, Any]:
    return {} if value is None else {name: value}
