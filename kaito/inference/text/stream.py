"""Text that comes token by token: whole characters only, and nothing of a stop string."""

from __future__ import annotations

from collections.abc import Sequence

from kaito.inference.requests import Delta, FinishReason, GenerationRequest, TokenLogprob
from kaito.inference.text.detokenizer import Detokenizer
from kaito.inference.text.stops import StopStrings
from kaito.inference.text.tokenizer import ModelTokenizer


class TextStream:
    """Turns the engine's tokens of one request into deltas, the same however many tokens come at once.

    The token that ends an answer is not in its text, unless `include_stop` asks for it (and it is not a special one
    that is skipped). A stop string ends the answer with the token that completes it; tokens after that are dropped.
    """

    def __init__(
        self, tokenizer: ModelTokenizer, request: GenerationRequest, end_ids: frozenset[int] = frozenset()
    ) -> None:
        """Begins an answer.

        Args:
            tokenizer: the model's.
            request: what was asked for.
            end_ids: the model's own end tokens, which are no `stop_reason`.
        """
        self._request = request
        self._end_ids = frozenset() if request.ignore_eos else end_ids
        self._detokenizer = Detokenizer(tokenizer, skip_special_tokens=request.skip_special_tokens)
        self._stops = StopStrings(request.stop)
        self._count = 0

    def push(
        self, tokens: Sequence[int], logprobs: Sequence[TokenLogprob], finish_reason: FinishReason | None
    ) -> Delta:
        """The delta of some tokens. One with a finish reason ends it, though the engine may still go on."""
        texts: list[str] = []
        for index, token in enumerate(tokens):
            self._count += 1
            if finish_reason == "stop" and index == len(tokens) - 1 and not self._request.include_stop:
                break
            text, stop = self._let_through(self._detokenizer.push(token))
            texts.append(text)
            if stop is not None:
                return self._stopped(texts, tokens[: index + 1], logprobs[: index + 1], stop)
        if finish_reason is None:
            return Delta("".join(texts), tuple(tokens), tuple(logprobs))
        text, stop = self._let_through(self._detokenizer.flush())
        texts.append(text)
        if stop is not None:
            return self._stopped(texts, tokens, logprobs, stop)
        texts.append(self._stops.flush())
        reason = self._stop_token(tokens) if finish_reason == "stop" else None
        return Delta("".join(texts), tuple(tokens), tuple(logprobs), finish_reason, reason)

    def _let_through(self, text: str) -> tuple[str, str | None]:
        return self._stops.push(text, armed=self._count >= self._request.min_tokens)

    def _stopped(self, texts: list[str], tokens: Sequence[int], logprobs: Sequence[TokenLogprob], stop: str) -> Delta:
        if self._request.include_stop:
            texts.append(stop)
        return Delta("".join(texts), tuple(tokens), tuple(logprobs), "stop", stop)

    def _stop_token(self, tokens: Sequence[int]) -> int | None:
        last = tokens[-1] if tokens else None
        return last if last in self._request.stop_token_ids - self._end_ids else None
