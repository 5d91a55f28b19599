"""Our side of the reconcile benchmark: a Manager with one Controller whose reconciler finds nothing to do."""

from __future__ import annotations

import argparse
import asyncio
import time

from benchmarks.processes import say, stdin_lines
from benchmarks.widgets import Widget
from kaito.client import Config
from kaito.runtime import DONE, Controller, Manager, Result


class IdleReconciler:
    """Looks at its object, is content, and says when all objects have been reconciled: once synced, then once a round.

    A round changes each object once and begins when the one before is over, so that it makes one reconcile of each.
    """

    def __init__(self, objects: int) -> None:
        self._objects = objects
        self._left = objects
        self._cpu_s = 0.0

    async def reconcile(self, widget: Widget) -> Result:
        """Looks at an object."""
        if not widget.spec.image:
            raise ValueError(f"{widget.key} has no image")
        self._left -= 1
        if not self._left:
            self._left = self._objects
            before, self._cpu_s = self._cpu_s, time.process_time()
            say("reconciled", cpu_s=self._cpu_s - before)
        return DONE


async def run(arguments: argparse.Namespace) -> None:
    """Runs until stdin ends."""
    reconciler = IdleReconciler(arguments.objects)
    commands = await stdin_lines()
    say("ready")
    await commands.readline()
    manager = Manager("benchmark-ours", Config(arguments.server), metrics="0", health="0")
    manager.add(Controller(Widget, reconciler, concurrency=arguments.workers))
    running = asyncio.create_task(manager.run())
    while await commands.readline():
        pass
    manager.stop()
    await running


def main() -> None:
    """Reads the arguments and runs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", required=True, help="base URL of the replay server")
    parser.add_argument("--objects", type=int, required=True)
    parser.add_argument("--workers", type=int, default=8)
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
