"""WorkspaceScene: one Workspace on an API server in memory, and who reconciles it, a step at a time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from kaito.api.kaito_v1beta1 import Workspace
from kaito.api.karpenter_v1 import NodeClaim
from kaito.api.karpenter_v1alpha5 import Machine
from kaito.catalog import Catalog, CurrentCatalog
from kaito.client.client import Client
from kaito.controllers.claims import MACHINE, ClaimKind
from kaito.controllers.workspace.models import Models
from kaito.controllers.workspace.plan import Planner
from kaito.controllers.workspace.reconciler import WorkspaceReconciler
from kaito.controllers.workspace.workload import WorkloadOptions
from kaito.kube.apps_v1 import Deployment, StatefulSet
from kaito.kube.conditions import find
from kaito.kube.core_v1 import Node, Pod
from kaito.kube.object_key import ObjectKey
from kaito.runtime.apply import Applier
from kaito.runtime.reconciler import Result
from kaito.testing.fake_api import FakeApi
from tests.operating.fake_hub import FakeHub

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
        self.hub = FakeHub()
        self.restart()

    def restart(self, made: ClaimKind | None = MACHINE, catalog: Catalog | None = None) -> None:
        """Another process takes over, which makes claims of this kind, or (None) none; default: with our catalogue."""
        current = CurrentCatalog(catalog)
        planner = Planner(current, use_existing_nodes=made is None)
        models = Models(self.client, current, self.hub.hub(), lambda: self.now)
        self.reconciler = WorkspaceReconciler(
            self.client,
            Applier(self.client),
            planner,
            made,
            WorkloadOptions(),
            lambda: self.now,
            models=models,
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
            if claim.status.node_name:
                continue
            condition = {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-02T03:04:05Z"}
            status = {"conditions": [condition], "nodeName": name}
            await self.client.status.patch(kind, claim.key, {"status": status})
            ready = {"conditions": [{"type": "Ready", "status": "True"}], "allocatable": {"nvidia.com/gpu": "8"}}
            await self.client.create(Node.model_validate({"metadata": {"name": name}, "status": ready}))

    async def want(self, count: int) -> None:
        """The user changes resource.count."""
        await self.client.patch(Workspace, self.key, {"resource": {"count": count}})

    async def run_pods(self, nodes: Sequence[str]) -> None:
        """The workload has one pod on each of these nodes, in order, and no others; all are ready."""
        await self.end_pods()
        workload = await self._workload()
        assert workload is not None, "there is no workload to run pods of"
        kind = "StatefulSet" if isinstance(workload, StatefulSet) else "ReplicaSet"
        for ordinal, node in enumerate(nodes):
            await self._run_pod(workload, kind, ordinal, node)
        await self._count(workload, len(nodes))

    async def end_pods(self, kind: str = "") -> None:
        """The pods end, all or those of one kind of owner."""
        for pod in await self.client.list(Pod):
            if kind in ("", pod.metadata.owner_references[0].kind):
                await self.client.delete(Pod, pod.key)

    async def play_cluster(self) -> None:
        """What controllers, scheduler and cloud would do by now: nodes for claims, pods for the workload."""
        claims = {claim.metadata.name for claim in await self.client.list(Machine)}
        await self.bring_nodes()
        for node in await self.client.list(Node):
            if node.metadata.name not in claims:
                await self.client.delete(Node, node.key)
        nodes = [node.metadata.name for node in await self.client.list(Node)]
        workload = await self._workload()
        kind = "StatefulSet" if isinstance(workload, StatefulSet) else "ReplicaSet"
        wanted = 0 if workload is None else workload.spec.replicas or 1
        for pod in await self.client.list(Pod):
            ordinal = int(pod.metadata.name.rpartition("-")[2])
            lost = pod.spec.node_name not in nodes or ordinal >= wanted
            if lost or pod.metadata.owner_references[0].kind != kind:
                await self.client.delete(Pod, pod.key)
        pods = {pod.metadata.name: pod.spec.node_name for pod in await self.client.list(Pod)}
        for ordinal in range(wanted):
            # The last of the free nodes, since nothing says that pods come to nodes in the order of their claims.
            free = [node for node in nodes if node not in pods.values()]
            if workload is not None and f"{self.key.name}-{ordinal}" not in pods and free:
                await self._run_pod(workload, kind, ordinal, free[-1])
                pods[f"{self.key.name}-{ordinal}"] = free[-1]
        if workload is not None:
            await self._count(workload, len(pods))

    async def _workload(self) -> Deployment | StatefulSet | None:
        for stateful_set in await self.client.list(StatefulSet):
            return stateful_set
        for deployment in await self.client.list(Deployment):
            return deployment
        return None

    async def _run_pod(self, workload: Deployment | StatefulSet, kind: str, ordinal: int, node: str) -> None:
        owner = {"apiVersion": "apps/v1", "kind": kind, "name": "x", "uid": workload.metadata.uid, "controller": True}
        metadata = {
            "name": f"{self.key.name}-{ordinal}",
            "namespace": self.key.namespace,
            "labels": {"kaito.sh/workspace": self.key.name},
            "ownerReferences": [owner],
        }
        spec = {"nodeName": node, "containers": [{"name": "inference", "image": "x"}]}
        await self.client.create(Pod.model_validate({"metadata": metadata, "spec": spec}))

    async def _count(self, workload: Deployment | StatefulSet, ready: int) -> None:
        generation = workload.metadata.generation
        status = {"observedGeneration": generation, "readyReplicas": ready, "updatedReplicas": ready}
        await self.client.status.patch(type(workload), workload.key, {"status": status})

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
