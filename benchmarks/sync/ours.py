"""Our side of the sync benchmark: a Manager with one Controller, in a process of its own."""

from __future__ import annotations

import argparse
import asyncio
import gc
import time
from pathlib import Path
from typing import get_args

from benchmarks.processes import say, stdin_lines
from benchmarks.widgets import Widget, number
from kaito.client import Client, in_cluster
from kaito.informers import InformerOptions, ListMode
from kaito.runtime import DONE, Controller, Manager, Result

# How often the loop is looked at: far below the stalls that matter, and about 1 % of a core.
_BEAT_S = 0.002
_COLLECTIONS = 5


class WidgetReconciler:
    """Has each object read, patches its status once if asked to, and says when all have had their turn."""

    def __init__(self, client: Client, objects: int, round_: int) -> None:
        self._client = client
        self._round = round_
        self._waiting = objects
        # By number, not by key: what the benchmark remembers must not count as memory of what it measures.
        self._seen = bytearray(objects)
        self.began = 0.0
        self.meter = StallMeter()

    async def reconcile(self, widget: Widget) -> Result:
        """Looks at a widget, or writes this round into its status."""
        if not widget.spec.image:
            raise ValueError(f"{widget.key} has no image")
        if self._round and widget.status.round != self._round:
            await self._client.status.patch(Widget, widget.key, {"status": {"round": self._round}})
        self._count(number(widget.metadata.name))
        return DONE

    def _count(self, index: int) -> None:
        if self._seen[index]:
            return
        self._seen[index] = 1
        self._waiting -= 1
        if not self._waiting:
            seconds = time.perf_counter() - self.began
            wall_s, cpu_s = self.meter.stop()
            say("synced", seconds=seconds, stall_ms=wall_s * 1e3, stall_cpu_ms=cpu_s * 1e3)


class StallMeter:
    """The longest time for which the event loop ran something else than a timer that was due.

    By the clock, and in processor time of its thread: on a machine with more to do than cores, the difference is
    time in which the loop was ready to run and the machine ran something else.
    """

    def __init__(self) -> None:
        self._timer: asyncio.TimerHandle | None = None
        self._beat = (0.0, 0.0)
        self._longest = (0.0, 0.0)

    def start(self) -> None:
        """Begins to measure in the running loop."""
        self._beat = (time.perf_counter(), time.thread_time())
        self._again()

    def stop(self) -> tuple[float, float]:
        """Ends measuring; returns seconds by the clock and of processor time, each its own longest."""
        if self._timer is not None:
            self._timer.cancel()
        self._look()
        return self._longest

    def _again(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(_BEAT_S, self._tick)

    def _tick(self) -> None:
        self._look()
        self._again()

    def _look(self) -> None:
        wall, cpu = time.perf_counter(), time.thread_time()
        late = wall - self._beat[0] - _BEAT_S
        self._longest = (max(self._longest[0], late), max(self._longest[1], cpu - self._beat[1]))
        self._beat = (wall, cpu)


async def run(arguments: argparse.Namespace) -> None:
    """Runs the manager until stdin ends."""
    options = InformerOptions(list_mode=arguments.list_mode)
    config = in_cluster(arguments.service_account)
    manager = Manager("benchmark-ours", config, metrics="0", health="0", cache=options)
    reconciler = WidgetReconciler(manager.client, arguments.objects, arguments.round)
    manager.add(Controller(Widget, reconciler, concurrency=arguments.workers))
    commands = await stdin_lines()
    say("ready", gc_ms=_collect() * 1e3)
    await commands.readline()
    reconciler.began = time.perf_counter()
    reconciler.meter.start()
    running = asyncio.create_task(manager.run())
    obeying = asyncio.create_task(_obey(commands))
    await asyncio.wait([running, obeying], return_when=asyncio.FIRST_COMPLETED)
    manager.stop()
    await running


async def _obey(commands: asyncio.StreamReader) -> None:
    while command := await commands.readline():
        if command.strip() == b"gc":
            say("gc", gc_ms=_collect() * 1e3)


def _collect() -> float:
    """Seconds that a full collection takes: the median of a few, after one that does what was due anyway."""
    gc.collect()
    lasted = []
    for _ in range(_COLLECTIONS):
        began = time.perf_counter()
        gc.collect()
        lasted.append(time.perf_counter() - began)
    return sorted(lasted)[_COLLECTIONS // 2]


def main() -> None:
    """Reads the arguments and runs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, required=True)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--round", type=int, default=0, help="what to write into each status; 0: write nothing")
    parser.add_argument("--list-mode", choices=get_args(ListMode), default="stream")
    parser.add_argument("--service-account", type=Path, required=True, help="folder with token and ca.crt")
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
