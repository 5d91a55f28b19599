"""Cluster: what a user and a judge do with a cluster on which the operator works."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml

from kaito.api.kaito_v1beta1 import Workspace
from kaito.api.karpenter_v1 import NodeClaim
from kaito.api.karpenter_v1alpha5 import Machine
from kaito.api.text_rules import PLACEHOLDER
from kaito.client import Client
from kaito.client.errors import NotFound
from kaito.controllers.claims import Claim
from kaito.devcluster.controlplane import ControlPlane
from kaito.kube.apps_v1 import Deployment, StatefulSet
from kaito.kube.conditions import find
from kaito.kube.core_v1 import Node, Pod, Service
from kaito.kube.object_key import ObjectKey
from kaito.kube.resource import Resource
from kaito.testing import eventually

R = TypeVar("R", bound=Resource)

EXAMPLES = Path(__file__).parents[2] / "examples"
CRDS = Path(__file__).parents[2] / "deploy" / "crds"
PHI_3 = "inference/kaito_workspace_phi_3.yaml"
PHI_3_WITH_ADAPTERS = "inference/kaito_workspace_phi_3_with_adapters.yaml"
TUNING = ("tuning/kaito_workspace_tuning_phi_3_4k.yaml", "tuning/kaito_workspace_tuning_phi_3_128k.yaml")
SETTLE_TIMEOUT_S = 60.0
READY = ("ResourceReady", "InferenceReady", "WorkspaceReady")
_REPLACED = {
    "ACR_REPO_HERE": "myregistry",
    "ADAPTER_HERE": "phi-3-adapter",
    "SUPPORT_ADAPTER_HERE": "support",
    "STYLE_ADAPTER_HERE": "style",
    "IMAGE_NAME_HERE": "tuned",
    "DATA_IMAGE_NAME_HERE": "data",
    "ACR_REGISTRY_SECRET_HERE": "registry",
    "MODEL_ACCESS_SECRET_HERE": "hugging-face",
}


def manifest(name: str) -> str:
    """An example, to the letter."""
    return (EXAMPLES / name).read_text(encoding="utf-8")


def filled_in(name: str) -> str:
    """An example with the names in capitals replaced."""
    return re.sub(PLACEHOLDER, lambda found: _REPLACED[found[0]], manifest(name))


def workspace(name: str, **changes: Any) -> dict[str, Any]:
    """The smallest Workspace, as JSON: its own label, phi-3-mini on a V100.

    Args:
        name: its name.
        changes: `preset`, `instance_type`, `count`.
    """
    resource = {
        "instanceType": changes.get("instance_type", "Standard_NC6s_v3"),
        "labelSelector": {"matchLabels": {"apps": changes.get("label", name)}},
        "count": changes.get("count", 1),
    }
    return {
        "apiVersion": "kaito.sh/v1beta1",
        "kind": "Workspace",
        "metadata": {"name": name},
        "resource": {field: value for field, value in resource.items() if value},
        "inference": {"preset": {"name": changes.get("preset", "phi-3-mini-4k-instruct")}},
    }


async def install_crds(plane: ControlPlane) -> None:
    """Makes the API server know our kinds."""
    await plane.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(CRDS))
    await plane.kubectl("wait", "crd", "--all", "--for=condition=Established", "--timeout=30s")


class Cluster:
    """A namespace of a cluster, and the cluster-wide objects that were made for it.

    Args:
        plane: the control plane.
        client: live.
        namespace: where Workspaces are.
    """

    def __init__(self, plane: ControlPlane, client: Client, namespace: str) -> None:
        self.plane = plane
        self.client = client
        self.namespace = namespace

    async def kubectl(self, *arguments: str, text: str | None = None) -> str:
        """Runs kubectl in the namespace."""
        return await self.plane.kubectl("--namespace", self.namespace, *arguments, input=text)

    async def apply(self, *objects: str | Mapping[str, Any]) -> None:
        """kubectl apply -f -"""
        texts = [each if isinstance(each, str) else yaml.safe_dump(dict(each)) for each in objects]
        await self.kubectl("apply", "-f", "-", text="\n---\n".join(texts))

    def key(self, name: str) -> ObjectKey:
        """The key of a namespaced object."""
        return ObjectKey(name, self.namespace)

    async def find(self, kind: type[R], name: str) -> R | None:
        """An object, or None."""
        namespace = self.namespace if kind.resource_type.namespaced else None
        try:
            return await self.client.get(kind, ObjectKey(name, namespace))
        except NotFound:
            return None

    async def get(self, kind: type[R], name: str) -> R:
        """An object that must be there."""
        found = await self.find(kind, name)
        assert found is not None, f"there is no {kind.__name__} {name}"
        return found

    async def claims(self, name: str = "", kind: type[Machine] | type[NodeClaim] = Machine) -> list[Claim]:
        """The claims of the namespace's Workspaces, or of one."""
        labels = f"kaito.sh/workspacenamespace={self.namespace}" + (f",kaito.sh/workspace={name}" if name else "")
        return [*await self.client.list(kind, labels=labels)]

    async def nodes(self, name: str = "") -> list[Node]:
        """The nodes that claims of the namespace's Workspaces, or of one, brought."""
        labels = f"kaito.sh/workspacenamespace={self.namespace}" + (f",kaito.sh/workspace={name}" if name else "")
        return [*await self.client.list(Node, labels=labels)]

    async def pods(self, name: str) -> list[Pod]:
        """The pods of a Workspace."""
        return [*await self.client.list(Pod, namespace=self.namespace, labels=f"kaito.sh/workspace={name}")]

    async def ready(self, name: str, timeout_s: float = SETTLE_TIMEOUT_S) -> Workspace:
        """Waits until a Workspace's three conditions are True."""
        await self.all_ready([name], timeout_s)
        return await self.get(Workspace, name)

    async def all_ready(self, names: Iterable[str], timeout_s: float = SETTLE_TIMEOUT_S) -> None:
        """Waits until the three conditions of all these Workspaces are True."""
        wanted = set(names)

        async def probe() -> bool:
            found = await self.client.list(Workspace, namespace=self.namespace)
            by_name = {each.metadata.name: told(each) for each in found}
            waiting = {
                name: by_name.get(name) for name in wanted if by_name.get(name, {}) != dict.fromkeys(READY, "True")
            }
            assert not waiting, f"not ready: {waiting}"
            return True

        await eventually(probe, timeout_s=timeout_s, interval_s=0.1, message="workspaces are ready")

    async def condition(self, name: str, condition_type: str, status: str, reason: str = "") -> str:
        """Waits until a Workspace's condition has a status (and reason); returns its message."""

        async def probe() -> str:
            found = find((await self.get(Workspace, name)).status.conditions, condition_type)
            assert found is not None, f"{condition_type} is not set"
            assert (found.status, found.reason) == (status, reason or found.reason), repr(found)
            return found.message or " "

        return await eventually(
            probe, timeout_s=SETTLE_TIMEOUT_S, interval_s=0.1, message=f"{name}: {condition_type} is {status} {reason}"
        )

    async def delete(self, name: str) -> None:
        """kubectl delete workspace: returns when it is gone."""
        await self.kubectl("delete", "workspace", name, "--timeout", f"{SETTLE_TIMEOUT_S:.0f}s")

    async def gone(self, name: str) -> None:
        """Waits until nothing of a Workspace is left."""

        async def probe() -> bool:
            left = await self.left_of(name)
            assert not left, f"still there: {left}"
            return True

        await eventually(probe, timeout_s=SETTLE_TIMEOUT_S, interval_s=0.1, message=f"nothing is left of {name}")

    async def left_of(self, name: str) -> list[str]:
        """What there is of a Workspace."""
        named: list[Resource | None] = [
            await self.find(kind, name) for kind in (Workspace, Deployment, StatefulSet, Service)
        ]
        found: list[Resource] = [each for each in named if each is not None]
        found += [*await self.pods(name), *await self.nodes(name), *await self.claims(name)]
        found += await self.claims(name, NodeClaim)
        return [f"{each.kind} {each.metadata.name}" for each in found]

    async def patch(self, kind: str, name: str, patch: Mapping[str, Any]) -> None:
        """kubectl patch --type merge"""
        await self.kubectl("patch", kind, name, "--type", "merge", "--patch", json.dumps(patch))


def told(workspace: Workspace) -> dict[str, str]:
    """The statuses of the three conditions that are printed."""
    found = {name: find(workspace.status.conditions, name) for name in READY}
    return {name: condition.status for name, condition in found.items() if condition is not None}
