"""The rarer rules of one row: which tokens get a bias, and which must not come next."""

from __future__ import annotations

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
        self._bad_words = [run for run in sampling.bad_words_ids if run]
        self._size = sampling.no_repeat_ngram_size
        self._runs: defaultdict[tuple[int, ...], set[int]] = defaultdict(set)
        self._needs_tokens = bool(self._size or self._bad_words)
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
        if self._needs_tokens and (banned := self._ending_a_run()):
            scores.index_fill_(0, self._ids(banned), _NEVER)

    def _append(self, token: int) -> None:
        self._tokens.append(token)
        if self._size and len(self._tokens) >= self._size:
            *run, last = self._tokens[-self._size :]
            self._runs[tuple(run)].add(last)

    def _ending_a_run(self) -> set[int]:
        tokens, size = self._tokens, self._size
        banned = {run[-1] for run in self._bad_words if len(run) == 1 or _ends_with(tokens, run[:-1])}
        if size and len(tokens) >= size:
            banned.update(self._runs.get(tuple(tokens[len(tokens) + 1 - size :]), set()))
        return banned

    def _ids(self, tokens: Sequence[int] | frozenset[int] | set[int] | dict[int, float]) -> torch.Tensor:
        known = [token for token in tokens if 0 <= token < self._vocab_size]
        return torch.tensor(known, dtype=torch.int64).to(self._device, non_blocking=True)


def _ends_with(tokens: Sequence[int], run: tuple[int, ...]) -> bool:
    return len(tokens) >= len(run) and tuple(tokens[-len(run) :]) == run
