"""WorkspaceScene: one Workspace on an API server in memory, and who reconciles it, a step at a time."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from kaito.api.kaito_v1beta1 import Workspace
from kaito.api.karpenter_v1 import NodeClaim
from kaito.api.karpenter_v1alpha5 import Machine
from kaito.catalog import CurrentCatalog
from kaito.client.client import Client
from kaito.controllers.claims import MACHINE, ClaimKind
from kaito.controllers.workspace.plan import Planner
from kaito.controllers.workspace.reconciler import WorkspaceReconciler
from kaito.controllers.workspace.workload import WorkloadOptions
from kaito.kube.apps_v1 import StatefulSet
from kaito.kube.conditions import find
from kaito.kube.core_v1 import Node
from kaito.kube.object_key import ObjectKey
from kaito.runtime.apply import Applier
from kaito.runtime.reconciler import Result
from kaito.testing.fake_api import FakeApi

KEY = ObjectKey("phi", "default")


class WorkspaceScene:
    """A Workspace and who reconciles it.

    Args:
        api: the server.
        client: of the test and of the reconciler.
        now: the time.
    """

    def __init__(self, api: FakeApi, client: Client, now: datetime) -> None:
        self.api = api
        self.client = client
        self.now = now
        self.key = KEY
        self.restart()

    def restart(self, made: ClaimKind | None = MACHINE) -> None:
        """Another process takes over, which makes claims of this kind, or (None) none."""
        planner = Planner(CurrentCatalog(), use_existing_nodes=made is None)
        self.reconciler = WorkspaceReconciler(
            self.client, Applier(self.client), planner, made, WorkloadOptions(), lambda: self.now
        )

    async def step(self) -> Result:
        return await self.reconciler.reconcile_key(self.key)

    async def workspace(self) -> Workspace:
        return await self.client.get(Workspace, self.key)

    async def told(self, condition: str) -> tuple[str, str, str]:
        found = find((await self.workspace()).status.conditions, condition)
        assert found is not None
        return found.status, found.reason, found.message

    async def machines(self) -> list[str]:
        return [machine.metadata.name for machine in await self.client.list(Machine)]

    async def node_claims(self) -> list[str]:
        return [claim.metadata.name for claim in await self.client.list(NodeClaim)]

    async def bring_nodes(self, kind: type[Machine] | type[NodeClaim] = Machine) -> None:
        """All claims become ready, each with a node of its name."""
        for claim in await self.client.list(kind):
            name = claim.metadata.name
            condition = {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-02T03:04:05Z"}
            status = {"conditions": [condition], "nodeName": name}
            await self.client.status.patch(kind, claim.key, {"status": status})
            ready = {"conditions": [{"type": "Ready", "status": "True"}], "allocatable": {"nvidia.com/gpu": "8"}}
            await self.client.create(Node.model_validate({"metadata": {"name": name}, "status": ready}))

    async def observe(self, revision: str, ready: int) -> StatefulSet:
        """The StatefulSet's controller has seen its newest state: this revision, and so many ready pods of it."""
        stateful_set = await self.client.get(StatefulSet, self.key)
        status: dict[str, Any] = {
            "observedGeneration": stateful_set.metadata.generation,
            "updateRevision": revision,
            "readyReplicas": ready,
            "updatedReplicas": ready,
        }
        return await self.client.status.patch(StatefulSet, self.key, {"status": status})

    def writes(self) -> list[str]:
        """Verbs and kinds of what was really written since the last call."""
        reads = ("get", "list", "watch")
        found = [entry for entry in self.api.log if entry.verb not in reads and ("dryRun", "All") not in entry.query]
        self.api.log.clear()
        return [f"{entry.verb} {_kind_of(entry.path)}" for entry in found]


def _kind_of(path: str) -> str:
    parts = path.split("/")
    kinds = ("workspaces", "machines", "nodeclaims", "services", "deployments", "statefulsets", "pods", "nodes")
    return next(part for part in parts if part in kinds) + ("/status" if parts[-1] == "status" else "")
