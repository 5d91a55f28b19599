"""What a runtime is asked for, and what it answers, whatever protocol the client spoke."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

FinishReason = Literal["stop", "length", "abort"]


def _nothing() -> Mapping[int, float]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is chosen. The defaults change nothing: each token is drawn from the model's distribution.

    Attributes:
        temperature: 0 chooses the likeliest token always; else logits are divided by it.
        top_k: only the so many likeliest tokens; 0: all.
        top_p: only the likeliest tokens whose probabilities add up to it; 1: all.
        min_p: only tokens at least so likely as this times the likeliest one; 0: all.
        typical_p: locally typical sampling, as transformers does it; 1: off.
        repetition_penalty: divides (multiplies, where negative) logits of tokens seen in prompt or answer; 1: off.
        presence_penalty: taken off the logits of tokens in the answer so far, -2 to 2.
        frequency_penalty: the same for each time that a token is in it, -2 to 2.
        no_repeat_ngram_size: no run of so many tokens twice, in prompt and answer together; 0: off.
        logit_bias: added to the logits, by token id.
        allowed_token_ids: no token but these; none: all.
        bad_words_ids: runs of tokens that must not come.
        seed: makes this request's draws the same each time, whatever runs beside it; none: drawn from the system.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    typical_p: float = 1.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    no_repeat_ngram_size: int = 0
    logit_bias: Mapping[int, float] = field(default_factory=_nothing)
    allowed_token_ids: tuple[int, ...] | None = None
    bad_words_ids: tuple[tuple[int, ...], ...] = ()
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One sequence to continue.

    Attributes:
        prompt: token ids, at least one.
        max_tokens: at most so many new ones, at least 1; with the prompt within the model's context.
        min_tokens: neither an end token nor a stop string ends it before.
        sampling: how tokens are chosen.
        stop: strings that end it; the text ends before the first of them.
        stop_token_ids: tokens that end it, beside the model's own end tokens.
        include_stop: whether the text contains the stop string that ended it.
        ignore_eos: whether the model's own end tokens count as any other.
        skip_special_tokens: whether special tokens are left out of the text.
        logprobs: for each token its log probability and those of so many likeliest ones; none: no log probabilities.
        adapters: strength by adapter name; empty: the base model alone.
    """

    prompt: tuple[int, ...]
    max_tokens: int
    min_tokens: int = 0
    sampling: Sampling = field(default_factory=Sampling)
    stop: tuple[str, ...] = ()
    stop_token_ids: frozenset[int] = frozenset()
    include_stop: bool = False
    ignore_eos: bool = False
    skip_special_tokens: bool = True
    logprobs: int | None = None
    adapters: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token that was chosen, with its log probability in the model's own distribution (before penalties and cuts).

    Attributes:
        token: its id.
        logprob: natural logarithm.
        top: the likeliest tokens, likeliest first, as (id, logprob).
    """

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Delta:
    """What came since the last one; the texts of all are the answer.

    Attributes:
        text: whole characters only; may be empty while a character or a stop string is incomplete.
        tokens: ids that came, those of an end included.
        logprobs: one for each token, if asked for.
        finish_reason: set in the last one: ``stop`` (end token, stop string), ``length`` (max_tokens),
            ``abort`` (the server stops, or the request was cancelled).
        stop_reason: in the last one, the stop string or stop token id that ended it; none for the model's end tokens.
    """

    text: str = ""
    tokens: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()
    finish_reason: FinishReason | None = None
    stop_reason: str | int | None = None
