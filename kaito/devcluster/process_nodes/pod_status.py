"""A pod's status as a kubelet would write it, of its records; without any process."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from kaito.devcluster.process_nodes.addresses import NODE_ADDRESS
from kaito.devcluster.process_nodes.pod_plan import (
    FAILED,
    SUCCEEDED,
    is_ending,
    is_sidecar,
    phase_of,
    restarts,
    uninitialized,
)
from kaito.devcluster.process_nodes.pod_records import (
    LIVES,
    PULL_FAILED,
    ContainerRecord,
    Ended,
    Fate,
    Records,
    Running,
    Waiting,
    containers_of,
)
from kaito.kube.conditions import find
from kaito.kube.core_v1 import (
    ContainerState,
    ContainerStateRunning,
    ContainerStateTerminated,
    ContainerStateWaiting,
    ContainerStatus,
    Pod,
    PodCondition,
)
from kaito.kube.pod_v1 import Container


@dataclass(frozen=True, slots=True)
class Seen:
    """What there is to tell of a pod.

    Attributes:
        records: of all its containers.
        address: the pod's.
        prepared: its volumes are there.
        started_at: since when the agent knows it.
        now: the time.
        fate: what has become of it.
    """

    records: Records
    address: str
    prepared: bool
    started_at: datetime
    now: datetime
    fate: Fate = LIVES


def status_of(pod: Pod, seen: Seen) -> dict[str, Any]:
    """The agent's part of a pod's status, in its wire form."""
    phase = phase_of(pod, seen.records, seen.fate)
    made = {
        "phase": phase,
        "conditions": [each.to_dict() for each in _conditions(pod, seen, phase)],
        "containerStatuses": _statuses(pod, pod.spec.containers, seen),
        "initContainerStatuses": _statuses(pod, pod.spec.init_containers, seen),
        "hostIP": NODE_ADDRESS,
        "hostIPs": [{"ip": NODE_ADDRESS}],
        "startTime": ContainerStateRunning(started_at=pod.status.start_time or seen.started_at).to_dict()["startedAt"],
    }
    verdict = seen.fate.verdict
    if verdict is not None and phase == FAILED:
        said = f"Pod was rejected: {verdict.message}" if verdict.rejected else verdict.message
        made |= {"reason": verdict.reason, "message": said}
    was_rejected = pod.status.phase == FAILED and not pod.status.container_statuses
    if was_rejected or (verdict is not None and verdict.rejected):
        # As with a kubelet: then `kubectl get` shows the reason, and not that a container is about to come.
        made |= {"containerStatuses": [], "initContainerStatuses": []}
    if pod.metadata.generation:
        made["observedGeneration"] = pod.metadata.generation
    if seen.prepared:
        made |= {"podIP": seen.address, "podIPs": [{"ip": seen.address}]}
    return {name: value for name, value in made.items() if value != []}


def changes(pod: Pod, wanted: dict[str, Any]) -> dict[str, Any]:
    """The fields of the wanted status that the pod does not have so."""
    has = pod.status.to_dict()
    changed = {name: value for name, value in wanted.items() if name != "conditions" and has.get(name) != value}
    told = {each["type"]: each for each in has.get("conditions", ())}
    conditions = [each for each in wanted["conditions"] if not _same(told.get(each["type"], {}), each)]
    return changed | ({"conditions": conditions} if conditions else {})


def shown(container: Container, record: ContainerRecord, pod: Pod, seen: Seen) -> ContainerState:
    """What `kubectl describe` says of a container: an end that will be followed by a start is a wait."""
    match record.state:
        case Running() if not record.is_set_up and record.last is None:
            return ContainerState(waiting=_waiting(container, record, Waiting(), pod))
        case Running() as running:
            return ContainerState(running=ContainerStateRunning(started_at=running.started_at))
        case Ended() as end:
            if _backs_off(container, record, end, pod, seen):
                return ContainerState(
                    waiting=ContainerStateWaiting(
                        reason="CrashLoopBackOff", message=crash_message(container.name, record, pod)
                    )
                )
            return ContainerState(terminated=_terminated(end))
        case Waiting() as waiting:
            return ContainerState(waiting=_waiting(container, record, waiting, pod))


def crash_message(name: str, record: ContainerRecord, pod: Pod) -> str:
    """A kubelet's words for a container that waits to be started again."""
    return f"back-off {duration(record.delay_s)} restarting failed container={name} pod={name_of(pod)}"


def name_of(pod: Pod) -> str:
    """How a kubelet names a pod in messages."""
    return f"{pod.metadata.name}_{pod.metadata.namespace}({pod.metadata.uid})"


def duration(seconds: float) -> str:
    """As Go writes it: 10s, 1m20s, 5m0s."""
    minutes, rest = divmod(round(seconds, 3), 60)
    return f"{int(minutes)}m{rest:g}s" if minutes else f"{rest:g}s"


def _waiting(container: Container, record: ContainerRecord, waiting: Waiting, pod: Pod) -> ContainerStateWaiting:
    if not waiting.reason:
        initial = "PodInitializing" if pod.spec.init_containers else "ContainerCreating"
        return ContainerStateWaiting(reason=initial)
    return ContainerStateWaiting(reason=waiting.reason, message=waiting.message)


def pull_back_off(container: Container, waiting: Waiting) -> Waiting:
    """What a failed pull becomes while it waits to be tried again."""
    if waiting.reason not in PULL_FAILED:
        return waiting
    said = f'Back-off pulling image "{container.image}": {waiting.reason}: {waiting.message}'
    return Waiting("ImagePullBackOff", said)


def _backs_off(container: Container, record: ContainerRecord, end: Ended, pod: Pod, seen: Seen) -> bool:
    if is_ending(pod, seen.fate) or not record.delay_s or record.may_start(seen.now):
        return False
    return restarts(container, pod, end)


def _statuses(pod: Pod, containers: Iterable[Container], seen: Seen) -> list[dict[str, Any]]:
    return [_status(each, seen.records[each.name], pod, seen).to_dict() for each in containers]


def _status(container: Container, record: ContainerRecord, pod: Pod, seen: Seen) -> ContainerStatus:
    state, last = shown(container, record, pod, seen), record.last
    if isinstance(record.state, Ended) and state.waiting is not None:
        last = record.state
    running = record.state if isinstance(record.state, Running) else None
    run = running.run if running is not None else _run_of(record)
    image = container.image or ""
    return ContainerStatus(
        name=container.name,
        state=state,
        last_state=ContainerState(terminated=_terminated(last)) if last is not None else ContainerState(),
        ready=_is_ready(container, record, pod),
        restart_count=record.restarts,
        image=image,
        image_id=f"process://{image}" if run else "",
        started=running is not None and running.started,
        container_id=f"process://{run}" if run else None,
        **_resources(container),
    )


def _resources(container: Container) -> dict[str, Any]:
    """What a container was given, which is what it asks for: nothing is enforced, and nothing resized in place."""
    has = container.resources
    given = {"resources": has} if has.requests or has.limits else {}
    return given | ({"allocated_resources": has.requests} if has.requests else {})


def _run_of(record: ContainerRecord) -> str:
    end = record.state if isinstance(record.state, Ended) else record.last
    return end.run if end is not None else ""


def _is_ready(container: Container, record: ContainerRecord, pod: Pod) -> bool:
    if container in pod.spec.init_containers and not is_sidecar(container):
        return record.succeeded
    return isinstance(record.state, Running) and record.state.started and record.state.ready


def _terminated(end: Ended) -> ContainerStateTerminated:
    return ContainerStateTerminated(
        exit_code=end.exit_code,
        reason=end.reason or None,
        message=end.message or None,
        started_at=end.started_at,
        finished_at=end.finished_at,
        container_id=f"process://{end.run}" if end.run else None,
    )


def _conditions(pod: Pod, seen: Seen, phase: str) -> Sequence[PodCondition]:
    unready = [
        each.name
        for each in containers_of(pod)
        if (each in pod.spec.containers or is_sidecar(each)) and not _is_ready(each, seen.records[each.name], pod)
    ]
    open_ = uninitialized(pod, seen.records)
    initialized = ("True", "", "") if not open_ else _unmet("ContainersNotInitialized", "incomplete", open_)
    ready = ("True", "", "") if not unready else _unmet("ContainersNotReady", "unready", unready)
    if phase == SUCCEEDED:
        initialized, ready = ("True", "PodCompleted", ""), ("False", "PodCompleted", "")
    elif phase == FAILED:
        ready = ("False", "PodFailed", "")
    gates = _closed_gates(pod)
    told = {
        "PodReadyToStartContainers": (
            "True" if seen.prepared and phase not in (SUCCEEDED, FAILED) else "False",
            "",
            "",
        ),
        "Initialized": initialized,
        "Ready": ("False", "ReadinessGatesNotReady", gates) if gates and ready[0] == "True" else ready,
        "ContainersReady": ready,
    }
    if find(pod.status.conditions, "PodScheduled") is None:
        told["PodScheduled"] = ("True", "", "")
    return [_condition(pod, name, *each, seen.now) for name, each in told.items()]


def _closed_gates(pod: Pod) -> str:
    """Which readiness gates keep a pod from being ready, in a kubelet's words."""
    said = []
    for gate in pod.spec.readiness_gates:
        name = gate["conditionType"]
        condition = find(pod.status.conditions, name)
        if condition is None:
            said.append(f'corresponding condition of pod readiness gate "{name}" does not exist.')
        elif condition.status != "True":
            said.append(f'the status of pod readiness gate "{name}" is not "True", but {condition.status}')
    return ", ".join(said)


def _unmet(reason: str, which: str, names: Sequence[str]) -> tuple[str, str, str]:
    return ("False", reason, f"containers with {which} status: [{' '.join(names)}]")


def _condition(pod: Pod, name: str, status: str, reason: str, message: str, now: datetime) -> PodCondition:
    old = find(pod.status.conditions, name)
    since = old.last_transition_time if old is not None and old.status == status else None
    return PodCondition(type=name, status=status, last_transition_time=since or now, reason=reason, message=message)


def _same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two conditions say the same; the API server drops a text that is empty."""
    return all(
        (one.get(name) or "") == (other.get(name) or "")
        for name in {*one, *other} - {"observedGeneration", "lastProbeTime"}
    )
