"""The sampler of the engine: rows come and go, each with its own rules and its own source of randomness."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from kaito.inference.requests import TokenLogprob

if TYPE_CHECKING:
    from kaito.inference.engine.tokens import TokenRequest


@dataclass(frozen=True, slots=True)
class Chosen:
    """A row's next token."""

    token: int
    logprob: TokenLogprob | None = None


class Sampler:
    """Keeps what the rules of each row need: its tokens so far, its generator. Used by one thread."""

    def __init__(self, vocab_size: int, device: torch.device | str = "cpu") -> None:
        self._vocab_size = vocab_size

    def add(self, row: int, request: TokenRequest) -> None:
        """A request gets a row; whoever had it before is forgotten."""

    def remove(self, row: int) -> None:
        """A row is free."""

    def choose(self, rows: Sequence[int], logits: torch.Tensor) -> list[Chosen]:
        """The next token of some rows.

        Args:
            rows: which.
            logits: of their last positions, shape [len(rows), vocab_size], any float dtype.
        """
        return [Chosen(int(token)) for token in logits.argmax(-1)]
