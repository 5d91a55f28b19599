"""The webhooks of Workspaces: from a review to a verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from kaito.api.kaito_v1beta1 import Workspace
from kaito.catalog import CurrentCatalog, Runtime
from kaito.client.client import Client
from kaito.runtime.webhook import AdmissionRequest, Webhook


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
    node_provisioner: Literal["machine", "nodeclaim", "byo"]
    runtime: Runtime | None
    reader: Client


def workspace_webhooks(options: AdmissionOptions) -> Sequence[Webhook]:
    """Returns what the manager serves for Workspaces, of both versions."""

    async def validate(workspace: Workspace, request: AdmissionRequest) -> None:
        return None

    return (Webhook(Workspace, validate=validate),)
