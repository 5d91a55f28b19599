"""What each figure ought to be, and whether it is."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Literal

Bound = Literal["at least", "at most"]


@dataclass(frozen=True, slots=True)
class Target:
    """A promise about one figure.

    Attributes:
        row: its number in the list of targets, such as ``P1``.
        figure: the figure's name in the benchmark's JSON.
        what: the figure in words, with its unit.
        bound: on which side of the limit it has to be.
        limit: where it has to be.
    """

    row: str
    figure: str
    what: str
    bound: Bound
    limit: float

    def met(self, value: float) -> bool:
        """Whether a value keeps the promise."""
        return value >= self.limit if self.bound == "at least" else value <= self.limit


@dataclass(frozen=True, slots=True)
class Verdict:
    """A figure beside its target."""

    row: str
    figure: str
    what: str
    value: float
    target: str
    met: bool


def verdicts(targets: Iterable[Target], figures: Mapping[str, float]) -> list[Verdict]:
    """Holds figures against their targets; a target whose figure was not measured is left out."""
    return [
        Verdict(
            target.row,
            target.figure,
            target.what,
            figures[target.figure],
            f"{target.bound} {target.limit:g}",
            target.met(figures[target.figure]),
        )
        for target in targets
        if target.figure in figures
    ]


def table(found: Iterable[Verdict]) -> str:
    """The same for people."""
    rows = [("row", "what", "measured", "target", "met")]
    rows += [(one.row, one.what, f"{one.value:.3g}", one.target, "yes" if one.met else "NO") for one in found]
    return "\n".join(f"{row:<5}{what:<58}{value:>10}   {target:<15}{met}" for row, what, value, target, met in rows)


def as_json(found: Iterable[Verdict]) -> list[dict[str, object]]:
    """The same for programs."""
    return [asdict(one) for one in found]


def machine() -> dict[str, object]:
    """Where and beside what else a benchmark runs: figures of a busy machine are not worth much."""
    return {"cores": os.cpu_count(), "load_1min": round(os.getloadavg()[0], 2)}
