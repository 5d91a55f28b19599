"""Medians, ratios and how they are shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

from benchmarks.reconcile.measurement import CONTROLLER_RUNTIME, OURS, Measurement
from benchmarks.targets import Target

Runs = Mapping[str, Sequence[Measurement]]
"""By side."""

TARGETS = (
    Target("P6", "reconciles_per_core_s", "no-op reconciles end to end, per second of one core", "at least", 8_000),
)


def summary(runs: Runs) -> dict[str, float]:
    """Our medians, and their ratios to theirs: ours divided by theirs."""
    ours, theirs = runs[OURS], runs.get(CONTROLLER_RUNTIME)
    found = {"reconciles_per_core_s": _median(ours, "per_core_s"), "reconciles_per_s": _median(ours, "per_s")}
    if theirs:
        found |= {
            "per_core_vs_controller_runtime": _median(ours, "per_core_s") / _median(theirs, "per_core_s"),
            "throughput_vs_controller_runtime": _median(ours, "per_s") / _median(theirs, "per_s"),
        }
    return {name: round(value, 3) for name, value in found.items()}


def table(runs: Runs) -> str:
    """All runs and their medians, for people."""
    rows: list[tuple[str, ...]] = [("side", "run", "per core s", "per s", "load")]
    for side, measured in runs.items():
        rows += [(side, str(number), *_figures([one])) for number, one in enumerate(measured, 1)]
        rows.append((side, "median", *_figures(measured)))
    return "\n".join(f"{row[0]:<20}{row[1]:>6}" + "".join(f"{cell:>12}" for cell in row[2:]) for row in rows)


def _figures(measured: Sequence[Measurement]) -> tuple[str, ...]:
    cells = (f"{_median(measured, name):.0f}" for name in ("per_core_s", "per_s"))
    return (*cells, f"{_median(measured, 'load'):.2f}")


def _median(measured: Sequence[Measurement], field: str) -> float:
    return float(median(getattr(one, field) for one in measured))
