"""The rarer rules of one row: which tokens get a bias, and which must not come next."""

from __future__ import annotations

import secrets
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from kaito.inference.engine.tokens import TokenRequest

_NEVER = -float("inf")


class Rules:
    """What one request's rules need to know of its tokens. Ids beside the vocabulary cannot come and do nothing."""

    def __init__(self, request: TokenRequest, vocab_size: int, device: torch.device | str) -> None:
        sampling = request.sampling
        self._vocab_size, self._device = vocab_size, device
        self._count, self._min_tokens = 0, request.min_tokens
        self._ends = self._ids(request.stop_ids) if request.min_tokens else None
        self._bias = {token: bias for token, bias in sampling.logit_bias.items() if 0 <= token < vocab_size}
        self._bias_ids, self._biases = self._ids(self._bias), torch.tensor(list(self._bias.values())).to(device)
        self._others: torch.Tensor | None = None
        if sampling.allowed_token_ids is not None:
            self._others = torch.ones(vocab_size, dtype=torch.bool, device=device)
            self._others[self._ids(sampling.allowed_token_ids)] = False
        self._tokens: list[int] = []
        self._never = self._ids({run[0] for run in sampling.bad_words_ids if len(run) == 1})
        # By the token before the last: in most steps none of them has to be looked at.
        self._bad_words: defaultdict[int, list[tuple[int, ...]]] = defaultdict(list)
        for run in sampling.bad_words_ids:
            if len(run) > 1:
                self._bad_words[run[-2]].append(run)
        self._runs = _Runs(sampling.no_repeat_ngram_size) if sampling.no_repeat_ngram_size else None
        self._needs_tokens = bool(self._runs or self._bad_words)
        if self._needs_tokens:
            for token in request.prompt:
                self._append(token)

    @classmethod
    def of(cls, request: TokenRequest, vocab_size: int, device: torch.device | str) -> Rules | None:
        """Those of a request; none if it has none of them."""
        sampling = request.sampling
        runs = sampling.no_repeat_ngram_size or sampling.bad_words_ids
        sets = sampling.logit_bias or sampling.allowed_token_ids is not None
        early = request.min_tokens and request.stop_ids
        return cls(request, vocab_size, device) if runs or sets or early else None

    def push(self, token: int) -> None:
        """A token came."""
        self._count += 1
        if self._needs_tokens:
            self._append(token)

    def bias(self, scores: torch.Tensor) -> None:
        """Adds biases in place; before penalties."""
        if self._bias:
            scores.index_add_(0, self._bias_ids, self._biases)

    def forbid(self, scores: torch.Tensor) -> None:
        """Takes out in place what must not come; after penalties."""
        if self._ends is not None and self._count < self._min_tokens:
            scores.index_fill_(0, self._ends, _NEVER)
        if self._others is not None:
            scores.masked_fill_(self._others, _NEVER)
        if len(self._never):
            scores.index_fill_(0, self._never, _NEVER)
        if self._needs_tokens and (banned := self._ending_a_run()):
            scores.index_fill_(0, self._ids(banned), _NEVER)

    def _append(self, token: int) -> None:
        self._tokens.append(token)
        if self._runs is not None:
            self._runs.append(self._tokens)

    def _ending_a_run(self) -> set[int]:
        tokens = self._tokens
        near = self._bad_words.get(tokens[-1], ())
        banned = {run[-1] for run in near if _ends_with(tokens, run[:-1])}
        return banned if self._runs is None else banned | self._runs.after_last()

    def _ids(self, tokens: Sequence[int] | frozenset[int] | set[int] | dict[int, float]) -> torch.Tensor:
        known = [token for token in tokens if 0 <= token < self._vocab_size]
        return torch.tensor(known, dtype=torch.int64).to(self._device, non_blocking=True)


class _Runs:
    """Which tokens came after each run of `size - 1` tokens.

    A run is known by its fingerprint, so that neither time nor memory depend on its length: by clients' wish that may
    be as long as a prompt. It is a polynomial of the tokens at a secret place, in a prime field so large that no two
    runs of a prompt have the same one by chance.
    """

    _MODULUS = 2**127 - 1

    def __init__(self, size: int) -> None:
        self._length = size - 1
        self._base = secrets.randbelow(self._MODULUS - 2**32) + 2**32
        self._leaving = pow(self._base, self._length, self._MODULUS)
        self._last = 0
        self._followers: dict[int, set[int]] = {}

    def append(self, tokens: Sequence[int]) -> None:
        """Takes the last of the tokens in."""
        length, before = self._length, len(tokens) - 1
        if before >= length:
            self._followers.setdefault(self._last, set()).add(tokens[-1])
        gone = (tokens[before - length] + 1) * self._leaving if before >= length else 0
        self._last = (self._last * self._base + tokens[-1] + 1 - gone) % self._MODULUS

    def after_last(self) -> set[int]:
        """What came after the run that the tokens end with."""
        return self._followers.get(self._last, set())


def _ends_with(tokens: Sequence[int], run: tuple[int, ...]) -> bool:
    return len(tokens) >= len(run) and tuple(tokens[-len(run) :]) == run
