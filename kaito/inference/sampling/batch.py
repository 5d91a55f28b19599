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


@dataclass(slots=True)
class Row:
    """One request.

    Attributes:
        sampling: its rules.
        logprobs: as in `TokenRequest`.
        numbers: what it draws with.
        rules: the rarer ones; none if it has none.
        misses: steps in which what it kept was not all among the likeliest that were looked at.
    """

    sampling: Sampling
    logprobs: int | None
    numbers: random.Random
    rules: Rules | None
    misses: int = 0


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
        alone: positions of rows that are drawn for one by one.
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
        kinds.pop(("likeliest", None), None)
        self.alone = kinds.pop(("alone", None), [])
        self.groups = [self._group(kind, positions, width) for (kind, width), positions in kinds.items()]
        self.logprob_positions = [position for position, state in enumerate(states) if state.logprobs is not None]
        self.logprob_index = self._index(self.logprob_positions)
        self.top = min(vocab_size, max((state.logprobs or 0 for state in states), default=0))

    def _index(self, positions: Sequence[int]) -> torch.Tensor | None:
        if len(positions) == len(self.rows):
            return None
        return torch.tensor(positions, dtype=torch.int64).to(self._device, non_blocking=True)

    def _group(self, kind: str, positions: Sequence[int], width: int | None) -> Group:
        samplings = [self.states[position].sampling for position in positions]
        cuts = Cuts(
            temperature=self._column([sampling.temperature for sampling in samplings]),
            top_k=self._column([sampling.top_k for sampling in samplings]) if kind == "top_k" else None,
            # The sum of what is kept may round to less than all: what is off must not cut.
            top_p=self._column([sampling.top_p if sampling.top_p < 1 else 2.0 for sampling in samplings]),
            min_p=self._column([sampling.min_p for sampling in samplings]) if kind != "any" else None,
        )
        return Group(tuple(positions), self._index(positions), cuts, width)

    def _factors(self, samplings: Sequence[Sampling]) -> torch.Tensor:
        columns = (
            [sampling.repetition_penalty for sampling in samplings],
            [sampling.presence_penalty for sampling in samplings],
            [sampling.frequency_penalty for sampling in samplings],
        )
        return torch.tensor(columns)[:, :, None].to(self._device, non_blocking=True)

    def _column(self, values: Sequence[float] | Sequence[int]) -> torch.Tensor:
        return torch.tensor(values)[:, None].to(self._device, non_blocking=True)


def _kind(row: Row, vocab_size: int) -> tuple[str, int | None]:
    """What is done for a row; rows of one kind are drawn for together."""
    sampling = row.sampling
    if sampling.temperature == 0:
        return "likeliest", None
    if sampling.typical_p < 1:
        return "alone", None
    if 0 < sampling.top_k < vocab_size:
        # One more than the k, to see whether others are as likely as the last one.
        widths = [width for width in WIDTHS if width > sampling.top_k]
    elif sampling.top_p < 1:
        widths = list(_NUCLEUS_WIDTHS)
    else:
        return ("min_p" if sampling.min_p else "any"), None
    if row.misses >= len(widths):
        return "alone", None
    return ("top_k" if sampling.top_k else "top_p"), min(widths[row.misses], vocab_size)
