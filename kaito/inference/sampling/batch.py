"""How a batch of rows is worked on: made when rows come or go, used in each step until then."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from kaito.inference.requests import Sampling
from kaito.inference.sampling.cuts import WIDTHS, Cuts
from kaito.inference.sampling.penalties import has_penalties
from kaito.inference.sampling.rules import Rules

# How many of the likeliest tokens are looked at for top_p, where it is the first cut; a row that keeps more gets the
# next one, and after that all.
_NUCLEUS_WIDTHS = (WIDTHS[0], WIDTHS[1])
_LIKELIEST = ("likeliest", None)


@dataclass(slots=True)
class Row:
    """One request.

    Attributes:
        sampling: its rules.
        logprobs: as in `TokenRequest`.
        numbers: what it draws with.
        rules: the rarer ones; none if it has none.
        number: drawn for the next token; none: not yet.
        misses: steps in which what it kept was not all among the likeliest that were looked at.
    """

    sampling: Sampling
    logprobs: int | None
    numbers: random.Random
    rules: Rules | None
    number: float | None = None
    misses: int = 0

    def next_number(self) -> float:
        """Above 0, at most 1; the same again until a token was chosen, or a step that fails would cost a seed one."""
        if not self.sampling.temperature:
            return 1.0
        if self.number is None:
            self.number = 1 - self.numbers.random()
        return self.number


@dataclass(frozen=True, slots=True)
class Group:
    """Rows that are drawn for together.

    Attributes:
        positions: in the batch.
        index: the same on the device; none if they are all rows of the batch, in order.
        cuts: their rules.
        width: how many of the likeliest tokens are looked at; none: all.
    """

    positions: tuple[int, ...]
    index: torch.Tensor | None
    cuts: Cuts
    width: int | None


class Batch:
    """The rows of a step, sorted by what has to be done for them.

    Attributes:
        rows: of the engine, in the order of the logits.
        states: the same rows' requests.
        index: `rows` on the device.
        factors: of the penalties, shape [3, len(rows), 1]; none if there are none.
        ruled: positions of rows with rarer rules.
        groups: rows that are drawn for together.
        logprob_positions: rows whose log probabilities are asked for.
        logprob_index: the same on the device; none if they are all rows.
        top: how many of the likeliest tokens are asked for at most.
    """

    def __init__(self, rows: Sequence[int], states: Sequence[Row], vocab_size: int, device: torch.device) -> None:
        self.rows, self.states = tuple(rows), tuple(states)
        self._device = device
        samplings = [state.sampling for state in states]
        self.index = torch.tensor(self.rows).to(device, non_blocking=True)
        self.factors = self._factors(samplings) if any(map(has_penalties, samplings)) else None
        self.ruled = [position for position, state in enumerate(states) if state.rules is not None]
        kinds: dict[tuple[str, int | None], list[int]] = {}
        for position, state in enumerate(states):
            kinds.setdefault(_kind(state, vocab_size), []).append(position)
        kinds.pop(_LIKELIEST, None)
        self.groups = [self._group(positions, width, vocab_size) for (_, width), positions in kinds.items()]
        self.logprob_positions = [position for position, state in enumerate(states) if state.logprobs is not None]
        self.logprob_index = self._index(self.logprob_positions)
        self.top = min(vocab_size, max((state.logprobs or 0 for state in states), default=0))

    def _index(self, positions: Sequence[int]) -> torch.Tensor | None:
        if len(positions) == len(self.rows):
            return None
        return torch.tensor(positions, dtype=torch.int64).to(self._device, non_blocking=True)

    def _group(self, positions: Sequence[int], width: int | None, vocab_size: int) -> Group:
        cuts = Cuts.of([self.states[position].sampling for position in positions], vocab_size, self._device)
        return Group(tuple(positions), self._index(positions), cuts, width)

    def _factors(self, samplings: Sequence[Sampling]) -> torch.Tensor:
        columns = (
            [sampling.repetition_penalty for sampling in samplings],
            [sampling.presence_penalty for sampling in samplings],
            [sampling.frequency_penalty for sampling in samplings],
        )
        return torch.tensor(columns)[:, :, None].to(self._device, non_blocking=True)


def _kind(row: Row, vocab_size: int) -> tuple[str, int | None]:
    """What is done for a row, and how many of the likeliest tokens are looked at; rows of one kind form a group."""
    sampling = row.sampling
    if sampling.temperature == 0:
        return _LIKELIEST
    if sampling.typical_p < 1:
        return "typical_p", None
    widths: Sequence[int] = ()
    kind = "min_p" if sampling.min_p else "any"
    if 0 < sampling.top_k < vocab_size:
        # One more than the k, to see whether others are as likely as the last one.
        kind, widths = "top_k", [width for width in WIDTHS if width > sampling.top_k]
    elif sampling.top_p < 1:
        kind, widths = "top_p", _NUCLEUS_WIDTHS
    if kind in ("any", "min_p"):
        return kind, None
    # With a vocabulary that is hardly larger, all of it is sorted as quickly.
    if row.misses < len(widths) and 2 * widths[row.misses] < vocab_size:
        return kind, widths[row.misses]
    return "sorted", None
