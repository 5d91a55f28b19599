"""A small manager for tests of failovers, as a program: counts in one ConfigMap, and does the jobs in the others.

Every write says who wrote it, and none names a resourceVersion: nothing but leader election keeps two of these apart.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from datetime import timedelta

from kaito.client import LeadershipLost, load_config
from kaito.informers.options import InformerOptions
from kaito.kube.core_v1 import ConfigMap
from kaito.runtime import DONE, Controller, LeaderElection, Manager, Result, run_until_signal
from kaito.runtime.logs import configure

COUNTER = "counter"
PERIOD = timedelta(milliseconds=20)


class Counting:
    """Counts on from what it reads, and finishes jobs.

    Args:
        name: of this process; stands in each write.
        manager: whose client it uses.
    """

    def __init__(self, name: str, manager: Manager) -> None:
        self._name = name
        self._client = manager.client

    async def reconcile(self, obj: ConfigMap) -> Result:
        data = obj.data
        if obj.metadata.name == COUNTER:
            change = {"n": str(int(data.get("n", "0")) + 1), "by": self._name}
            await self._client.patch(ConfigMap, obj.key, {"data": change})
            return Result(requeue_after=PERIOD)
        if "wanted" in data and data.get("done") != data["wanted"]:
            await self._client.patch(ConfigMap, obj.key, {"data": {"done": data["wanted"], "by": self._name}})
        return DONE


async def serve(arguments: argparse.Namespace) -> None:
    """Runs until stopped, or no longer the leader."""
    election = LeaderElection(
        namespace=arguments.namespace,
        identity=arguments.name,
        lease_duration_s=arguments.lease,
        renew_deadline_s=arguments.lease * 0.7,
        retry_period_s=arguments.lease * 0.15,
        trusts_absence=True,
        exit_hard=True,
    )
    manager = Manager(
        "counting",
        load_config(arguments.kubeconfig),
        metrics="0",
        health="0",
        cache=InformerOptions(namespaces=frozenset({arguments.namespace})),
        leader_election=election,
        check_permissions=False,
    )
    manager.add(Controller(ConfigMap, Counting(arguments.name, manager), concurrency=2))
    await run_until_signal(manager)


def main() -> None:
    """The program: ends with 1 when its lease was lost."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kubeconfig", required=True)
    parser.add_argument("--namespace", required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--lease", type=float, default=2.0)
    configure("json")
    try:
        asyncio.run(serve(parser.parse_args()))
    except LeadershipLost as error:
        print(f"leadership lost: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
