"""What a process node says of itself: its conditions, addresses, software and, where nobody told, what it has."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Final

from kaito.api.keys import ARCH_LABEL, HOSTNAME_LABEL, OS_LABEL
from kaito.devcluster.process_nodes.addresses import KUBELET_PORT, NODE_ADDRESS
from kaito.devcluster.process_nodes.node_pressure import State, disk_of
from kaito.kube.core_v1 import Node, Taint

_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64"}
_PODS: Final = "110"
_HEALTHY: Final[Mapping[str, State]] = {
    "NetworkUnavailable": ("False", "ProcessNetwork", "pods have addresses of this machine's loopback"),
    "Ready": ("True", "KubeletReady", "the agent of process nodes runs pods as processes of this machine"),
}
_TEMPORARY_TAINTS: Final = ("node.kubernetes.io/not-ready", "node.cloudprovider.kubernetes.io/uninitialized")


def is_known(node: Node, pressures: Mapping[str, State]) -> bool:
    """Whether the API server knows a node as it is: nobody else has written that it is not."""
    told = {condition.type: condition.status for condition in node.status.conditions}
    return all(told.get(name) == status for name, (status, _, _) in {**pressures, **_HEALTHY}.items())


def living(node: Node, pressures: Mapping[str, State], *, version: str, images: Sequence[str]) -> dict[str, Any]:
    """The status of a node that runs pods, as a strategic merge patch.

    Args:
        node: as it is known to the API server; what its capacity says stays.
        pressures: what its machine runs out of.
        version: of Kubernetes.
        images: names that can be run.
    """
    has = machine()
    return {
        "conditions": [_condition(node, name, *state) for name, state in {**pressures, **_HEALTHY}.items()],
        "addresses": [
            {"type": "InternalIP", "address": NODE_ADDRESS},
            {"type": "Hostname", "address": node.metadata.name},
        ],
        "capacity": {**has, **node.status.capacity},
        "allocatable": {**has, **node.status.capacity, **node.status.allocatable},
        "daemonEndpoints": {"kubeletEndpoint": {"Port": KUBELET_PORT}},
        "nodeInfo": _software(version),
        "images": [{"names": [name], "sizeBytes": 0} for name in images],
    }


def stopped(node: Node) -> dict[str, Any]:
    """The same of one whose agent ends."""
    message = "the agent of process nodes was stopped, and all pods with it; start it again"
    return {"conditions": [_condition(node, "Ready", "False", "AgentStopped", message)]}


def lasting_taints(node: Node) -> tuple[Taint, ...]:
    """A node's taints without those that only stand until it works."""
    return tuple(taint for taint in node.spec.taints if taint.key not in _TEMPORARY_TAINTS)


def missing_labels(node: Node) -> dict[str, str]:
    """What a kubelet says of its machine, as far as the node's labels do not have it: selectors go by it."""
    known = {HOSTNAME_LABEL: node.metadata.name, OS_LABEL: platform.system().lower(), ARCH_LABEL: _architecture()}
    return {name: value for name, value in known.items() if name not in node.metadata.labels}


def machine() -> dict[str, str]:
    """What this machine has."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": str(os.cpu_count() or 1),
        "memory": f"{memory // 1024}Ki",
        "ephemeral-storage": f"{disk_of(Path('/')).capacity // 1024}Ki",
        "pods": _PODS,
    }


def _condition(node: Node, name: str, status: str, reason: str, message: str) -> dict[str, Any]:
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    before = next((each for each in node.status.conditions if each.type == name), None)
    condition = {"type": name, "status": status, "reason": reason, "message": message, "lastHeartbeatTime": now}
    if before is None or before.status != status:
        condition["lastTransitionTime"] = now
    return condition


@cache
def _software(version: str) -> Mapping[str, str]:
    return {
        "machineID": _line("/etc/machine-id"),
        "systemUUID": _line("/etc/machine-id"),
        "bootID": _line("/proc/sys/kernel/random/boot_id"),
        "kernelVersion": platform.release(),
        "osImage": _os_image(),
        "containerRuntimeVersion": f"process://{platform.python_version()}",
        "kubeletVersion": version,
        "kubeProxyVersion": "",
        "operatingSystem": platform.system().lower(),
        "architecture": _architecture(),
    }


def _architecture() -> str:
    return _ARCHITECTURES.get(platform.machine(), platform.machine())


def _os_image() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return platform.platform()


def _line(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""
