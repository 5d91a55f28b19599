"""Penalties for tokens that came before, of many rows at once, touching those tokens only."""

from __future__ import annotations

from collections import Counter

import torch

from kaito.inference.requests import Sampling

_FIRST_WIDTH = 128


class Penalties:
    """The tokens of each row and how often they came, on the device; used by one thread.

    A row's tokens are listed once each, filled up with `vocab_size`: a column beside the vocabulary that takes what is
    written for nothing.
    """

    def __init__(self, vocab_size: int, device: torch.device | str) -> None:
        self._vocab_size = vocab_size
        self._device = device
        self._ids = torch.full((0, _FIRST_WIDTH), vocab_size, dtype=torch.int64, device=device)
        self._counts = torch.zeros((0, _FIRST_WIDTH), device=device)
        self._columns: dict[int, dict[int, int]] = {}
        self._came: dict[int, Counter[int]] = {}
        self._news: list[tuple[int, int]] = []

    def add(self, row: int, prompt: tuple[int, ...], sampling: Sampling) -> None:
        """A row begins; one whose sampling has no penalties costs nothing."""
        self.remove(row)
        if not has_penalties(sampling):
            return
        # The prompt counts for the repetition penalty only.
        seen = sorted(set(prompt)) if sampling.repetition_penalty != 1 else []
        seen = [token for token in seen if token < self._vocab_size]
        self._columns[row] = {token: column for column, token in enumerate(seen)}
        self._came[row] = Counter()
        self._reserve(row + 1, len(seen))
        self._ids[row, : len(seen)] = torch.tensor(seen, dtype=torch.int64).to(self._device)

    def remove(self, row: int) -> None:
        """A row is free."""
        if self._columns.pop(row, None) is not None:
            del self._came[row]
            self._news = [(other, token) for other, token in self._news if other != row]
            self._ids[row], self._counts[row] = self._vocab_size, 0

    def push(self, row: int, token: int) -> None:
        """A token came."""
        if row in self._columns:
            self._news.append((row, token))

    def apply(self, scores: torch.Tensor, rows: torch.Tensor, last_row: int, factors: torch.Tensor) -> None:
        """Changes scores in place.

        Args:
            scores: float32, shape [len(rows), vocab_size + 1], whose last column is not looked at.
            rows: which.
            last_row: the highest of them.
            factors: of repetition, presence and frequency, shape [3, len(rows), 1].
        """
        self._write(last_row)
        width = max(map(len, self._columns.values()), default=0)
        ids, counts = self._ids[rows, :width], self._counts[rows, :width]
        repetition, presence, frequency = factors
        values = scores.gather(1, ids)
        values = torch.where(values < 0, values * repetition, values / repetition)
        values -= frequency * counts + presence * (counts > 0)
        scores.scatter_(1, ids, values)

    def _write(self, last_row: int) -> None:
        """Writes what came since the last step, in one transfer."""
        changed: dict[tuple[int, int], tuple[int, int]] = {}
        for row, token in self._news:
            columns, came = self._columns[row], self._came[row]
            came[token] += 1
            column = columns.setdefault(token, len(columns))
            changed[row, column] = token, came[token]
        self._news.clear()
        self._reserve(last_row + 1, max(map(len, self._columns.values()), default=0))
        if changed:
            cells = [[row, column, token, count] for (row, column), (token, count) in changed.items()]
            row, column, token, count = torch.tensor(cells).T.contiguous().to(self._device, non_blocking=True)
            self._ids[row, column] = token
            self._counts[row, column] = count.float()

    def _reserve(self, rows: int, width: int) -> None:
        old_rows, old_width = self._ids.shape
        if rows <= old_rows and width <= old_width:
            return
        rows = max(rows, old_rows)
        while old_width < width:
            old_width *= 2
        shape = (rows, old_width)
        ids, counts = self._ids, self._counts
        self._ids = torch.full(shape, self._vocab_size, dtype=torch.int64, device=self._device)
        self._counts = torch.zeros(shape, device=self._device)
        self._ids[: ids.shape[0], : ids.shape[1]] = ids
        self._counts[: ids.shape[0], : ids.shape[1]] = counts


def has_penalties(sampling: Sampling) -> bool:
    """Whether any penalty does something."""
    return sampling.repetition_penalty != 1 or sampling.presence_penalty != 0 or sampling.frequency_penalty != 0
