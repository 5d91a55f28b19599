"""WorkspaceReconciler: plan, persist the wanted claims, make them, wait, apply the workload, report."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from kaito.api import keys
from kaito.api.kaito_v1beta1 import Workspace
from kaito.client.client import Client
from kaito.client.errors import Invalid, NotFound
from kaito.controllers.claims import ClaimKind
from kaito.controllers.workspace.nodes import NodeSupply, Supply
from kaito.controllers.workspace.plan import Plan, PlanError, Planner
from kaito.controllers.workspace.status import Report
from kaito.controllers.workspace.workload import WorkloadOptions, headless_service, service, workload
from kaito.kube.apps_v1 import Deployment, StatefulSet
from kaito.kube.core_v1 import Service
from kaito.kube.object_key import ObjectKey
from kaito.kube.resource import Resource
from kaito.runtime.apply import Applier, NotOurs
from kaito.runtime.owners import controller_of, drop_finalizer, ensure_finalizer
from kaito.runtime.reconciler import Result

log = logging.getLogger(__name__)

DELETION_POLL = timedelta(seconds=5)


class WorkspaceReconciler:
    """Reconciles Workspaces by key, since claims of a Workspace that is gone are its business too.

    Args:
        client: reads (from a cache) and writes.
        applier: applies workloads.
        planner: works out what is needed.
        claims: the wire kind of claims.
        options: of all workloads.
        now: wall clock, for condition times.
    """

    def __init__(
        self,
        client: Client,
        applier: Applier,
        planner: Planner,
        claims: ClaimKind,
        options: WorkloadOptions,
        now: Callable[[], datetime],
    ) -> None:
        self._client = client
        self._applier = applier
        self._planner = planner
        self._options = options
        self._now = now
        self._supply = NodeSupply(client, claims)

    async def reconcile_key(self, key: ObjectKey) -> Result:
        """Moves a Workspace one step on."""
        try:
            workspace = await self._client.get(Workspace, key)
        except NotFound:
            await self._supply.collect_orphans(key)
            return Result()
        if workspace.metadata.deletion_timestamp is not None:
            return await self._delete(workspace)
        report = Report(workspace, self._now())
        try:
            plan = self._planner.plan(workspace)
            return await self._advance(workspace, plan, report)
        except PlanError as error:
            _refuse(report, error.reason, error.message)
        except (NotOurs, Invalid) as error:
            _refuse(report, type(error).__name__, str(error))
        await report.save(self._client)
        return Result()

    async def _advance(self, workspace: Workspace, plan: Plan, report: Report) -> Result:
        if plan.makes_nodes:
            workspace = await self._prepare(workspace, plan)
            report = Report(workspace, self._now())
        supply = await self._supply.step(workspace, plan)
        supply.describe(report)
        if supply.ready:
            await self._serve(workspace, plan, report)
        elif not workspace.status.worker_nodes:
            report.false(keys.INFERENCE_READY, "WorkspaceInferenceStatusPending", "waits for its nodes")
        report.sum_up()
        await report.save(self._client)
        return Result()

    async def _prepare(self, workspace: Workspace, plan: Plan) -> Workspace:
        """Sees to what must be so before a claim costs money.

        That is a workload which the server accepts, the finalizer, and the claims' names on record.
        """
        if keys.WORKSPACE_FINALIZER not in workspace.metadata.finalizers:
            await self._client.apply(workload(workspace, plan, self._options), dry_run=True)
            workspace = await ensure_finalizer(self._client, workspace, keys.WORKSPACE_FINALIZER)
        wanted = await self._supply.wanted(workspace, plan)
        if wanted == workspace.status.node_claims:
            return workspace
        report = Report(workspace, self._now())
        report.claims(wanted)
        pending = Supply(False, "NodeClaimNotReady", f"asking for {plan.nodes} node(s) {plan.sku}", ())
        pending.describe(report)
        report.false(keys.INFERENCE_READY, "WorkspaceInferenceStatusPending", "waits for its nodes")
        report.sum_up()
        return await report.save(self._client)

    async def _serve(self, workspace: Workspace, plan: Plan, report: Report) -> None:
        await self._applier.apply(service(workspace), workspace)
        if plan.nodes > 1:
            await self._applier.apply(headless_service(workspace), workspace)
        applied = (await self._applier.apply(workload(workspace, plan, self._options), workspace)).object
        fault = _workload_fault(applied, plan.nodes)
        if fault is None:
            report.true(
                keys.INFERENCE_READY, "WorkspaceInferenceStatusSuccess", "Inference has been deployed successfully"
            )
        else:
            report.false(keys.INFERENCE_READY, "WorkspaceInferenceStatusPending", fault)

    async def _delete(self, workspace: Workspace) -> Result:
        """Takes the workload away before the nodes, so that nothing is drained that is not wanted any more."""
        if keys.WORKSPACE_FINALIZER not in workspace.metadata.finalizers:
            return Result()
        kinds: Sequence[type[Resource]] = (Deployment, StatefulSet, Service)
        for kind in kinds:
            await self._delete_owned(kind, workspace)
        remaining = await self._supply.release(workspace)
        if remaining:
            report = Report(workspace, self._now())
            report.true(keys.WORKSPACE_DELETING, "workspaceDeleted", f"waits for {', '.join(remaining)} to go")
            await report.save(self._client)
            return Result(requeue_after=DELETION_POLL)
        await drop_finalizer(self._client, workspace, keys.WORKSPACE_FINALIZER)
        log.info("workspace deleted", extra={"workspace": str(workspace.key)})
        return Result()

    async def _delete_owned(self, kind: type[Resource], workspace: Workspace) -> None:
        for name in (workspace.metadata.name, f"{workspace.metadata.name}-headless"):
            key = ObjectKey(name, workspace.metadata.namespace)
            try:
                found = await self._client.get(kind, key)
                owner = controller_of(found)
                if (
                    owner is None
                    or owner.uid != workspace.metadata.uid
                    or found.metadata.deletion_timestamp is not None
                ):
                    continue
                await self._client.delete(kind, key, uid=found.metadata.uid)
            except NotFound:
                continue


def _refuse(report: Report, reason: str, message: str) -> None:
    report.false(keys.RESOURCE_READY, reason, message)
    report.false(keys.INFERENCE_READY, reason, message)
    report.sum_up()


def _workload_fault(applied: Deployment | StatefulSet, replicas: int) -> str | None:
    """Why a workload does not serve yet; None when it does."""
    status = applied.status
    if status.observed_generation < applied.metadata.generation:
        return f"{applied.kind} {applied.metadata.name} is being rolled out"
    if status.updated_replicas < replicas or status.ready_replicas < replicas:
        stuck = next(
            (item for item in status.conditions if item.type == "Progressing" and item.status == "False"), None
        )
        why = f": {stuck.message}" if stuck is not None else ""
        return f"{applied.kind} {applied.metadata.name}: {status.ready_replicas} of {replicas} pods are ready{why}"
    return None
