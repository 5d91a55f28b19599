"""WorkspaceReconciler: plan, persist the wanted claims, make them, wait, apply the workload, report."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import TypeVar

from kaito.api import keys
from kaito.api.kaito_v1beta1 import Workspace
from kaito.client.client import Client
from kaito.client.errors import AlreadyExists, BadRequest, Forbidden, Invalid, NotFound
from kaito.controllers.claim_registry import ClaimRegistry
from kaito.controllers.claims import ClaimKind
from kaito.controllers.turns import as_reason
from kaito.controllers.workspace.nodes import NodeSupply
from kaito.controllers.workspace.plan import Plan, PlanError, Planner
from kaito.controllers.workspace.pods import pods_of, replace_outdated, workload_fault
from kaito.controllers.workspace.release import ClaimRelease
from kaito.controllers.workspace.status import Report
from kaito.controllers.workspace.workload import WorkloadOptions, headless_service, service, workload
from kaito.kube.apps_v1 import Deployment, StatefulSet
from kaito.kube.core_v1 import Pod, Service
from kaito.kube.object_key import ObjectKey
from kaito.kube.resource import Resource
from kaito.runtime.apply import Applier, ApplyOutcome, NotOurs, check_owner
from kaito.runtime.events import EventRecorder
from kaito.runtime.finalizers import drop_finalizer, ensure_finalizer
from kaito.runtime.owners import controller_of
from kaito.runtime.reconciler import Result

R = TypeVar("R", bound=Resource)

log = logging.getLogger(__name__)

WORDS_INTERVAL = timedelta(seconds=1)
DELETION_POLL = timedelta(seconds=5)
# No event tells that a quota was raised, a rule relaxed, or an object of somebody else's removed.
REFUSED_POLL = timedelta(seconds=5)
REFUSALS = (NotOurs, Invalid, Forbidden)
"""What trying again at once does not help against, and waiting may."""


class WorkspaceReconciler:
    """Reconciles Workspaces by key, since claims of a Workspace that is gone are its business too.

    Args:
        client: reads (from a cache) and writes.
        applier: applies workloads.
        planner: works out what is needed.
        claims: the wire kind of claims that are made; None: none are.
        options: of all workloads.
        now: wall clock, for condition times.
        registry: finds claims, of both wire kinds; default: any there are.
        events: tells people what was done; None: nobody is told.
    """

    def __init__(
        self,
        client: Client,
        applier: Applier,
        planner: Planner,
        claims: ClaimKind | None,
        options: WorkloadOptions,
        now: Callable[[], datetime],
        registry: ClaimRegistry | None = None,
        events: EventRecorder | None = None,
    ) -> None:
        # One that does not run tells nobody.
        self._events = events or EventRecorder(client, "kaito")
        self._client = client
        self._applier = applier
        self._planner = planner
        self._options = options
        self._now = now
        registry = registry or ClaimRegistry(client)
        self._supply = NodeSupply(client, registry, claims, now, self._events)
        self._release = ClaimRelease(client, registry, now)
        self._held: dict[ObjectKey, datetime] = {}

    async def reconcile_key(self, key: ObjectKey) -> Result:
        """Moves a Workspace one step on."""
        try:
            workspace = await self._client.get(Workspace, key)
        except NotFound:
            self._held.pop(key, None)
            self._supply.forget(key)
            return Result(requeue_after=await self._release.of_nobody(key))
        if workspace.metadata.deletion_timestamp is not None:
            return await self._delete(workspace)
        try:
            await self._release.of_earlier(workspace)
            return await self._advance(workspace, self._planner.plan(workspace))
        except PlanError as error:
            await self._refuse(key, error.reason, error.message)
            return Result()
        except REFUSALS as error:
            await self._refuse(key, type(error).__name__, str(error))
        except NotFound as error:
            # The Workspace, or what belongs to it, went while it was worked on.
            log.info("workspace or a part of it is gone", extra={"workspace": str(key), "error": str(error)})
        return Result(requeue_after=REFUSED_POLL)

    async def _advance(self, workspace: Workspace, plan: Plan) -> Result:
        if plan.makes_nodes:
            workspace = await self._prepare(workspace, plan)
            await self._release.of_unwanted(workspace)
        report = Report(workspace, self._now())
        supply = await self._supply.step(workspace, plan)
        supply.describe(report)
        result = Result(requeue_after=supply.look_again)
        # What runs is looked after, and spoken of, also while its nodes are not well.
        if supply.ready or await self._find(_kind_of(plan), workspace.key) is not None:
            served = await self._serve(workspace, plan, report)
            result = served if served.requeue_after is not None else result
        else:
            report.false(keys.INFERENCE_READY, "WorkspaceInferenceStatusPending", "waits for its nodes")
        report.sum_up()
        return await self._tell(workspace.key, report) or result

    async def _tell(self, key: ObjectKey, report: Report) -> Result | None:
        """Writes the status, but for progress in words, of which a node in the making has plenty: at most one a second.

        Returns:
            When to come back, if it was held back.
        """
        now = self._now()
        if report.is_only_words and now < self._held.setdefault(key, now) + WORDS_INTERVAL:
            return Result(requeue_after=min(WORDS_INTERVAL, self._held[key] + WORDS_INTERVAL - now))
        self._held.pop(key, None)
        await self._save(report)
        return None

    async def _save(self, report: Report) -> Workspace:
        saved = await report.save(self._client)
        report.tell(self._events)
        return saved

    async def _prepare(self, workspace: Workspace, plan: Plan) -> Workspace:
        """Sees to what must be so before a claim costs money.

        That is a workload which the server accepts, the finalizer, and the claims' names on record.
        """
        if keys.WORKSPACE_FINALIZER not in workspace.metadata.finalizers:
            await self._try_out(workspace, plan)
            workspace = await ensure_finalizer(self._client, workspace, keys.WORKSPACE_FINALIZER)
        wanted = await self._supply.wanted(workspace, plan)
        if wanted == workspace.status.node_claims:
            return workspace
        report = Report(workspace, self._now())
        report.claims(wanted)
        self._supply.asked_for(wanted).describe(report)
        if await self._find(_kind_of(plan), workspace.key) is None:
            report.false(keys.INFERENCE_READY, "WorkspaceInferenceStatusPending", "waits for its nodes")
        report.sum_up()
        return await self._save(report)

    async def _try_out(self, workspace: Workspace, plan: Plan) -> None:
        """Has the server check what is to run, the workload and its pod, and that its names are not taken.

        Raises:
            NotOurs, Invalid, Forbidden: it cannot run.
        """
        wanted = workload(workspace, plan, self._options)
        services = [service(workspace), *([headless_service(workspace)] if plan.nodes > 1 else [])]
        for made in (wanted, *services):
            existing = await self._find(type(made), made.key)
            if existing is not None:
                check_owner(existing, workspace)
        template = wanted.spec.template
        pod = Pod.model_validate(
            {"metadata": {**_named(workspace), "labels": template.metadata.labels}, "spec": template.spec}
        )
        try:
            await self._client.apply(wanted, force=True, dry_run=True)
            await self._client.create(pod, dry_run=True)
        except (Invalid, Forbidden) as error:
            if "cannot create resource" not in error.message:
                raise
            log.warning("dry run is not allowed", extra={"workspace": str(workspace.key), "error": error.message})
        except (AlreadyExists, BadRequest) as error:
            # Some admission webhooks cannot tell without doing.
            log.warning("dry run told nothing", extra={"workspace": str(workspace.key), "error": error.message})

    async def _serve(self, workspace: Workspace, plan: Plan, report: Report) -> Result:
        try:
            fault = await self._apply(workspace, plan)
        except REFUSALS as error:
            report.false(keys.INFERENCE_READY, type(error).__name__, str(error))
            return Result(requeue_after=REFUSED_POLL)
        if fault is None:
            report.true(
                keys.INFERENCE_READY, "WorkspaceInferenceStatusSuccess", "Inference has been deployed successfully"
            )
        else:
            report.false(keys.INFERENCE_READY, "WorkspaceInferenceStatusPending", fault)
        return Result()

    async def _apply(self, workspace: Workspace, plan: Plan) -> str | None:
        """Applies Services and workload; returns why the workload does not serve yet."""
        # Of both kinds only one can have the GPUs.
        await self._delete_owned(StatefulSet if plan.nodes == 1 else Deployment, workspace)
        await self._applier.apply(service(workspace), workspace)
        if plan.nodes > 1:
            await self._applier.apply(headless_service(workspace), workspace)
        applied = await self._apply_workload(workspace, plan)
        if workload_fault(applied, (), plan.nodes) is None:
            return None
        pods = await pods_of(self._client, applied)
        if isinstance(applied, StatefulSet):
            replaced = await replace_outdated(self._client, applied, pods)
            if replaced:
                note = f"{replaced} pods of the previous revision are replaced together"
                self._events.event(workspace, "Normal", "PodsReplaced", "Serve", note, related=applied)
        return workload_fault(applied, pods, plan.nodes)

    async def _apply_workload(self, workspace: Workspace, plan: Plan) -> Deployment | StatefulSet:
        applied, outcome = await self._applier.apply(workload(workspace, plan, self._options), workspace)
        if outcome is not ApplyOutcome.UNCHANGED:
            reason = "WorkloadCreated" if outcome is ApplyOutcome.CREATED else "WorkloadUpdated"
            note = f"{applied.kind} {applied.metadata.name} is {outcome.value}"
            self._events.event(workspace, "Normal", reason, "Serve", note, related=applied)
        return applied

    async def _refuse(self, key: ObjectKey, reason: str, message: str) -> None:
        # Read again: what was read at first may have been written since.
        workspace = await self._find(Workspace, key)
        if workspace is None:
            return
        report = Report(workspace, self._now())
        if not report.says(keys.RESOURCE_READY, reason, message):
            log.info("workspace refused", extra={"workspace": str(key), "reason": reason, "error": message})
            self._events.event(workspace, "Warning", as_reason(reason, "Refused"), "Plan", message)
        report.false(keys.RESOURCE_READY, reason, message)
        report.false(keys.INFERENCE_READY, reason, message)
        report.sum_up()
        await report.save(self._client)

    async def _find(self, kind: type[R], key: ObjectKey) -> R | None:
        try:
            return await self._client.get(kind, key)
        except NotFound:
            return None

    async def _delete(self, workspace: Workspace) -> Result:
        """Takes the workload away before the nodes, so that nothing is drained that is not wanted any more."""
        if keys.WORKSPACE_FINALIZER not in workspace.metadata.finalizers:
            return Result()
        kinds: Sequence[type[Resource]] = (Deployment, StatefulSet, Service)
        for kind in kinds:
            await self._delete_owned(kind, workspace)
        remaining = await self._release.of(workspace)
        if remaining:
            report = Report(workspace, self._now())
            waits = f"being deleted; waits for {', '.join(remaining)} to go"
            report.true(keys.WORKSPACE_DELETING, "workspaceDeleted", waits)
            report.false(keys.RESOURCE_READY, "workspaceDeleted", waits)
            report.false(keys.INFERENCE_READY, "workspaceDeleted", "being deleted")
            report.sum_up()
            await report.save(self._client)
            return Result(requeue_after=DELETION_POLL)
        await drop_finalizer(self._client, workspace, keys.WORKSPACE_FINALIZER)
        log.info("workspace deleted", extra={"workspace": str(workspace.key)})
        return Result()

    async def _delete_owned(self, kind: type[Resource], workspace: Workspace) -> None:
        for name in (workspace.metadata.name, f"{workspace.metadata.name}-headless"):
            found = await self._find(kind, ObjectKey(name, workspace.metadata.namespace))
            owner = controller_of(found) if found is not None else None
            if found is None or owner is None or owner.uid != workspace.metadata.uid:
                continue
            if found.metadata.deletion_timestamp is None:
                with contextlib.suppress(NotFound):
                    await self._client.delete(kind, found.key, uid=found.metadata.uid)


def _kind_of(plan: Plan) -> type[Deployment] | type[StatefulSet]:
    return Deployment if plan.nodes == 1 else StatefulSet


def _named(workspace: Workspace) -> dict[str, object]:
    return {"name": workspace.metadata.name, "namespace": workspace.metadata.namespace}
