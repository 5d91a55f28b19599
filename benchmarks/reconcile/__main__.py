"""Command line of the reconcile benchmark: ``python -m benchmarks.reconcile``."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from dataclasses import asdict

from benchmarks import targets
from benchmarks.opponents import go_program
from benchmarks.reconcile.measurement import OURS, SIDES, Measurement, Plan, measure
from benchmarks.reconcile.report import TARGETS, summary, table


async def run(arguments: argparse.Namespace) -> None:
    """Runs the sides in turn, prints what they took."""
    sides = (OURS,) if arguments.skip_go else SIDES
    if not arguments.skip_go:
        go_program("controllerruntime")
    machine = targets.machine()
    _note(f"{machine['cores']} cores, load {machine['load_1min']}")
    plan = Plan(arguments.objects, arguments.rounds, arguments.rounds, arguments.workers)
    runs: dict[str, list[Measurement]] = {side: [] for side in sides}
    for number in range(1, arguments.runs + 1):
        for side in sides:
            measured = await measure(side, plan)
            runs[side].append(measured)
            _note(
                f"run {number} {side}: {measured.per_core_s:.0f} per second of a core, {measured.per_s:.0f} per second"
            )
    found = summary(runs)
    verdicts = targets.verdicts(TARGETS, found)
    if not arguments.json:
        print(table(runs), end="\n\n")
        print("\n".join(f"{name:<40}{value:>10.2f}" for name, value in found.items()), end="\n\n")
        print(targets.table(verdicts))
        return
    raw = {side: [asdict(one) for one in of] for side, of in runs.items()}
    print(json.dumps(found | {"targets": targets.as_json(verdicts), "machine": machine, "runs": raw}))


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    """Reads the arguments and runs."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reconcile", description=__doc__)
    parser.add_argument("--objects", type=int, default=5_000)
    parser.add_argument("--rounds", type=int, default=10, help="changes of each, after a warm-up of as many")
    parser.add_argument("--runs", type=int, default=5, help="of each side, in turn")
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--skip-go", action="store_true", help="only ours")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
