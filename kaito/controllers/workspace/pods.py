"""A workload's pods: the first thing that keeps them from serving, and the replacement of those of an old revision."""

from __future__ import annotations

import contextlib
import logging
import signal
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kaito.api.kaito_v1beta1 import Workspace
from kaito.client.client import Client
from kaito.client.errors import Conflict, NotFound
from kaito.controllers.machine.node import is_ready
from kaito.controllers.workspace.workload import WORKSPACE_SELECTOR, selector_labels
from kaito.kube.apps_v1 import Deployment, StatefulSet
from kaito.kube.conditions import find
from kaito.kube.core_v1 import ContainerStateTerminated, ContainerStatus, Node, Pod
from kaito.kube.object_key import ObjectKey
from kaito.runtime.owners import controller_of

log = logging.getLogger(__name__)

REVISION_LABEL = "controller-revision-hash"
MAX_QUOTED = 300
"""Characters of what a container said that are repeated."""
ENDED = frozenset({"Succeeded", "Failed"})
"""Phases of pods that hold nothing any more."""
_BY_SIGNAL = 128
"""What a container's exit code has on top of the number of the signal that ended it."""
_SIGNALS = frozenset(int(each) for each in signal.Signals)
_KILLED = _BY_SIGNAL + signal.SIGKILL
_PLAIN_ENDS = frozenset({None, "", "Error", "OOMKilled"})
"""Reasons that go with what the container wrote; with others the node has a word of its own."""
# On the way to running, not a fault.
_UNDER_WAY = frozenset({"ContainerCreating", "PodInitializing"})


@dataclass(frozen=True, slots=True)
class PodPlaces:
    """Which nodes a Workspace's pods are on.

    Attributes:
        staying: nodes of pods that stay.
        leaving: nodes of pods that are on their way out, or have no place in the workload that is wanted.
        settled: whether every pod that stays has its node, or has been found to fit none.
    """

    staying: frozenset[str]
    leaving: frozenset[str]
    settled: bool


async def pods_of(client: Client, workspace: Workspace) -> list[Pod]:
    """The pods of a Workspace, by name."""
    labels = selector_labels(workspace)
    terms = ",".join(f"{name}={labels[name]}" for name in WORKSPACE_SELECTOR)
    found = await client.list(Pod, namespace=workspace.metadata.namespace, labels=terms)
    return sorted(found, key=lambda pod: pod.metadata.name)


async def pod_places(client: Client, workspace: Workspace, count: int) -> PodPlaces:
    """Finds the nodes of a Workspace's pods, seen by a workload of `count` pods."""
    pods = [pod for pod in await pods_of(client, workspace) if pod.status.phase not in ENDED]
    staying = [pod for pod in pods if _stays(pod, count)]
    leaving = _nodes_of(pod for pod in pods if pod not in staying)
    bound = [pod for pod in staying if pod.spec.node_name]
    homeless = not leaving and all(pod.spec.node_name or _is_unschedulable(pod) for pod in staying)
    settled = len(bound) >= count or (len(staying) >= count and homeless)
    return PodPlaces(_nodes_of(bound), leaving, settled)


async def pods_in_the_way(client: Client, workspace: Workspace, count: int) -> list[Pod]:
    """The pods of the other kind of workload that still hold what one of `count` pods needs.

    Those on nodes that are gone or not ready hold nothing: nobody ends them there until the node comes back.
    """
    others = [pod for pod in await pods_of(client, workspace) if _is_of_other_kind(pod, count)]
    return [pod for pod in others if pod.status.phase not in ENDED and await _is_on_a_ready_node(client, pod)]


def workload_fault(applied: Deployment | StatefulSet, pods: Sequence[Pod], replicas: int) -> str | None:
    """Why a workload does not serve yet; None when it does."""
    status = applied.status
    # What is said of an earlier generation is not about the pods that are wanted now.
    is_current = status.observed_generation >= applied.metadata.generation
    ready = min(status.ready_replicas, status.updated_replicas) if is_current else 0
    if ready >= replicas:
        return None
    what = f"{applied.kind} {applied.metadata.name}"
    if isinstance(applied, StatefulSet) and (outdated := outdated_pods(applied, pods)):
        return f"{what}: {len(outdated)} of {replicas} pods run the previous revision; they are replaced together"
    stuck = find(status.conditions, "Progressing") if is_current else None
    told = stuck.message if stuck is not None and stuck.status == "False" else None
    why = first_fault(pods) or told
    return f"{what}: {ready} of {replicas} pods are ready" + (f": {why}" if why else "")


def first_fault(pods: Iterable[Pod]) -> str | None:
    """What is wrong with the first pod with which something is, on its way from scheduling to serving."""
    alive = (pod for pod in pods if pod.metadata.deletion_timestamp is None)
    return next((f"pod {pod.metadata.name}: {fault}" for pod in alive if (fault := _fault(pod)) is not None), None)


def own_fault(pod: Pod) -> str | None:
    """What is wrong with a pod as a whole: no node takes it, or it was ended as one; None: look at its containers."""
    scheduled = find(pod.status.conditions, "PodScheduled")
    if scheduled is not None and scheduled.status == "False":
        return f"is not scheduled: {scheduled.message or scheduled.reason}"
    if pod.status.phase == "Failed" and pod.status.reason:
        return _joined("failed", pod.status.reason, pod.status.message)
    return None


def container_fault(container: ContainerStatus) -> str | None:
    """Why a container does not run, or did not go on running; None: nothing that would not pass by itself."""
    if container.ready:
        return None
    waiting, ended = container.state.waiting, container.state.terminated or container.last_state.terminated
    if ended is not None and (ended.exit_code or container.restart_count):
        return _joined(f"ended{_times(container.restart_count)} with {_end(ended)}", _last_words(ended))
    if waiting is not None and waiting.reason and waiting.reason not in _UNDER_WAY:
        return _joined("does not start", waiting.reason, waiting.message)
    return None


def outdated_pods(stateful_set: StatefulSet, pods: Iterable[Pod]) -> list[Pod]:
    """The pods of a StatefulSet that are not of its newest revision; none while its controller has not said which."""
    status = stateful_set.status
    if status.observed_generation < stateful_set.metadata.generation or not status.update_revision:
        return []
    own = [pod for pod in pods if (owner := controller_of(pod)) and owner.uid == stateful_set.metadata.uid]
    return [pod for pod in own if pod.metadata.labels.get(REVISION_LABEL) != status.update_revision]


async def replace_outdated(client: Client, stateful_set: StatefulSet, pods: Sequence[Pod]) -> int:
    """Deletes all pods of an earlier revision together: halves of a model in two versions cannot serve.

    Returns:
        How many they were.

    Raises:
        NotFound: the StatefulSet is gone.
    """
    if not outdated_pods(stateful_set, pods):
        return 0
    # A cache that lags would call the new pods the old ones.
    live = await client.live.get(StatefulSet, stateful_set.key)
    due = [pod for pod in outdated_pods(live, pods) if pod.metadata.deletion_timestamp is None]
    for pod in due:
        with contextlib.suppress(NotFound, Conflict):
            await client.delete(Pod, pod.key, uid=pod.metadata.uid)
    if due:
        log.info("pods of the previous revision replaced", extra={"workload": str(live.key), "pods": len(due)})
    return len(due)


def _stays(pod: Pod, count: int) -> bool:
    """Whether a pod has a place in the workload of so many pods: a Deployment's one, or a StatefulSet's first."""
    owner = controller_of(pod)
    if pod.metadata.deletion_timestamp is not None or owner is None or owner.kind != _owner_kind(count):
        return False
    ordinal = pod.metadata.name.rpartition("-")[2]
    return count == 1 or (ordinal.isdecimal() and int(ordinal) < count)


def _is_of_other_kind(pod: Pod, count: int) -> bool:
    owner = controller_of(pod)
    return owner is not None and owner.kind in ("ReplicaSet", "StatefulSet") and owner.kind != _owner_kind(count)


def _owner_kind(count: int) -> str:
    return "ReplicaSet" if count == 1 else "StatefulSet"


def _nodes_of(pods: Iterable[Pod]) -> frozenset[str]:
    return frozenset(pod.spec.node_name for pod in pods if pod.spec.node_name)


def _is_unschedulable(pod: Pod) -> bool:
    scheduled = find(pod.status.conditions, "PodScheduled")
    return scheduled is not None and scheduled.status == "False"


async def _is_on_a_ready_node(client: Client, pod: Pod) -> bool:
    if not pod.spec.node_name:
        return False
    try:
        return is_ready(await client.get(Node, ObjectKey(pod.spec.node_name)))
    except NotFound:
        return False


def _fault(pod: Pod) -> str | None:
    if (fault := own_fault(pod)) is not None:
        return fault
    containers = (*pod.status.init_container_statuses, *pod.status.container_statuses)
    faults = ((each.name, container_fault(each)) for each in containers)
    return next((f"container {name} {fault}" for name, fault in faults if fault is not None), None)


def _times(restarts: int) -> str:
    return f" {restarts} times, last" if restarts > 1 else ""


def _last_words(ended: ContainerStateTerminated) -> str | None:
    """The message may be the end of a log; programs say last why they end, unless they were killed."""
    if ended.exit_code == _KILLED and ended.reason in _PLAIN_ENDS:
        return None
    return next((line for line in reversed((ended.message or "").splitlines()) if line.strip()), None)


def _end(ended: ContainerStateTerminated) -> str:
    why = ended.reason
    if why in (None, "", "Error") and ended.exit_code - _BY_SIGNAL in _SIGNALS:
        why = signal.Signals(ended.exit_code - _BY_SIGNAL).name
    return f"exit code {ended.exit_code}" + (f" ({why})" if why else "")


def _joined(*parts: str | None) -> str:
    return ": ".join(_cut(part.strip()) for part in parts if part and part.strip())


def _cut(text: str) -> str:
    return text if len(text) <= MAX_QUOTED else text[: MAX_QUOTED - 1] + "…"
