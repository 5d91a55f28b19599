"""Command line of the startup benchmark: ``python -m benchmarks.startup``."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from statistics import median

from benchmarks import targets
from benchmarks.cluster import fleet
from benchmarks.startup.measurement import IN_CLUSTER, KUBECONFIG, Measurement, make_leases, measure
from benchmarks.targets import Target
from kaito.api import all_crds
from kaito.testing.crds import install_definitions

_PREFIXES = {IN_CLUSTER: "in_cluster", KUBECONFIG: "kubeconfig"}
_TARGETS = (
    Target("P8", "in_cluster_seconds", "in a cluster: start to first write, s", "at most", 1.0),
    Target("P8", "in_cluster_resident_mib", "in a cluster: resident when idle, MiB", "at most", 60.0),
    Target("P8", "kubeconfig_seconds", "from a kubeconfig: start to first write, s", "at most", 2.0),
    Target("P8", "kubeconfig_resident_mib", "from a kubeconfig: resident when idle, MiB", "at most", 125.0),
)


async def run(arguments: argparse.Namespace) -> None:
    """Starts the manager in turn with either credentials, prints what it took."""
    runs: dict[str, list[Measurement]] = {side: [] for side in _PREFIXES}
    machine = targets.machine()
    async with fleet(1) as cluster:
        await install_definitions(cluster.client, *all_crds())
        await make_leases(cluster.client)
        for number in range(arguments.runs + 1):
            for side, measured in runs.items():
                one = await measure(side, cluster.client, cluster.credentials, arguments.idle_s if number else 0.0)
                text = f"{one.seconds:.2f} s, cpu {one.cpu_s:.2f} s, {one.resident_mib:.1f} MiB"
                _note(
                    f"{f'run {number}' if number else 'warm-up'} {side}: {text}; load {targets.machine()['load_1min']}"
                )
                measured.extend([one] if number else [])
    found = summary(runs)
    verdicts = targets.verdicts(_TARGETS, found)
    if not arguments.json:
        print("\n".join(f"{name:<30}{value:>8.2f}" for name, value in found.items()), end="\n\n")
        print(targets.table(verdicts))
        return
    raw = {side: [asdict(one) for one in measured] for side, measured in runs.items()}
    print(json.dumps(found | {"targets": targets.as_json(verdicts), "machine": machine, "runs": raw}))


def summary(runs: Mapping[str, Sequence[Measurement]]) -> dict[str, float]:
    """Medians of each side."""
    return {
        f"{_PREFIXES[side]}_{field}": round(median(asdict(one)[field] for one in measured), 3)
        for side, measured in runs.items()
        for field in ("seconds", "cpu_s", "resident_mib")
    }


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    """Reads the arguments and runs."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.startup", description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="of each side, in turn, after a warm-up")
    parser.add_argument("--idle-s", type=float, default=10.0, help="how long it is left alone before it is weighed")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
