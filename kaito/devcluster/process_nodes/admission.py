"""Admission: whether a node has room for a pod that was bound to it, as a kubelet asks before it starts anything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

from kaito.devcluster.process_nodes import node_status
from kaito.devcluster.process_nodes.pod_plan import FAILED, SUCCEEDED, is_sidecar
from kaito.devcluster.process_nodes.pod_records import Verdict
from kaito.kube.core_v1 import Node, Pod
from kaito.kube.quantity import Quantity

_PODS: Final = "pods"


def is_new(pod: Pod) -> bool:
    """Whether no agent has taken a pod in yet; what one has, stays."""
    return pod.status.start_time is None and pod.metadata.deletion_timestamp is None


def refusal(pod: Pod, node: Node, others: Iterable[Pod]) -> Verdict | None:
    """Why a pod cannot be on a node; None if it can.

    What a node says nothing of is not asked of it, except what this machine has anyway (cpu, memory, disk, pods).
    Selectors, taints and ports of the host are the scheduler's, and not looked at again.

    Args:
        pod: which.
        node: has room for what its status says to be allocatable.
        others: pods that were taken in; those of other nodes, and those that have ended, do not count.
    """
    has = {**node_status.machine(), **node.status.capacity, **node.status.allocatable}
    used: Counter[str] = Counter()
    for other in others:
        if other.spec.node_name == pod.spec.node_name and other.status.phase not in (SUCCEEDED, FAILED):
            used.update(requests_of(other))
    for name, wanted in requests_of(pod).items():
        room = _amount(name, has[name]) if name in has else None
        if room is not None and wanted and used[name] + wanted > room:
            figures = f"requested: {wanted}, used: {used[name]}, capacity: {room}"
            return Verdict(f"OutOf{name}", f"Node didn't have enough resource: {name}, {figures}", rejected=True)
    return None


def requests_of(pod: Pod) -> dict[str, int]:
    """What a pod asks for in all, cpu in thousandths: the most that its containers ask for at the same time."""
    beside: Counter[str] = Counter()
    peak: Counter[str] = Counter()
    for each in pod.spec.init_containers:
        wanted = _amounts(each.resources.requests)
        peak |= beside + wanted
        if is_sidecar(each):
            beside += wanted
    for each in pod.spec.containers:
        beside += _amounts(each.resources.requests)
    total = (peak | beside) + _amounts(pod.spec.overhead)
    return {_PODS: 1, **total}


def _amounts(requests: Mapping[str, str]) -> Counter[str]:
    return Counter({name: _amount(name, text) for name, text in requests.items()})


def _amount(name: str, text: str) -> int:
    quantity = Quantity.parse(text)
    return quantity.milli() if name == "cpu" else int(quantity)
