"""Command line of the ingest benchmark: ``python -m benchmarks.ingest``."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from dataclasses import asdict

from benchmarks import targets
from benchmarks.ingest.measurement import OURS, SIDES, Measurement, Plan, measure
from benchmarks.ingest.report import LATENCY, TARGETS, summary, table
from benchmarks.opponents import go_program


async def run(arguments: argparse.Namespace) -> None:
    """Runs the sides in turn, case by case, prints what they took."""
    sides = (OURS,) if arguments.skip_go else SIDES
    if not arguments.skip_go:
        go_program("controllerruntime")
    machine = targets.machine()
    _note(f"{machine['cores']} cores, load {machine['load_1min']}")
    runs: dict[str, dict[str, list[Measurement]]] = {}
    for case, plan in _plans(arguments).items():
        by_side = runs[case] = {side: [] for side in sides}
        for number in range(1, arguments.runs + 1):
            for side in sides:
                measured = await measure(side, plan)
                by_side[side].append(measured)
                _note(f"{case}, run {number} {side}: {_line(measured)}")
    found = summary(runs, arguments.rate)
    verdicts = targets.verdicts(TARGETS, found)
    if not arguments.json:
        print(table(runs), end="\n\n")
        print("\n".join(f"{name:<40}{value:>8.2f}" for name, value in found.items()), end="\n\n")
        print(targets.table(verdicts))
        return
    raw = {case: {side: [asdict(one) for one in of] for side, of in sides.items()} for case, sides in runs.items()}
    print(json.dumps(found | {"targets": targets.as_json(verdicts), "machine": machine, "runs": raw}))


def _plans(arguments: argparse.Namespace) -> dict[str, Plan]:
    objects = arguments.objects
    whole = arguments.events // objects * objects or objects
    plans = {shape: Plan(shape, objects, whole, whole) for shape in ("widget", "pod")}
    lasting = max(1, round(arguments.seconds * arguments.rate / objects)) * objects
    plans[LATENCY] = Plan("pod", objects, objects, lasting, arguments.rate, True, arguments.workers)
    return {case: plan for case, plan in plans.items() if case in arguments.case}


def _line(measured: Measurement) -> str:
    text = f"{measured.cpu_us:.1f} µs per event"
    if measured.p99_ms is not None:
        latency = f"p50 {measured.p50_ms:.1f}, p99 {measured.p99_ms:.1f}, max {measured.max_ms:.1f} ms"
        text += f"; {latency}; backlog {measured.backlog:.0f}, reconciles {measured.reconciles:.0f}"
    return f"{text}; load {measured.load:.2f}"


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    """Reads the arguments and runs."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ingest", description=__doc__)
    cases = ("widget", "pod", LATENCY)
    parser.add_argument("--case", nargs="+", choices=cases, default=cases, help="what to measure; default all")
    parser.add_argument("--objects", type=int, default=5_000)
    parser.add_argument("--events", type=int, default=50_000, help="at full speed, after a warm-up of as many")
    parser.add_argument("--rate", type=float, default=5_000.0, help="events per second of the latency case")
    parser.add_argument("--seconds", type=float, default=20.0, help="how long the latency case lasts")
    parser.add_argument("--runs", type=int, default=3, help="of each side, in turn")
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--skip-go", action="store_true", help="only ours")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
