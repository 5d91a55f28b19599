"""One run of one side: synced from the replay server, then changes of all objects, round after round."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.ingest.measurement import replay_server
from benchmarks.opponents import go_program
from benchmarks.processes import Child, child

OURS = "ours"
CONTROLLER_RUNTIME = "controller-runtime"
SIDES = (OURS, CONTROLLER_RUNTIME)

_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What each run does.

    Attributes:
        objects: how many widgets there are; a round changes each of them once.
        warm_up: rounds before the measured ones.
        rounds: rounds that are measured.
        workers: how many objects are reconciled at once.
    """

    objects: int
    warm_up: int
    rounds: int
    workers: int = 8


@dataclass(frozen=True, slots=True)
class Measurement:
    """What one run of one side took.

    Attributes:
        per_core_s: reconciles per second of processor time of the side's process, of all its threads.
        per_s: reconciles per second by the clock.
        load: of the machine when the run began, over one minute.
    """

    per_core_s: float
    per_s: float
    load: float


async def measure(side: str, plan: Plan) -> Measurement:
    """Runs a side once, against a replay server of its own.

    Raises:
        ChildFailed: the side or the server did not get through.
    """
    load = os.getloadavg()[0]
    async with replay_server("widget", plan.objects) as (server, url), child(side, _command(side, plan, url), {}) as it:
        await it.expect("ready", _TIMEOUT_S)
        it.tell("start")
        await it.expect("reconciled", _TIMEOUT_S)
        for _ in range(plan.warm_up):
            await _round(server, it, plan)
        rounds = [await _round(server, it, plan) for _ in range(plan.rounds)]
        reconciles = plan.objects * plan.rounds
        cpu_s, seconds = (sum(figures) for figures in zip(*rounds, strict=True))
        return Measurement(reconciles / cpu_s, reconciles / seconds, load)


async def _round(server: Child, it: Child, plan: Plan) -> tuple[float, float]:
    """Has each object changed once and reconciled; returns processor time and time of it."""
    began_s = time.perf_counter()
    server.tell(f"replay {plan.objects} 0")
    said = await it.expect("reconciled", _TIMEOUT_S)
    seconds = time.perf_counter() - began_s
    await server.expect("replayed", _TIMEOUT_S)
    return said["cpu_s"], seconds


def _command(side: str, plan: Plan, url: str) -> Sequence[str]:
    argv = [sys.executable, "-m", "benchmarks.reconcile.ours"]
    if side == CONTROLLER_RUNTIME:
        argv = [str(go_program("controllerruntime")), "reconcile"]
    return [*argv, f"--server={url}", f"--objects={plan.objects}", f"--workers={plan.workers}"]
