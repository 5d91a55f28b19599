"""Workloads, pods and containers as parts of the tree; pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TypeVar

from kaito.cli.explain.seen import Seen, duration, happened_at
from kaito.cli.explain.supply import PATIENCE_S
from kaito.cli.explain.tree import LogSource, Mark, Part
from kaito.controllers.workspace.pods import ENDED, container_fault, own_fault
from kaito.kube.apps_v1 import Deployment, ReplicaSet, StatefulSet
from kaito.kube.conditions import find
from kaito.kube.core_v1 import Container, ContainerStatus, Pod
from kaito.kube.resource import Resource
from kaito.runtime.owners import controller_of

R = TypeVar("R", bound=Resource)

_PULLING = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"})
_NO_PROGRAM = frozenset({126, 127})
_SIGKILL = 137
_HOLDS_UP = frozenset({"FailedMount", "FailedAttachVolume", "FailedMapVolume", "FailedCreatePodSandBox"})
_LONG_AGO = datetime.min.replace(tzinfo=UTC)


def workload_parts(seen: Seen, *, supplied: bool) -> tuple[Part, ...]:
    """The workloads with their pods, and pods that belong to none any more.

    Args:
        seen: what was found.
        supplied: whether all nodes are there; if not, a pod without a node just waits for it.
    """
    parts = [_workload(seen, workload, supplied) for workload in seen.workloads]
    owners = {each.metadata.uid for each in (*seen.workloads, *seen.replica_sets)}
    strays = [pod for pod in seen.pods if (owner := controller_of(pod)) is None or owner.uid not in owners]
    if why := seen.needs("deployments.apps", "statefulsets.apps") if not parts else "":
        parts.append(Part("Deployment", "?", Mark.UNKNOWN, why).holding(*_withheld_pods(seen)))
    return (*parts, *(_pod(seen, pod, supplied) for pod in strays))


def _workload(seen: Seen, workload: Deployment | StatefulSet, supplied: bool) -> Part:
    replicas = 1 if workload.spec.replicas is None else workload.spec.replicas
    ready = workload.status.ready_replicas
    mark = Mark.OK if ready >= replicas else Mark.UNDER_WAY
    part = Part(workload.kind, workload.metadata.name, mark, f"{ready} of {replicas} pods are ready")
    sets = [each for each in _owned(seen.replica_sets, workload) if each.spec.replicas or _owned(seen.pods, each)]
    below = [_replica_set(seen, each, supplied) for each in sets]
    below += [_pod(seen, pod, supplied) for pod in _owned(seen.pods, workload)]
    stuck = find(workload.status.conditions, "Progressing")
    if not sets:
        below += _withheld_pods(seen)
    if not below and stuck is not None and stuck.status == "False":
        advice = f"kubectl describe {workload.kind.lower()} {part.name} tells more"
        return Part(part.kind, part.name, Mark.FAILED, f"{part.says}: {stuck.message or stuck.reason}", advice)
    return part.holding(*below)


def _withheld_pods(seen: Seen) -> list[Part]:
    why = seen.needs("pods")
    return [Part("Pod", "?", Mark.UNKNOWN, why)] if why else []


def _replica_set(seen: Seen, replica_set: ReplicaSet, supplied: bool) -> Part:
    name, pods = replica_set.metadata.name, _owned(seen.pods, replica_set)
    failure = find(replica_set.status.conditions, "ReplicaFailure")
    if failure is not None and failure.status == "True" and not pods:
        advice = "the API server refuses its pods: what it says names the quota, policy or webhook to change"
        return Part("ReplicaSet", name, Mark.FAILED, f"makes no pods: {failure.message or failure.reason}", advice)
    wanted, ready = replica_set.spec.replicas or 0, replica_set.status.ready_replicas
    part = Part("ReplicaSet", name, Mark.OK if ready >= wanted else Mark.UNDER_WAY, f"{ready} of {wanted} are ready")
    return part.holding(*(_pod(seen, pod, supplied) for pod in pods), *_withheld_pods(seen))


def _owned(objects: Iterable[R], owner: Resource) -> list[R]:
    uid = owner.metadata.uid
    return [each for each in objects if (found := controller_of(each)) is not None and found.uid == uid]


def _pod(seen: Seen, pod: Pod, supplied: bool) -> Part:
    name = pod.metadata.name
    if pod.metadata.deletion_timestamp is not None:
        return _ending(seen, pod)
    fault = own_fault(pod)
    if fault is not None and not pod.spec.node_name:
        mark = Mark.FAILED if supplied else Mark.UNDER_WAY
        return Part("Pod", name, mark, fault, _place_advice(fault) if supplied else "")
    if fault is not None:
        return Part(
            "Pod", name, Mark.FAILED, fault, f"kubectl describe pod {name} tells more; a new one takes its place"
        )
    if (fault := _held_up(seen, pod)) is not None:
        advice = "make what it names, or mend it; the pod then starts by itself"
        return Part("Pod", name, Mark.FAILED, f"does not start: {fault}", advice)
    ready = find(pod.status.conditions, "Ready")
    if ready is not None and ready.status == "True":
        part = Part("Pod", name, Mark.OK, f"ready{seen.lasting(ready.last_transition_time)}")
    else:
        where = f" on {pod.spec.node_name}" if pod.spec.node_name else ", waits for the scheduler"
        part = Part("Pod", name, Mark.UNDER_WAY, f"{pod.status.phase or 'Pending'}{where}")
    return part.holding(*_containers(seen, pod))


def _ending(seen: Seen, pod: Pod) -> Part:
    """A pod that was deleted; its time of deletion is when it has to be gone."""
    over = seen.age(pod.metadata.deletion_timestamp)
    if over <= PATIENCE_S:
        return Part("Pod", pod.metadata.name, Mark.UNDER_WAY, "is being ended")
    says = f"should have ended {duration(over)} ago"
    advice = f"is its node {pod.spec.node_name} alive? If it never comes back: kubectl delete pod --force"
    return Part("Pod", pod.metadata.name, Mark.FAILED, says, advice)


def _held_up(seen: Seen, pod: Pod) -> str | None:
    """What the kubelet says of a pod for whose containers it cannot make a place; only events have it."""
    statuses = (*pod.status.init_container_statuses, *pod.status.container_statuses)
    if any(each.state.waiting is None or each.last_state.terminated for each in statuses) or pod.status.phase in ENDED:
        return None
    told = [each for each in seen.events if each.regarding.uid == pod.metadata.uid and each.reason in _HOLDS_UP]
    last = max(told, key=lambda event: happened_at(event) or _LONG_AGO, default=None)
    return f"{last.reason}: {' '.join(last.note.split())}" if last is not None else None


def _place_advice(fault: str) -> str:
    if "Insufficient" in fault:
        return "other pods hold what it asks for: kubectl describe nodes shows which; end them, or add a node"
    if "affinity" in fault or "selector" in fault:
        return "no node has the labels that resource.labelSelector asks for: label one, or correct the selector"
    if "taint" in fault:
        return "take the taint that is named off the node, or find out why it is there"
    if "unschedulable" in fault:
        return "the node is cordoned: kubectl uncordon NODE, once whoever cordoned it is done"
    return "what the scheduler says names what the nodes lack"


def _containers(seen: Seen, pod: Pod) -> list[Part]:
    init = {each.name: each for each in pod.status.init_container_statuses}
    main = {each.name: each for each in pod.status.container_statuses}
    first = [each for each in pod.spec.init_containers if each.name in init]
    then = [each for each in pod.spec.containers if each.name in main]
    parts = [_container(seen, pod, each, init[each.name], "init") for each in first]
    return parts + [_container(seen, pod, each, main[each.name], "") for each in then]


def _container(seen: Seen, pod: Pod, wanted: Container, status: ContainerStatus, role: str) -> Part:
    kind = f"{role} container".strip()
    if (fault := container_fault(status)) is not None:
        source = None if _never_ran(status) else LogSource(pod.metadata.name, status.name, _tells_of_last_run(status))
        run = status.state.running
        again = f"; runs again{seen.lasting(run.started_at)}" if run is not None else ""
        return Part(kind, status.name, Mark.FAILED, f"{fault}{again}", _advice(wanted, status, role), log=source)
    mark, says = _state(seen, wanted, status, role)
    advice, source = "", None
    if mark is not Mark.OK and status.state.running is not None:
        source = LogSource(pod.metadata.name, status.name)
    if mark is Mark.FAILED:
        advice = "it ran well before: its log, and the events, say what has changed"
    return Part(kind, status.name, mark, says, advice, log=source)


def _state(seen: Seen, wanted: Container, status: ContainerStatus, role: str) -> tuple[Mark, str]:
    state = status.state
    if state.terminated is not None:
        return Mark.OK, "done"
    if state.running is None:
        reason = state.waiting.reason if state.waiting is not None else None
        said = "waits for the init containers" if reason == "PodInitializing" and not role else reason
        return Mark.UNDER_WAY, said or "not started yet"
    lasting = seen.lasting(state.running.started_at)
    if role:
        return (Mark.OK, f"runs{lasting}") if status.ready else (Mark.UNDER_WAY, f"at work{lasting}")
    if status.ready:
        return Mark.OK, f"serves, runs{lasting}"
    if status.started is False or seen.age(state.running.started_at) <= PATIENCE_S:
        return Mark.UNDER_WAY, f"has been loading the model{lasting}{_allowed(wanted)}"
    return Mark.FAILED, f"runs{lasting}, and its readiness probe does not pass any more"


def _allowed(container: Container) -> str:
    probe = container.startup_probe
    if probe is None or not probe.failure_threshold:
        return ""
    allowed_s = (probe.initial_delay_seconds or 0) + probe.failure_threshold * (probe.period_seconds or 10)
    return f" of the {duration(allowed_s)} that it is given"


def _never_ran(status: ContainerStatus) -> bool:
    return status.state.waiting is not None and status.last_state.terminated is None


def _tells_of_last_run(status: ContainerStatus) -> bool:
    return status.state.terminated is None and status.last_state.terminated is not None


def _advice(container: Container, status: ContainerStatus, role: str) -> str:
    ended = status.state.terminated or status.last_state.terminated
    reason = status.state.waiting.reason if status.state.waiting is not None else ""
    if reason in _PULLING:
        return (
            f"see that the image {container.image} exists, and that the cluster may pull it; which one it is says "
            f"kaito manager --inference-image"
        )
    if ended is None:
        return "what it says names the Secret, ConfigMap or volume that is missing; make it"
    if ended.reason == "OOMKilled":
        return "it needs more memory than it has: choose a larger resource.instanceType, or a smaller model"
    if ended.exit_code in _NO_PROGRAM:
        return f"the image {container.image} has not the program that it is to run; is it an inference image?"
    if ended.exit_code == _SIGKILL:
        return "somebody killed it: a liveness probe that failed (see the events), or a node short of memory"
    if role:
        return "its log says why; for an adapter, correct its source.image and imagePullSecrets"
    return "its log says why"
