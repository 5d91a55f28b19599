"""One run of one side: started, timed until every object was reconciled, left alone with changes, looked at again."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.cluster import Fleet
from benchmarks.opponents import go_program, kopf_python
from benchmarks.processes import Child, Sample, child, sample
from kaito.informers import ListMode

OURS = "ours"
CONTROLLER_RUNTIME = "controller-runtime"
KOPF = "kopf"

_READY_TIMEOUT_S = 60.0
_SYNC_TIMEOUT_S = 600.0
_GC_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What each run does.

    Attributes:
        workers: how many objects are reconciled at once (kopf has a task per object instead).
        churn_s: how long objects change after the sync.
        churn_rate: changes per second.
        status_patch: whether each object's status is patched once.
        list_mode: how our side lists.
    """

    workers: int
    churn_s: float
    churn_rate: float
    status_patch: bool
    list_mode: ListMode


@dataclass(frozen=True, slots=True)
class Measurement:
    """What one run of one side took.

    Attributes:
        seconds: from the start of the manager to the end of the last first reconcile.
        cpu_s: processor time of the side meanwhile.
        api_server_cpu_s: processor time of the API server meanwhile.
        synced_bytes: memory added per object when all were reconciled.
        peak_bytes: the most memory added per object until then.
        churned_bytes: memory added per object after the changes.
        stall_ms: longest stall of the loop by the clock; ours only, as are those that follow.
        stall_cpu_ms: longest stretch of processor time between two turns of the loop.
        gc_before_ms: a full garbage collection before the start: what the imported modules cost.
        gc_ms: the same at the end.
    """

    seconds: float
    cpu_s: float
    api_server_cpu_s: float
    synced_bytes: float
    peak_bytes: float
    churned_bytes: float
    stall_ms: float | None = None
    stall_cpu_ms: float | None = None
    gc_before_ms: float | None = None
    gc_ms: float | None = None


async def measure(side: str, fleet: Fleet, plan: Plan, round_: int) -> Measurement:
    """Runs a side once.

    Args:
        side: which.
        fleet: what it is run against.
        plan: what it does.
        round_: a number that no run before wrote into a status.

    Raises:
        ChildFailed: it did not get through.
    """
    argv = _command(side, fleet, plan, round_ if plan.status_patch else 0)
    async with child(side, argv, fleet.credentials.environment()) as process:
        ready = await process.expect("ready", _READY_TIMEOUT_S)
        process.reset_peak()
        before, server_before = process.sample(), _api_server(fleet)
        process.tell("start")
        said = await process.expect("synced", _SYNC_TIMEOUT_S)
        synced, server_synced = process.sample(), _api_server(fleet)
        await fleet.churn(plan.churn_s, plan.churn_rate)
        churned = process.sample()
        return Measurement(
            seconds=said["seconds"],
            cpu_s=synced.cpu_s - before.cpu_s,
            api_server_cpu_s=server_synced.cpu_s - server_before.cpu_s,
            synced_bytes=(synced.rss - before.rss) / fleet.count,
            peak_bytes=(synced.peak_rss - before.rss) / fleet.count,
            churned_bytes=(churned.rss - before.rss) / fleet.count,
            stall_ms=said.get("stall_ms"),
            stall_cpu_ms=said.get("stall_cpu_ms"),
            gc_before_ms=ready.get("gc_ms"),
            gc_ms=await _gc_ms(process) if side == OURS else None,
        )


def new_round() -> int:
    """A number that no run before wrote, also none of an earlier process."""
    return time.time_ns() // 1_000_000


async def _gc_ms(process: Child) -> float:
    process.tell("gc")
    return float((await process.expect("gc", _GC_TIMEOUT_S))["gc_ms"])


def _api_server(fleet: Fleet) -> Sample:
    return sample(fleet.control_plane.pids["kube-apiserver"])


def _command(side: str, fleet: Fleet, plan: Plan, round_: int) -> Sequence[str]:
    common = [f"--objects={fleet.count}", f"--round={round_}"]
    workers = f"--workers={plan.workers}"
    if side == CONTROLLER_RUNTIME:
        return [str(go_program("controllerruntime")), "sync", *common, workers]
    if side == KOPF:
        return [str(kopf_python()), str(Path(__file__).with_name("kopf_operator.py")), *common]
    account = f"--service-account={fleet.credentials.service_account}"
    mode = f"--list-mode={plan.list_mode}"
    return [sys.executable, "-m", "benchmarks.sync.ours", *common, workers, mode, account]
