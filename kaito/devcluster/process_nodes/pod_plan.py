"""What is to be done next for a pod, as a kubelet would: a function of the pod, its records and the time."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from kaito.devcluster.process_nodes.hooks import HookKind, hook_of
from kaito.devcluster.process_nodes.pod_records import (
    LIVES,
    ContainerRecord,
    Ended,
    Fate,
    Records,
    Running,
    Stop,
    Verdict,
    Waiting,
    containers_of,
)
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
AFTER_HOOK_S: Final = 2.0
"""What a container gets at least between SIGTERM and SIGKILL when its preStop hook has used up its grace."""
DEADLINE: Final = Verdict("DeadlineExceeded", "Pod was active on the node longer than the specified deadline")
"""Of a pod with activeDeadlineSeconds."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done now, and when to ask again.

    Attributes:
        starts: containers to start.
        stops: containers to end: their preStop hook, then SIGTERM.
        tells: containers whose preStop hook has had its time (SIGTERM).
        kills: containers whose grace is over (SIGKILL).
        wake_at: when time alone changes the plan.
        over: nothing runs, and nothing will.
        ending: the pod is deleted, or its work is done.
    """

    starts: tuple[str, ...] = ()
    stops: tuple[str, ...] = ()
    tells: tuple[str, ...] = ()
    kills: tuple[str, ...] = ()
    wake_at: datetime | None = None
    over: bool = False
    ending: bool = False


def plan(pod: Pod, records: Records, now: datetime, fate: Fate = LIVES) -> Plan:
    """Plans.

    Args:
        pod: the pod, as the API server has it.
        records: of all its containers.
        now: the time.
        fate: what else has become of it.
    """
    if is_ending(pod, fate) or phase_of(pod, records) in (SUCCEEDED, FAILED):
        return _winding_down(pod, records, grace_s(pod, fate.gone), now)
    wanted = _before_hooks([(each, records[each.name]) for each in _wanted(pod, records)])
    open_ = [(each, record) for each, record in wanted if _is_to_run(each, record, pod)]
    starts = _up_to_hook([each for each, record in open_ if record.may_start(now)])
    # Of a pod whose node was gone for a moment, containers are ending though it is not.
    ends = _ends(records, now, usual=grace_s(pod, False))
    due = [record.retry_at for _, record in open_ if record.retry_at is not None and record.retry_at > now]
    return Plan(starts, (), ends.tells, ends.kills, _earliest([*due, *ends.later]))


def deadline_of(pod: Pod, started_at: datetime) -> datetime | None:
    """When a pod has been active for long enough; None if it may be forever.

    Args:
        pod: which.
        started_at: since when, if its status does not say.
    """
    seconds = pod.spec.active_deadline_seconds
    if seconds is None or is_ending(pod, LIVES):
        return None
    return (pod.status.start_time or started_at) + timedelta(seconds=seconds)


def is_ending(pod: Pod, fate: Fate) -> bool:
    """Whether nothing of the pod may run any more, whatever it has done so far."""
    return fate.ends or pod.metadata.deletion_timestamp is not None or pod.status.phase in (SUCCEEDED, FAILED)


def grace_s(pod: Pod, gone: bool) -> float:
    """The time that a container has to end; a later deletion may shorten it."""
    asked = pod.spec.termination_grace_period_seconds
    usual = DEFAULT_GRACE_S if asked is None else float(asked)
    deletion = pod.metadata.deletion_grace_period_seconds
    if pod.metadata.deletion_timestamp is not None and deletion is not None:
        usual = float(deletion)
    return min(usual, GONE_GRACE_S) if gone else usual


def phase_of(pod: Pod, records: Records, fate: Fate = LIVES) -> str:
    """The pod's phase, by a kubelet's rules."""
    if pod.status.phase in (SUCCEEDED, FAILED):
        return pod.status.phase
    states = [records[each.name].state for each in containers_of(pod)]
    if is_ending(pod, fate) and not any(isinstance(each, Running) for each in states):
        if fate.verdict is not None:
            return FAILED
        mains = [records[each.name] for each in pod.spec.containers]
        return SUCCEEDED if all(each.succeeded for each in mains) else FAILED
    if not initialized(pod, records):
        return FAILED if _failed_init(pod, records) else PENDING
    return _phase_of_mains(pod, [records[each.name] for each in pod.spec.containers])


def _phase_of_mains(pod: Pod, mains: list[ContainerRecord]) -> str:
    if any((isinstance(each.state, Waiting) or not each.is_set_up) and each.last is None for each in mains):
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


def _before_hooks(wanted: list[tuple[Container, ContainerRecord]]) -> list[tuple[Container, ContainerRecord]]:
    """Those up to the first whose postStart hook is running: the next ones wait for it, as a kubelet's do."""
    held = (place for place, (_, record) in enumerate(wanted) if not record.is_set_up)
    return wanted[: next(held, len(wanted))]


def _up_to_hook(starts: list[Container]) -> tuple[str, ...]:
    """The names of those that may start together: none beside one whose hook is yet to run."""
    hooked = (place for place, each in enumerate(starts, 1) if hook_of(each, HookKind.POST_START) is not None)
    return tuple(each.name for each in starts[: next(hooked, len(starts))])


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


def _winding_down(pod: Pod, records: Records, grace: float, now: datetime) -> Plan:
    running = {name: each.state for name, each in records.items() if isinstance(each.state, Running)}
    sidecars = [each.name for each in pod.spec.init_containers if is_sidecar(each) and each.name in running]
    # Sidecars serve the others to their end, and those before them: the last to start is the first of them to go.
    waiting = sidecars if len(sidecars) < len(running) else sidecars[:-1]
    stops = tuple(name for name, state in running.items() if state.stop is None and name not in waiting)
    ends = _ends(records, now, grace)
    return Plan((), stops, ends.tells, ends.kills, _earliest(ends.later), over=not running, ending=True)


@dataclass(frozen=True, slots=True)
class _Ends:
    tells: tuple[str, ...]
    kills: tuple[str, ...]
    later: tuple[datetime, ...]


def _ends(records: Records, now: datetime, grace: float = math.inf, usual: float = math.inf) -> _Ends:
    """Whose time is over now, and when that of others will be.

    Args:
        records: of all containers.
        now: the time.
        grace: the most that any gets, of a pod that ends; it only shortens what a stop allows.
        usual: what a stop allows that does not say.
    """
    moments: dict[str, datetime] = {}
    held = set()
    for name, record in records.items():
        stop = record.state.stop if isinstance(record.state, Running) else None
        if stop is not None and not stop.killed:
            moments[name] = _over_at(stop, min(grace, usual if stop.grace_s is None else stop.grace_s))
            if stop.held:
                held.add(name)
    due = [name for name, moment in moments.items() if moment <= now]
    return _Ends(
        tells=tuple(name for name in due if name in held),
        kills=tuple(name for name in due if name not in held),
        later=tuple(moment for moment in moments.values() if moment > now),
    )


def _over_at(stop: Stop, allowed: float) -> datetime:
    over_at = stop.asked_at + timedelta(seconds=min(allowed, LONGEST_GRACE_S))
    return over_at if stop.told_at is None else max(over_at, stop.told_at + timedelta(seconds=AFTER_HOOK_S))


def _earliest(moments: Iterable[datetime]) -> datetime | None:
    return min(moments, default=None)
