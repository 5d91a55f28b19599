"""The webhooks of Workspaces: from a review to a verdict."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from kaito.api.kaito_v1beta1 import Workspace
from kaito.catalog import CurrentCatalog, Runtime
from kaito.client.client import Client
from kaito.controllers.workspace.admission.asked import Json, read
from kaito.controllers.workspace.admission.case import Case, NodeProvisioner
from kaito.controllers.workspace.admission.config_maps import ConfigMaps
from kaito.controllers.workspace.admission.verdict import Verdict, judge
from kaito.kube.unstructured import UnstructuredObject, unstructured_class
from kaito.runtime.webhook import AdmissionRequest, Denied, Webhook

LARGE_BYTES = 64 * 1024
"""An object above this size is judged in a thread: megabytes take a second, in which nothing else would be done."""


@dataclass(frozen=True, slots=True)
class AdmissionOptions:
    """What verdicts rest on, beside the Workspace itself.

    Attributes:
        current: models and instance types.
        node_provisioner: whether nodes are made (machine, nodeclaim) or brought (byo).
        runtime: what runs models, if the user does not say; None: what suits model and GPU.
        reader: reads named ConfigMaps, live.
    """

    current: CurrentCatalog
    node_provisioner: NodeProvisioner
    runtime: Runtime | None
    reader: Client


def workspace_webhooks(options: AdmissionOptions) -> Sequence[Webhook]:
    """Returns what the manager serves for Workspaces, of both versions.

    Each is judged twice. The first time by a mutating webhook that changes nothing: it comes before the API server
    looks at schema and rules, so that one refusal can list their faults and the catalogue's. The second time by a
    validating one, after whatever others have changed.
    """
    admission = _Admission(options)
    # Plain JSON: a field of a wrong type is one fault among others, and must not keep the rest from being read.
    return (
        Webhook(
            unstructured_class(Workspace.resource_type), validate=admission.validate, default=admission.validate_early
        ),
    )


class _Admission:
    def __init__(self, options: AdmissionOptions) -> None:
        self._options = options
        self._configs = ConfigMaps(options.reader)

    async def validate_early(self, _draft: UnstructuredObject, request: AdmissionRequest) -> None:
        """Refuses what is wrong, and leaves warnings to the second time."""
        verdict = await self._verdict(request, keep=True)
        if not verdict.for_the_rules:
            _refuse(verdict)

    async def validate(self, _workspace: UnstructuredObject, request: AdmissionRequest) -> Sequence[str]:
        verdict = await self._verdict(request, keep=False)
        _refuse(verdict)
        return verdict.warnings

    async def _verdict(self, request: AdmissionRequest, *, keep: bool) -> Verdict:
        workspace = request.raw()
        old = request.raw_old() if request.operation == "UPDATE" else None
        if old is not None and _judged(old) == _judged(workspace):
            return Verdict()
        namespace = request.key.namespace or ""
        asked = read(workspace, namespace)
        configs = await self._configs.read(asked, keep=keep)
        case = Case(
            asked=asked,
            catalog=self._options.current.catalog,
            node_provisioner=self._options.node_provisioner,
            default_runtime=self._options.runtime,
            before=None if old is None else read(old, namespace),
            documents=configs.documents,
        )
        if request.size_bytes > LARGE_BYTES:
            return await asyncio.to_thread(judge, case, workspace, old, configs)
        return judge(case, workspace, old, configs)


def _refuse(verdict: Verdict) -> None:
    if verdict.causes:
        raise Denied(*verdict.causes)


def _judged(workspace: Json) -> tuple[object, ...]:
    """What an update must change to be judged; finalizers, labels and status are nobody's business here."""
    metadata = workspace.get("metadata")
    annotations = metadata.get("annotations") if isinstance(metadata, dict) else None
    return (*(workspace.get(name) for name in ("resource", "inference", "tuning")), annotations or None)
