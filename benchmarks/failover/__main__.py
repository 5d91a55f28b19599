"""Command line of the failover benchmark: ``python -m benchmarks.failover``."""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
from statistics import median

from benchmarks import targets
from benchmarks.cluster import fleet
from benchmarks.failover.measurement import CONTROLLER_RUNTIME, OURS, How, measure
from benchmarks.opponents import go_program
from benchmarks.targets import Target

_HOW: tuple[How, ...] = ("kill", "stop")
_WIDGETS = 100


async def run(arguments: argparse.Namespace) -> None:
    """Lets leaders go, in turn of sides, and prints how long nobody worked."""
    sides = [side for side in (OURS, CONTROLLER_RUNTIME) if side not in arguments.skip]
    if CONTROLLER_RUNTIME in sides:
        go_program("controllerruntime")
    rng = random.Random(0)
    runs: dict[str, list[float]] = {_figure(side, how): [] for side in sides for how in _HOW}
    machine = targets.machine()
    async with fleet(_WIDGETS) as cluster:
        for number in range(1, arguments.runs + 1):
            for side in sides:
                for how in _HOW:
                    seconds = await measure(side, how, arguments.lease_s, cluster.credentials.environment(), rng)
                    runs[_figure(side, how)].append(seconds)
                    print(f"run {number} {side} {how}: {seconds:.2f} s", file=sys.stderr, flush=True)
    found = {name: round(median(seconds), 3) for name, seconds in runs.items()}
    found |= {f"{name}_worst": round(max(seconds), 3) for name, seconds in runs.items()}
    verdicts = targets.verdicts(_targets(arguments.lease_s), found)
    if not arguments.json:
        print("\n".join(f"{name:<45}{value:>8.2f}" for name, value in found.items()), end="\n\n")
        print(targets.table(verdicts))
        return
    more = {"lease_s": arguments.lease_s, "targets": targets.as_json(verdicts), "machine": machine, "runs": runs}
    print(json.dumps(found | more))


def _figure(side: str, how: How) -> str:
    return f"{'killed' if how == 'kill' else 'stopped'}_s{'' if side == OURS else '_controller_runtime'}"


def _targets(lease_s: float) -> tuple[Target, ...]:
    return (
        Target(
            "P10",
            "killed_s_worst",
            f"leader killed to first reconcile, lease of {lease_s:g} s, s",
            "at most",
            lease_s + 1,
        ),
        Target("P10", "stopped_s_worst", "leader stopped to first reconcile, s", "at most", 1.0),
    )


def main() -> None:
    """Reads the arguments and runs."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.failover", description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="failovers of each kind on each side")
    parser.add_argument("--lease-s", type=float, default=15.0, help="duration of the lease")
    parser.add_argument("--skip", action="append", default=[], choices=[CONTROLLER_RUNTIME], help="leave a side out")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
