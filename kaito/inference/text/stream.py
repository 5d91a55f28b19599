"""Text that comes token by token: whole characters only, and nothing of a stop string."""

from __future__ import annotations

from collections.abc import Sequence

from kaito.inference.requests import Delta, FinishReason, GenerationRequest, TokenLogprob
from kaito.inference.text.tokenizer import ModelTokenizer


class TextStream:
    """Turns the engine's tokens of one request into deltas."""

    def __init__(self, tokenizer: ModelTokenizer, request: GenerationRequest) -> None:
        self._tokenizer = tokenizer
        self._request = request

    def push(
        self, tokens: Sequence[int], logprobs: Sequence[TokenLogprob], finish_reason: FinishReason | None
    ) -> Delta:
        """The delta of some tokens. One with a finish reason ends it, though the engine may still go on."""
        text = self._tokenizer.decode(tokens, skip_special_tokens=self._request.skip_special_tokens)
        return Delta(text, tuple(tokens), tuple(logprobs), finish_reason)
