"""What is to be done next for a pod, as a kubelet would: a function of the pod, its records and the time."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from kaito.devcluster.process_nodes.pod_records import ContainerRecord, Ended, Records, Running, Waiting, containers_of
from kaito.kube.core_v1 import Pod
from kaito.kube.pod_v1 import Container

PENDING: Final = "Pending"
RUNNING: Final = "Running"
SUCCEEDED: Final = "Succeeded"
FAILED: Final = "Failed"
GONE_GRACE_S: Final = 2.0
"""What a pod gets that was removed without its agent, by --force or with its node."""
DEFAULT_GRACE_S: Final = 30.0
LONGEST_GRACE_S: Final = 1e9


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done now, and when to ask again.

    Attributes:
        starts: containers to start.
        stops: containers to tell to end (SIGTERM).
        kills: containers whose grace is over (SIGKILL).
        wake_at: when time alone changes the plan.
        over: nothing runs, and nothing will.
        ending: the pod is deleted, or its work is done.
    """

    starts: tuple[str, ...] = ()
    stops: tuple[str, ...] = ()
    kills: tuple[str, ...] = ()
    wake_at: datetime | None = None
    over: bool = False
    ending: bool = False


def plan(pod: Pod, records: Records, now: datetime, *, gone: bool = False) -> Plan:
    """Plans.

    Args:
        pod: the pod, as the API server has it.
        records: of all its containers.
        now: the time.
        gone: the pod, or its node, is no more: what runs is to end.
    """
    if is_ending(pod, gone) or phase_of(pod, records) in (SUCCEEDED, FAILED):
        return _winding_down(records, grace_s(pod, gone), now)
    wanted = [(each, records[each.name]) for each in _wanted(pod, records)]
    open_ = [(each, record) for each, record in wanted if _is_to_run(each, record, pod)]
    starts = tuple(each.name for each, record in open_ if record.may_start(now))
    kills, deadlines = _kills(records, now)
    due = [record.retry_at for _, record in open_ if record.retry_at is not None and record.retry_at > now]
    return Plan(starts, (), kills, _earliest([*due, *deadlines]))


def is_ending(pod: Pod, gone: bool) -> bool:
    """Whether nothing of the pod may run any more, whatever it has done so far."""
    return gone or pod.metadata.deletion_timestamp is not None or pod.status.phase in (SUCCEEDED, FAILED)


def grace_s(pod: Pod, gone: bool) -> float:
    """The time that a container has to end; a later deletion may shorten it."""
    asked = pod.spec.termination_grace_period_seconds
    usual = DEFAULT_GRACE_S if asked is None else float(asked)
    deletion = pod.metadata.deletion_grace_period_seconds
    if pod.metadata.deletion_timestamp is not None and deletion is not None:
        usual = float(deletion)
    return min(usual, GONE_GRACE_S) if gone else usual


def phase_of(pod: Pod, records: Records, gone: bool = False) -> str:
    """The pod's phase, by a kubelet's rules."""
    if pod.status.phase in (SUCCEEDED, FAILED):
        return pod.status.phase
    states = [records[each.name].state for each in containers_of(pod)]
    if is_ending(pod, gone) and not any(isinstance(each, Running) for each in states):
        mains = [records[each.name] for each in pod.spec.containers]
        return SUCCEEDED if all(each.succeeded for each in mains) else FAILED
    if not initialized(pod, records):
        return FAILED if _failed_init(pod, records) else PENDING
    return _phase_of_mains(pod, [records[each.name] for each in pod.spec.containers])


def _phase_of_mains(pod: Pod, mains: list[ContainerRecord]) -> str:
    if any(isinstance(each.state, Waiting) and each.last is None for each in mains):
        return PENDING
    if any(isinstance(each.state, Running) for each in mains) or policy_of(pod) == "Always":
        return RUNNING
    ends = [each.state if isinstance(each.state, Ended) else each.last for each in mains]
    if all(end is not None and end.exit_code == 0 for end in ends):
        return SUCCEEDED
    return FAILED if policy_of(pod) == "Never" else RUNNING


def initialized(pod: Pod, records: Records) -> bool:
    """Whether all init containers have done their work; once a main container was started they have."""
    mains = (records[each.name] for each in pod.spec.containers)
    if any(not isinstance(each.state, Waiting) or each.last is not None for each in mains):
        return True
    return not uninitialized(pod, records)


def uninitialized(pod: Pod, records: Records) -> list[str]:
    """The init containers that have work left to do."""
    return [each.name for each in pod.spec.init_containers if not _passed(each, records[each.name])]


def policy_of(pod: Pod) -> str:
    """The pod's restart policy."""
    return pod.spec.restart_policy or "Always"


def is_sidecar(container: Container) -> bool:
    """Whether an init container goes on beside the main ones."""
    return container.restart_policy == "Always"


def restarts(container: Container, pod: Pod, end: Ended) -> bool:
    """Whether a container that ended so is started again."""
    if is_sidecar(container):
        return True
    policy = policy_of(pod)
    if container in pod.spec.init_containers and policy == "Always":
        policy = "OnFailure"
    return policy == "Always" or (policy == "OnFailure" and end.exit_code != 0)


def _is_to_run(container: Container, record: ContainerRecord, pod: Pod) -> bool:
    match record.state:
        case Running():
            return False
        case Ended() as end:
            return restarts(container, pod, end)
        case Waiting():
            return True


def _wanted(pod: Pod, records: Records) -> list[Container]:
    """The containers whose turn it is: inits one after the other, sidecars from theirs on, then all others."""
    sidecars = [each for each in pod.spec.init_containers if is_sidecar(each)]
    if initialized(pod, records):
        return [*sidecars, *pod.spec.containers]
    wanted = []
    for each in pod.spec.init_containers:
        passed = _passed(each, records[each.name])
        if is_sidecar(each) or not passed:
            wanted.append(each)
        if not passed:
            break
    return wanted


def _passed(init: Container, record: ContainerRecord) -> bool:
    if is_sidecar(init):
        return isinstance(record.state, Running) and record.state.started
    return record.succeeded


def _failed_init(pod: Pod, records: Records) -> bool:
    for each in pod.spec.init_containers:
        state = records[each.name].state
        if isinstance(state, Ended) and not restarts(each, pod, state) and state.exit_code != 0:
            return True
    return False


def _winding_down(records: Records, grace: float, now: datetime) -> Plan:
    running = {name: each.state for name, each in records.items() if isinstance(each.state, Running)}
    stops = tuple(name for name, state in running.items() if state.stop is None)
    kills, deadlines = _kills(records, now, grace)
    return Plan((), stops, kills, _earliest(deadlines), over=not running, ending=True)


def _kills(records: Records, now: datetime, grace: float = math.inf) -> tuple[tuple[str, ...], list[datetime]]:
    """Who is to be killed now, and when others will be; an end of the pod only shortens what a stop allows."""
    deadlines = {}
    for name, record in records.items():
        stop = record.state.stop if isinstance(record.state, Running) else None
        if stop is not None and not stop.killed:
            allowed = min(grace, math.inf if stop.grace_s is None else stop.grace_s)
            deadlines[name] = stop.asked_at + timedelta(seconds=min(allowed, LONGEST_GRACE_S))
    kills = tuple(name for name, deadline in deadlines.items() if deadline <= now)
    return kills, [deadline for deadline in deadlines.values() if deadline > now]


def _earliest(moments: Iterable[datetime]) -> datetime | None:
    return min(moments, default=None)
