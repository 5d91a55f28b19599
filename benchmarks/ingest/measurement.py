"""One run of one side: synced from the replay server, warmed up, then measured while events come."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from benchmarks.opponents import go_program
from benchmarks.processes import Child, child

OURS = "ours"
CONTROLLER_RUNTIME = "controller-runtime"
SIDES = (OURS, CONTROLLER_RUNTIME)

_READY_TIMEOUT_S = 120.0
_SYNC_TIMEOUT_S = 120.0
# Beyond the time for which the events last: a side that falls behind is to be measured, not cut off.
_LATE_S = 120.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What each run does.

    Attributes:
        shape: which objects, see `objects.SHAPES`.
        objects: how many.
        warm_up: events before the measured ones; a multiple of `objects`.
        events: events that are measured; a multiple of `objects`.
        rate: events per second; 0 for as fast as the side reads.
        reconcile: a manager with a controller; otherwise an informer alone.
        workers: how many objects are reconciled at once.
    """

    shape: str
    objects: int
    warm_up: int
    events: int
    rate: float = 0.0
    reconcile: bool = False
    workers: int = 8


@dataclass(frozen=True, slots=True)
class Measurement:
    """What one run of one side took.

    Attributes:
        cpu_us: processor time of the side's process per event, of all its threads, in microseconds.
        load: of the machine when the run began, over one minute.
        p50_ms: median of the time from when an event was due to its reconcile; of a `reconcile` plan only.
        p99_ms: its 99th percentile.
        max_ms: its maximum.
        backlog: events that were not reconciled yet when the last one was due.
        reconciles: events that were reconciled in a version of their own; the others were overtaken in the queue.
    """

    cpu_us: float
    load: float
    p50_ms: float | None = None
    p99_ms: float | None = None
    max_ms: float | None = None
    backlog: float | None = None
    reconciles: float | None = None


async def measure(side: str, plan: Plan) -> Measurement:
    """Runs a side once, against a replay server of its own.

    Raises:
        ChildFailed: the side or the server did not get through.
    """
    load = os.getloadavg()[0]
    async with (
        replay_server(plan.shape, plan.objects) as (server, url),
        child(side, _command(side, plan, url), {}) as process,
    ):
        await process.expect("ready", _READY_TIMEOUT_S)
        process.tell("start")
        await process.expect("synced", _SYNC_TIMEOUT_S)
        await _replay(server, process, "warm", plan.warm_up, plan.rate)
        ended_ns, cpu_s = await _replay(server, process, "done", plan.events, plan.rate)
        cpu_us = cpu_s / plan.events * 1e6
        if not plan.reconcile:
            return Measurement(cpu_us, load)
        process.tell(f"report {ended_ns}")
        said = await process.expect("report", _LATE_S)
        return Measurement(cpu_us, load, **{name: said[name] for name in said if name != "event"})


async def _replay(server: Child, process: Child, event: str, events: int, rate: float) -> tuple[int, float]:
    """Has events sent; returns when the last was due and the processor time that the side took for all."""
    timeout_s = _LATE_S + (events / rate if rate else 0.0)
    server.tell(f"replay {events} {rate}")
    said = await process.expect(event, timeout_s)
    replayed = await server.expect("replayed", timeout_s)
    return replayed["ended_ns"], said["cpu_s"]


@asynccontextmanager
async def replay_server(shape: str, objects: int) -> AsyncIterator[tuple[Child, str]]:
    """Starts a replay server (see `benchmarks.ingest.server`) with so many objects; gives it and its URL."""
    argv = [sys.executable, "-m", "benchmarks.ingest.server", f"--shape={shape}", f"--objects={objects}"]
    async with child("replay server", argv, {}) as server:
        port = (await server.expect("ready", _READY_TIMEOUT_S))["port"]
        yield server, f"http://127.0.0.1:{port}"


def _command(side: str, plan: Plan, url: str) -> Sequence[str]:
    argv = [sys.executable, "-m", "benchmarks.ingest.ours"]
    if side == CONTROLLER_RUNTIME:
        argv = [str(go_program("controllerruntime")), "ingest"]
    sizes = [f"--objects={plan.objects}", f"--warm-up={plan.warm_up}", f"--events={plan.events}"]
    argv += [f"--server={url}", f"--shape={plan.shape}", *sizes]
    return [*argv, "--reconcile", f"--workers={plan.workers}"] if plan.reconcile else argv
