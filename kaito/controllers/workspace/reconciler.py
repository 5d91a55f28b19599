"""WorkspaceReconciler: plan, persist the wanted claims, make them, wait, apply the workload, report."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import TypeVar

from kaito.api import keys
from kaito.api.kaito_v1beta1 import Workspace
from kaito.client.client import Client
from kaito.client.errors import Forbidden, Invalid, NotFound
from kaito.controllers.claim_registry import ClaimRegistry
from kaito.controllers.claims import Claim, ClaimKind
from kaito.controllers.turns import as_reason
from kaito.controllers.workspace.lookups import BUSY_DELAY, LookupBusy
from kaito.controllers.workspace.models import ModelNotResolved, Models
from kaito.controllers.workspace.nodes import NodeSupply
from kaito.controllers.workspace.plan import Plan, PlanError, Planner
from kaito.controllers.workspace.release import ClaimRelease
from kaito.controllers.workspace.serving import Serving
from kaito.controllers.workspace.status import Report
from kaito.controllers.workspace.workload import WorkloadOptions
from kaito.kube.object_key import ObjectKey
from kaito.kube.resource import Resource
from kaito.runtime.apply import Applier, NotOurs
from kaito.runtime.events import EventRecorder
from kaito.runtime.finalizers import drop_finalizer, ensure_finalizer
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
        models: finds models that the catalogue lacks; None: there are none.
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
        models: Models | None = None,
    ) -> None:
        # One that does not run tells nobody.
        self._events = events or EventRecorder(client, "kaito")
        self._client = client
        self._planner = planner
        self._models = models
        self._now = now
        registry = registry or ClaimRegistry(client)
        self._serving = Serving(client, applier, options, self._events)
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
            return await self._advance(*await self._plan(workspace))
        except LookupBusy:
            return Result(requeue_after=BUSY_DELAY)
        except ModelNotResolved as error:
            await self._refuse(key, "ModelNotResolved", str(error))
            return Result(requeue_after=error.look_again)
        except PlanError as error:
            await self._refuse(key, error.reason, error.message)
            return Result()
        except REFUSALS as error:
            await self._refuse(key, type(error).__name__, str(error))
        except NotFound as error:
            # The Workspace, or what belongs to it, went while it was worked on.
            log.info("workspace or a part of it is gone", extra={"workspace": str(key), "error": str(error)})
        return Result(requeue_after=REFUSED_POLL)

    async def _plan(self, workspace: Workspace) -> tuple[Workspace, Plan]:
        """The plan, and the Workspace with its model on record, on which all that is paid for rests."""
        if self._models is None:
            return workspace, self._planner.plan(workspace)
        model = await self._models.of(workspace)
        plan = self._planner.plan(workspace, model)
        return await self._models.record(workspace, model), plan

    async def _advance(self, workspace: Workspace, plan: Plan) -> Result:
        self._tell_of_need(workspace, plan)
        if plan.makes_nodes:
            workspace = await self._prepare(workspace, plan)
            self._tell_given_back(workspace, await self._release.of_unwanted(workspace))
        report = Report(workspace, self._now())
        report.target(plan.nodes)
        supply = await self._supply.step(workspace, plan)
        supply.describe(report)
        # What runs is looked after, and spoken of, also while its nodes are not well, or while there are to be more.
        bearable = self._serving.bearable(plan, await self._serving.existing(workspace), ready=supply.ready)
        result = Result(requeue_after=supply.look_again)
        if bearable is None:
            report.false(keys.INFERENCE_READY, "WorkspaceInferenceStatusPending", "waits for its nodes")
        elif not await self._serve(workspace, bearable, report):
            result = Result(requeue_after=REFUSED_POLL)
        report.sum_up()
        return await self._tell(workspace.key, report) or result

    async def _serve(self, workspace: Workspace, plan: Plan, report: Report) -> bool:
        try:
            await self._serving.serve(workspace, plan, report)
        except REFUSALS as error:
            report.false(keys.INFERENCE_READY, type(error).__name__, str(error))
            return False
        return True

    def _tell_of_need(self, workspace: Workspace, plan: Plan) -> None:
        """Says once of each state of the Workspace's spec that it asks for less than is needed."""
        note = plan.more_than_asked(workspace)
        if note and workspace.status.observed_generation != workspace.metadata.generation:
            self._events.event(workspace, "Normal", "MoreNodesNeeded", "Plan", note)

    def _tell_given_back(self, workspace: Workspace, claims: Sequence[Claim]) -> None:
        for claim in claims:
            note = f"{claim.kind} {claim.metadata.name} is given back: fewer nodes are wanted"
            self._events.event(workspace, "Normal", "NodeClaimReleased", "MakeNodes", note, related=claim)

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
            await self._serving.try_out(workspace, plan)
            workspace = await ensure_finalizer(self._client, workspace, keys.WORKSPACE_FINALIZER)
        wanted, recorded = await self._supply.wanted(workspace, plan), workspace.status.node_claims
        if wanted == recorded:
            return workspace
        if recorded and len(wanted) > len(recorded):
            await self._serving.try_out(workspace, plan)
        report = Report(workspace, self._now())
        report.claims(wanted)
        report.target(plan.nodes)
        added = [claim for claim in wanted if claim not in recorded]
        if added:
            self._supply.asked_for(added).describe(report)
        if await self._serving.existing(workspace) is None:
            report.false(keys.INFERENCE_READY, "WorkspaceInferenceStatusPending", "waits for its nodes")
        report.sum_up()
        return await self._save(report)

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
        # What runs is not stopped by a wish that cannot be granted.
        if not await self._serving.describe_existing(workspace, report):
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
        await self._serving.delete(workspace)
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
