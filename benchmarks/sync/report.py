"""Medians, ratios and how they are shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

from benchmarks.sync.measurement import CONTROLLER_RUNTIME, KOPF, OURS, Measurement
from benchmarks.targets import Target

Runs = Mapping[str, Sequence[Measurement]]
Ratio = tuple[str, str, str]

_LOWER_IS_BETTER: tuple[Ratio, ...] = (
    ("cpu_vs_controller_runtime", CONTROLLER_RUNTIME, "cpu_s"),
    ("memory_vs_controller_runtime", CONTROLLER_RUNTIME, "churned_bytes"),
    ("peak_memory_vs_controller_runtime", CONTROLLER_RUNTIME, "peak_bytes"),
    ("memory_vs_kopf", KOPF, "churned_bytes"),
)
_OF_OURS = (
    ("loop_stall_ms", "stall_ms"),
    ("loop_stall_cpu_ms", "stall_cpu_ms"),
    ("gc_before_ms", "gc_before_ms"),
    ("gc_ms", "gc_ms"),
)
_THROUGHPUT = (("throughput_vs_controller_runtime", CONTROLLER_RUNTIME), ("throughput_vs_kopf", KOPF))

_RATIOS = (
    Target("P1", "throughput_vs_controller_runtime", "throughput, of controller-runtime's", "at least", 1.3),
    Target("P1", "cpu_vs_controller_runtime", "processor time, of controller-runtime's", "at most", 1.0),
    Target(
        "P2", "memory_vs_controller_runtime", "memory per object after churn, of controller-runtime's", "at most", 0.5
    ),
    Target("P2", "peak_memory_vs_controller_runtime", "memory at the peak, of controller-runtime's", "at most", 0.6),
    Target("P3", "throughput_vs_kopf", "throughput, of kopf's", "at least", 4.0),
    Target("P3", "memory_vs_kopf", "memory per object after churn, of kopf's", "at most", 0.35),
    Target("P7", "loop_stall_ms", "longest stall of the loop, ms", "at most", 20.0),
    Target("P7", "gc_ms", "full garbage collection, ms", "at most", 15.0),
)
_PATCHED = (Target("P1", "throughput_vs_controller_runtime", "throughput with a status patch each", "at least", 1.0),)


def targets(*, status_patch: bool) -> tuple[Target, ...]:
    """What is promised of a run with, or without, a status patch each."""
    return _PATCHED if status_patch else _RATIOS


def summary(runs: Runs) -> dict[str, float]:
    """The ratios of ours to theirs, of medians; and what only ours has."""
    found = {
        name: _median(runs[side], "seconds") / _median(runs[OURS], "seconds")
        for name, side in _THROUGHPUT
        if side in runs
    }
    found |= {
        name: _median(runs[OURS], field) / _median(runs[side], field)
        for name, side, field in _LOWER_IS_BETTER
        if side in runs
    }
    found |= {name: _median(runs[OURS], field) for name, field in _OF_OURS}
    return {name: round(value, 3) for name, value in found.items()}


def table(runs: Runs, objects: int) -> str:
    """All runs and their medians, for people."""
    heading = ("side", "run", "seconds", "objects/s", "cpu s", "api cpu s", "KiB synced", "KiB peak", "KiB churned")
    rows: list[tuple[str, ...]] = [heading]
    for side, measured in runs.items():
        rows += [(side, str(number), *_figures(one, objects)) for number, one in enumerate(measured, 1)]
        rows.append((side, "median", *_figures(_middle(measured), objects)))
    return "\n".join(f"{row[0]:<19}{row[1]:>7}" + "".join(f"{cell:>13}" for cell in row[2:]) for row in rows)


def _figures(one: Measurement, objects: int) -> tuple[str, ...]:
    sizes = (one.synced_bytes, one.peak_bytes, one.churned_bytes)
    return (
        f"{one.seconds:.2f}",
        f"{objects / one.seconds:.0f}",
        f"{one.cpu_s:.2f}",
        f"{one.api_server_cpu_s:.2f}",
        *(f"{size / 1024:.2f}" for size in sizes),
    )


def _middle(measured: Sequence[Measurement]) -> Measurement:
    fields = ("seconds", "cpu_s", "api_server_cpu_s", "synced_bytes", "peak_bytes", "churned_bytes")
    return Measurement(**{field: _median(measured, field) for field in fields})


def _median(measured: Sequence[Measurement], field: str) -> float:
    return float(median(getattr(one, field) for one in measured))
