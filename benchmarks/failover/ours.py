"""Our side of the failover benchmark, as a program: an elected manager of widgets, which says when it first works."""

from __future__ import annotations

import argparse
import asyncio

from benchmarks.processes import say, stdin_lines
from benchmarks.widgets import NAMESPACE, Widget
from kaito.client import load_config
from kaito.runtime import DONE, Controller, LeaderElection, Manager, Phase, Result
from kaito.runtime.signals import stopped_by_signals
from kaito.testing import eventually

TIMEOUT_S = 60.0


class FirstReconciler:
    """Says when it is called for the first time, once it was said that the caches are warm."""

    def __init__(self) -> None:
        self.warm = asyncio.Event()
        self._said = False

    async def reconcile(self, _: Widget) -> Result:
        await self.warm.wait()
        if not self._said:
            self._said = True
            say("reconciled")
        return DONE


async def run(arguments: argparse.Namespace) -> None:
    """Runs until SIGTERM, or the end of stdin."""
    election = LeaderElection(
        namespace=NAMESPACE,
        lease_duration_s=arguments.lease_s,
        renew_deadline_s=arguments.lease_s * 2 / 3,
        retry_period_s=arguments.lease_s * 2 / 15,
        trusts_absence=True,
    )
    manager = Manager(
        "failover", load_config(), metrics="0", health="0", leader_election=election, check_permissions=False
    )
    reconciler = FirstReconciler()
    controller = Controller(Widget, reconciler)
    manager.add(controller)
    lines = await stdin_lines()

    async def announce() -> None:
        await eventually(
            lambda: controller.phase in (Phase.STANDBY, Phase.WORKING), timeout_s=TIMEOUT_S, interval_s=0.01
        )
        say("warm")
        reconciler.warm.set()
        await lines.read()
        manager.stop()

    announcing = asyncio.create_task(announce())
    try:
        with stopped_by_signals(manager.stop):
            await manager.run()
    finally:
        announcing.cancel()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--lease-s", type=float, required=True)
    asyncio.run(run(parser.parse_args()))
