"""What goes into the engine and what comes out of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kaito.inference.requests import FinishReason, Sampling, TokenLogprob


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """A sequence to continue.

    Attributes:
        prompt: token ids, at least one.
        max_tokens: at most so many new ones.
        min_tokens: no stop token before.
        stop_ids: tokens that end it.
        sampling: how tokens are chosen.
        logprobs: as in `GenerationRequest`.
        adapters: strength by adapter name; empty: the base model alone.
    """

    prompt: tuple[int, ...]
    max_tokens: int
    min_tokens: int
    stop_ids: frozenset[int]
    sampling: Sampling
    logprobs: int | None
    adapters: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Update:
    """What one step brought for one request.

    Attributes:
        tokens: new ones, the stop token included.
        logprobs: one for each, if asked for.
        finish_reason: set in the last update.
        error: what ended it, if the engine failed.
    """

    tokens: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()
    finish_reason: FinishReason | None = None
    error: Exception | None = None

    def followed_by(self, later: Update) -> Update:
        """Both as one; this one is not the last."""
        return Update(self.tokens + later.tokens, self.logprobs + later.logprobs, later.finish_reason, later.error)
