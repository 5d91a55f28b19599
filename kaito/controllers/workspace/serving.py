"""Serving: keeps the Services and the workload of a Workspace as they are to be, at a size that its nodes can bear."""

from __future__ import annotations

import contextlib
import logging
from dataclasses import replace
from typing import TypeAlias, TypeVar

from kaito.api import keys
from kaito.api.kaito_v1beta1 import Workspace
from kaito.client.client import Client
from kaito.client.errors import AlreadyExists, BadRequest, Forbidden, Invalid, NotFound
from kaito.controllers.workspace.plan import Plan
from kaito.controllers.workspace.pods import pods_in_the_way, pods_of, replace_outdated, workload_fault
from kaito.controllers.workspace.status import Report
from kaito.controllers.workspace.workload import WorkloadOptions, headless_service, service, workload
from kaito.kube.apps_v1 import Deployment, StatefulSet
from kaito.kube.core_v1 import Pod, Service
from kaito.kube.object_key import ObjectKey
from kaito.kube.resource import Resource
from kaito.runtime.apply import Applier, ApplyOutcome, check_owner
from kaito.runtime.events import EventRecorder
from kaito.runtime.owners import controller_of

R = TypeVar("R", bound=Resource)
Workload: TypeAlias = Deployment | StatefulSet

log = logging.getLogger(__name__)


class Serving:
    """Applies what serves a Workspace's model.

    Args:
        client: reads (from a cache) and writes.
        applier: applies what is wanted.
        options: of all workloads.
        events: tells people what was done.
    """

    def __init__(self, client: Client, applier: Applier, options: WorkloadOptions, events: EventRecorder) -> None:
        self._client = client
        self._applier = applier
        self._options = options
        self._events = events

    async def try_out(self, workspace: Workspace, plan: Plan) -> None:
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

    async def existing(self, workspace: Workspace) -> Workload | None:
        """The Workspace's workload, of whichever kind, if there is one."""
        kinds: tuple[type[StatefulSet] | type[Deployment], ...] = (StatefulSet, Deployment)
        for kind in kinds:
            found: Workload | None = await self._find(kind, workspace.key)
            owner = controller_of(found) if found is not None else None
            if found is not None and owner is not None and owner.uid == workspace.metadata.uid:
                return found
        return None

    def bearable(self, plan: Plan, existing: Workload | None, *, ready: bool) -> Plan | None:
        """The plan to serve by now. Pure.

        What runs goes on as it is until all nodes of a bigger one are there; a smaller one waits for nothing.

        Args:
            plan: what is wanted.
            existing: the workload that there is.
            ready: whether all nodes that are wanted are ready.

        Returns:
            The plan, perhaps with fewer nodes; None: nothing can be served yet.
        """
        if ready:
            return plan
        if existing is None:
            return None
        least = plan.sizing.minimum_nodes if plan.sizing is not None else 1
        runs = 1 if isinstance(existing, Deployment) else max(existing.spec.replicas or 0, least, 2)
        return replace(plan, nodes=min(runs, plan.nodes))

    async def serve(self, workspace: Workspace, plan: Plan, report: Report) -> None:
        """Applies Services and workload, and reports whether the model is served.

        Raises:
            NotOurs, Invalid, Forbidden: it cannot be applied; trying again at once does not help.
        """
        fault = await self._apply(workspace, plan)
        describe(report, fault)

    async def describe_existing(self, workspace: Workspace, report: Report) -> bool:
        """Reports on what runs, without a change to it, while what is wanted cannot be had.

        Returns:
            Whether anything runs.
        """
        found = await self.existing(workspace)
        if found is None:
            return False
        describe(report, workload_fault(found, await pods_of(self._client, workspace), found.spec.replicas or 1))
        return True

    async def delete(self, workspace: Workspace) -> None:
        """Deletes the Workspace's workload and Services."""
        headless = headless_service(workspace).key
        doomed: tuple[tuple[type[Resource], ObjectKey], ...] = (
            (Deployment, workspace.key),
            (StatefulSet, workspace.key),
            (Service, workspace.key),
            (Service, headless),
        )
        for kind, key in doomed:
            await self._delete_owned(kind, key, workspace)

    async def _apply(self, workspace: Workspace, plan: Plan) -> str | None:
        """Applies Services and workload; returns why the workload does not serve yet."""
        await self._applier.apply(service(workspace), workspace)
        if plan.nodes > 1:
            await self._applier.apply(headless_service(workspace), workspace)
        else:
            await self._delete_owned(Service, headless_service(workspace).key, workspace)
        if (fault := await self._make_room(workspace, plan)) is not None:
            return fault
        applied = await self._apply_workload(workspace, plan)
        if workload_fault(applied, (), plan.nodes) is None:
            return None
        pods = await pods_of(self._client, workspace)
        if isinstance(applied, StatefulSet):
            replaced = await replace_outdated(self._client, applied, pods)
            if replaced:
                note = f"{replaced} pods of the previous revision are replaced together"
                self._events.event(workspace, "Normal", "PodsReplaced", "Serve", note, related=applied)
        return workload_fault(applied, pods, plan.nodes)

    async def _make_room(self, workspace: Workspace, plan: Plan) -> str | None:
        """Has the other kind of workload, and its pods, go first: one node's GPUs have no room for two.

        Returns:
            What is waited for.
        """
        other = StatefulSet if plan.nodes == 1 else Deployment
        wanted = Deployment if plan.nodes == 1 else StatefulSet
        if await self._delete_owned(other, workspace.key, workspace):
            note = f"{other.__name__} {workspace.metadata.name} makes room for a {wanted.__name__}"
            self._events.event(workspace, "Normal", "WorkloadReplaced", "Serve", note)
        in_the_way = await pods_in_the_way(self._client, workspace, plan.nodes)
        if not in_the_way:
            return None
        names = ", ".join(pod.metadata.name for pod in in_the_way)
        return f"{wanted.__name__} {workspace.metadata.name} waits for pods of the {other.__name__} to end: {names}"

    async def _apply_workload(self, workspace: Workspace, plan: Plan) -> Workload:
        applied, outcome = await self._applier.apply(workload(workspace, plan, self._options), workspace)
        if outcome is not ApplyOutcome.UNCHANGED:
            reason = "WorkloadCreated" if outcome is ApplyOutcome.CREATED else "WorkloadUpdated"
            note = f"{applied.kind} {applied.metadata.name} is {outcome.value}: {plan.nodes} pods"
            self._events.event(workspace, "Normal", reason, "Serve", note, related=applied)
        return applied

    async def _find(self, kind: type[R], key: ObjectKey) -> R | None:
        try:
            return await self._client.get(kind, key)
        except NotFound:
            return None

    async def _delete_owned(self, kind: type[Resource], key: ObjectKey, workspace: Workspace) -> bool:
        """Deletes an object if it is the Workspace's; whether there was one to delete."""
        found = await self._find(kind, key)
        owner = controller_of(found) if found is not None else None
        if found is None or owner is None or owner.uid != workspace.metadata.uid:
            return False
        if found.metadata.deletion_timestamp is not None:
            return False
        with contextlib.suppress(NotFound):
            await self._client.delete(kind, found.key, uid=found.metadata.uid)
        return True


def describe(report: Report, fault: str | None) -> None:
    """Sets the condition about inference."""
    if fault is None:
        done = "Inference has been deployed successfully"
        report.true(keys.INFERENCE_READY, "WorkspaceInferenceStatusSuccess", done)
    else:
        report.false(keys.INFERENCE_READY, "WorkspaceInferenceStatusPending", fault)


def _named(workspace: Workspace) -> dict[str, object]:
    return {"name": workspace.metadata.name, "namespace": workspace.metadata.namespace}
