"""Our side of the ingest benchmark: an informer alone, or a Manager with one Controller, in a process of its own."""

from __future__ import annotations

import argparse
import asyncio
import time
from array import array
from collections.abc import Callable

from benchmarks.ingest.objects import FIRST_VERSION, SENT_ANNOTATION, SHAPES
from benchmarks.processes import say, stdin_lines
from kaito.client import Config
from kaito.client.transport import AiohttpTransport
from kaito.informers import Informer, InformerEvent
from kaito.kube import Resource
from kaito.runtime import DONE, Controller, Manager, Result

_NS_PER_MS = 1e6


class EventCounter:
    """The only handler of an informer alone: says when the objects, the warm-up and the events have passed."""

    def __init__(self, objects: int, warm_up: int, events: int) -> None:
        self._phases = iter([("synced", objects), ("warm", warm_up), ("done", events)])
        self._event, self._left = next(self._phases)
        self._cpu_s = 0.0

    def __call__(self, _: InformerEvent[Resource]) -> None:
        """Counts."""
        self._left -= 1
        if not self._left:
            self._end_phase()

    def _end_phase(self) -> None:
        before, self._cpu_s = self._cpu_s, time.process_time()
        say(self._event, cpu_s=self._cpu_s - before)
        self._event, self._left = next(self._phases, ("", 0))


class LatencyReconciler:
    """Notes how old the event is that an object comes from, once per event; one that a later one overtook has none.

    Events number 0 to `warm_up` - 1 are not looked at. Each phase ends in a change of every object, and so is over when
    these last changes have been reconciled.
    """

    def __init__(self, objects: int, warm_up: int, events: int) -> None:
        self._objects = objects
        self._warm_up = warm_up
        self._reconciled_ns = array("q", bytes(8 * (warm_up + events)))
        self._sent_ns = array("q", bytes(8 * (warm_up + events)))
        self._initial = bytearray(objects)
        self._phases = iter([("synced", 0), ("warm", warm_up), ("done", warm_up + events)])
        self._cpu_s = 0.0
        self._begin_phase()

    async def reconcile(self, obj: Resource) -> Result:
        """Looks at an object."""
        number = int(obj.metadata.resource_version) - FIRST_VERSION - self._objects
        if number < 0:
            # Negative numbers count from the end: each initial object has a place of its own.
            news = not self._initial[number]
            self._initial[number] = 1
        else:
            news = not self._reconciled_ns[number]
            self._sent_ns[number] = int(obj.metadata.annotations[SENT_ANNOTATION])
            self._reconciled_ns[number] = time.time_ns()
        if news and number >= self._end - self._objects:
            self._waiting -= 1
            if not self._waiting:
                self._end_phase()
        return DONE

    def report(self, ended_ns: int) -> None:
        """Says what became of the events after the warm-up, the last of which was due at this time."""
        pairs = zip(self._sent_ns[self._warm_up :], self._reconciled_ns[self._warm_up :], strict=True)
        seen = [(sent, reconciled) for sent, reconciled in pairs if reconciled]
        waited = sorted(reconciled - sent for sent, reconciled in seen)
        say(
            "report",
            p50_ms=waited[len(waited) // 2] / _NS_PER_MS,
            p99_ms=waited[len(waited) * 99 // 100] / _NS_PER_MS,
            max_ms=waited[-1] / _NS_PER_MS,
            backlog=sum(reconciled > ended_ns for _, reconciled in seen),
            reconciles=len(seen),
        )

    def _begin_phase(self) -> None:
        self._event, self._end = next(self._phases, ("", 0))
        self._waiting = self._objects

    def _end_phase(self) -> None:
        before, self._cpu_s = self._cpu_s, time.process_time()
        say(self._event, cpu_s=self._cpu_s - before)
        self._begin_phase()


async def run(arguments: argparse.Namespace) -> None:
    """Runs until stdin ends."""
    kind = SHAPES[arguments.shape].kind
    config = Config(arguments.server)
    sizes = (arguments.objects, arguments.warm_up, arguments.events)
    commands = await stdin_lines()
    say("ready")
    await commands.readline()
    if arguments.reconcile:
        await _reconcile(kind, config, LatencyReconciler(*sizes), arguments.workers, commands)
    else:
        await _ingest(kind, config, EventCounter(*sizes), commands)


async def _ingest(kind: type[Resource], config: Config, counter: EventCounter, commands: asyncio.StreamReader) -> None:
    transport = AiohttpTransport(config, user_agent="benchmark-ours")
    informer = Informer(kind, transport)
    informer.add_handler(counter)
    running = asyncio.create_task(informer.run())
    await _obey(commands, lambda _: None)
    running.cancel()
    await asyncio.wait([running])
    await transport.aclose()


async def _reconcile(
    kind: type[Resource],
    config: Config,
    reconciler: LatencyReconciler,
    workers: int,
    commands: asyncio.StreamReader,
) -> None:
    manager = Manager("benchmark-ours", config, metrics="0", health="0")
    manager.add(Controller(kind, reconciler, concurrency=workers))
    running = asyncio.create_task(manager.run())
    await _obey(commands, reconciler.report)
    manager.stop()
    await running


async def _obey(commands: asyncio.StreamReader, report: Callable[[int], None]) -> None:
    while command := await commands.readline():
        report(int(command.split()[1]))


def main() -> None:
    """Reads the arguments and runs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", required=True, help="base URL of the replay server")
    parser.add_argument("--shape", choices=sorted(SHAPES), required=True)
    parser.add_argument("--objects", type=int, required=True)
    parser.add_argument("--warm-up", type=int, required=True, help="events that are not measured")
    parser.add_argument("--events", type=int, required=True, help="events that are measured, after the warm-up")
    parser.add_argument("--reconcile", action="store_true", help="a Manager with a Controller, not an informer alone")
    parser.add_argument("--workers", type=int, default=8)
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
