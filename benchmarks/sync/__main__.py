"""Command line of the sync benchmark: ``python -m benchmarks.sync``."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from dataclasses import asdict
from typing import get_args

from benchmarks import targets
from benchmarks.cluster import fleet
from benchmarks.opponents import go_program, kopf_python
from benchmarks.processes import ChildFailed
from benchmarks.sync import report
from benchmarks.sync.measurement import CONTROLLER_RUNTIME, KOPF, OURS, Measurement, Plan, measure, new_round
from kaito.informers import ListMode


async def run(arguments: argparse.Namespace) -> None:
    """Fills a control plane, runs the sides in turn, prints what they took."""
    sides = [side for side in (OURS, CONTROLLER_RUNTIME, KOPF) if side not in arguments.skip]
    go_program("controllerruntime")
    if KOPF in sides:
        kopf_python()
    plan = Plan(arguments.workers, arguments.churn_s, arguments.churn_rate, arguments.status_patch, arguments.list_mode)
    runs: dict[str, list[Measurement]] = {side: [] for side in sides}
    machine = targets.machine()
    _note(f"{machine['cores']} cores, load {machine['load_1min']}; filling a control plane")
    failures = 0
    async with fleet(arguments.objects) as filled:
        size = f"{filled.kept_bytes} bytes of JSON, {filled.served_bytes} with managedFields"
        _note(f"{filled.count} objects of {size}; load {targets.machine()['load_1min']}")
        for number in range(1, arguments.runs + 1):
            for side in sides:
                # A side that fails once must not cost the runs of the others, which took most of an hour.
                try:
                    measured = await measure(side, filled, plan, new_round())
                except ChildFailed as error:
                    failures += 1
                    _note(f"run {number} {side} FAILED and is left out: {error}")
                    continue
                runs[side].append(measured)
                _note(f"run {number} {side}: {_line(measured)}; load {targets.machine()['load_1min']}")
    _print(arguments, {side: measured for side, measured in runs.items() if measured}, machine, failures)


def _print(
    arguments: argparse.Namespace,
    runs: dict[str, list[Measurement]],
    machine: dict[str, object],
    failures: int,
) -> None:
    if OURS not in runs:
        raise SystemExit("benchmarks.sync: none of our own runs came through; see above why")
    found = report.summary(runs)
    verdicts = targets.verdicts(report.targets(status_patch=arguments.status_patch), found)
    machine["load_1min_after"] = targets.machine()["load_1min"]
    if not arguments.json:
        print(report.table(runs, arguments.objects), end="\n\n")
        print("\n".join(f"{name:<35}{value:>8.2f}" for name, value in found.items()), end="\n\n")
        print(targets.table(verdicts))
        return
    raw = {side: [asdict(one) for one in measured] for side, measured in runs.items()}
    more = {"targets": targets.as_json(verdicts), "machine": machine, "failed_runs": failures, "runs": raw}
    print(json.dumps(found | more))


def _line(measured: Measurement) -> str:
    sizes = (measured.synced_bytes, measured.peak_bytes, measured.churned_bytes)
    text = f"{measured.seconds:.2f} s, cpu {measured.cpu_s:.2f} s, KiB per object synced, peak, churned: "
    text += ", ".join(f"{size / 1024:.2f}" for size in sizes)
    if measured.gc_ms is None:
        return text
    stall = f"stall {measured.stall_ms:.1f} ms (cpu {measured.stall_cpu_ms:.1f})"
    return f"{text}; {stall}, gc {measured.gc_ms:.1f} ms (before {measured.gc_before_ms:.1f})"


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    """Reads the arguments and runs."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sync", description=__doc__)
    parser.add_argument("--objects", type=int, default=20_000)
    parser.add_argument("--runs", type=int, default=3, help="of each side, in turn")
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--churn-s", type=float, default=60.0, help="how long objects change after each sync")
    parser.add_argument("--churn-rate", type=float, default=100.0, help="changes per second")
    parser.add_argument("--status-patch", action="store_true", help="each reconcile also patches the status, once")
    parser.add_argument("--list-mode", choices=get_args(ListMode), default="stream", help="how our side lists")
    parser.add_argument("--skip-kopf", dest="skip", action="append_const", const=KOPF, default=[])
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
