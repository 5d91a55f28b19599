"""Medians, ratios and how they are shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

from benchmarks.ingest.measurement import CONTROLLER_RUNTIME, OURS, Measurement
from benchmarks.targets import Target

Runs = Mapping[str, Mapping[str, Sequence[Measurement]]]
"""By case (``widget``, ``pod``, ``latency``), then by side."""

LATENCY = "latency"
TARGETS = (
    Target("P4", "latency_p99_ms", "event to reconcile, p99, ms", "at most", 50),
    Target("P4", "latency_backlog_ms", "backlog when the last event was due, ms of events", "at most", 50),
    Target("P5", "ingest_us_widget", "ingest of an object of 1.2 KB, µs of processor time", "at most", 20),
    Target("P5", "ingest_us_pod", "ingest of an object of 7.3 KB, µs of processor time", "at most", 40),
)
_LATENCIES = ("p50_ms", "p99_ms", "max_ms")


def summary(runs: Runs, rate: float) -> dict[str, float]:
    """Our medians, and their ratios to theirs: ours divided by theirs.

    Args:
        runs: what was measured.
        rate: events per second of the latency case.
    """
    found: dict[str, float] = {}
    for case, by_side in runs.items():
        ours, theirs = by_side[OURS], by_side.get(CONTROLLER_RUNTIME)
        if case == LATENCY:
            # As time, for a backlog in events says nothing without their rate: what is on its way is no backlog.
            found["latency_backlog_ms"] = _median(ours, "backlog") / rate * 1e3
            found |= {f"latency_{name}": _median(ours, name) for name in _LATENCIES}
        else:
            found[f"ingest_us_{case}"] = _median(ours, "cpu_us")
        if theirs:
            found[f"{case}_cpu_vs_controller_runtime"] = _median(ours, "cpu_us") / _median(theirs, "cpu_us")
        if theirs and case == LATENCY:
            found["latency_p99_vs_controller_runtime"] = _median(ours, "p99_ms") / _median(theirs, "p99_ms")
    return {name: round(value, 3) for name, value in found.items()}


def table(runs: Runs) -> str:
    """All runs and their medians, for people."""
    heading = ("case", "side", "run", "µs/event", "p50 ms", "p99 ms", "max ms", "backlog", "reconciles", "load")
    rows: list[tuple[str, ...]] = [heading]
    for case, by_side in runs.items():
        for side, measured in by_side.items():
            rows += [(case, side, str(number), *_figures([one])) for number, one in enumerate(measured, 1)]
            rows.append((case, side, "median", *_figures(measured)))
    return "\n".join(f"{row[0]:<9}{row[1]:<20}{row[2]:>6}" + "".join(f"{cell:>11}" for cell in row[3:]) for row in rows)


def _figures(measured: Sequence[Measurement]) -> tuple[str, ...]:
    cells = [f"{_median(measured, 'cpu_us'):.1f}"]
    for name, digits in (*((name, 1) for name in _LATENCIES), ("backlog", 0), ("reconciles", 0)):
        known = getattr(measured[0], name) is not None
        cells.append(f"{_median(measured, name):.{digits}f}" if known else "")
    return (*cells, f"{_median(measured, 'load'):.2f}")


def _median(measured: Sequence[Measurement], field: str) -> float:
    return float(median(getattr(one, field) for one in measured))
