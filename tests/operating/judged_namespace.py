"""A namespace whose Workspaces a webhook judges, served by the test's own process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry

from kaito.catalog import CurrentCatalog, Runtime
from kaito.client import Client, NotFound
from kaito.controllers.workspace.admission import AdmissionOptions, workspace_webhooks
from kaito.controllers.workspace.admission.case import NodeProvisioner
from kaito.devcluster.ports import free_port
from kaito.kube import ObjectKey
from kaito.kube.admissionregistration_v1 import MutatingWebhookConfiguration, ValidatingWebhookConfiguration
from kaito.kube.core_v1 import Namespace
from kaito.kube.frozen import FrozenDict
from kaito.kube.meta_v1 import LabelSelector
from kaito.runtime.webhook import AtUrl, OwnAuthority
from kaito.testing import eventually
from tests.operating.handshaking import Handshaking

CONFIGURATIONS = (ValidatingWebhookConfiguration, MutatingWebhookConfiguration)


@dataclass
class _Host:
    """What of a manager a webhook server needs."""

    name: str
    api_reader: Client
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)


@asynccontextmanager
async def judged_namespace(
    client: Client,
    name: str,
    provisioner: NodeProvisioner = "machine",
    runtime: Runtime | None = None,
    current: CurrentCatalog | None = None,
) -> AsyncIterator[None]:
    """Makes a namespace, judges its Workspaces as a manager with these options does, and takes all of it away.

    Args:
        client: live.
        name: of the namespace; the webhook's configurations have it, too.
        provisioner: who brings nodes.
        runtime: what runs models, if the user does not say.
        current: models and instance types; default: the built-in ones.
    """
    await client.create(Namespace.model_validate({"metadata": {"name": name}}))
    port = free_port()
    (webhook,) = workspace_webhooks(AdmissionOptions(current or CurrentCatalog(), provisioner, runtime, client))
    webhook.namespace_selector = LabelSelector(match_labels=FrozenDict({"kubernetes.io/metadata.name": name}))
    server = Handshaking(
        _Host(name, client),
        webhook,
        reached=AtUrl(f"https://127.0.0.1:{port}"),
        certificates=OwnAuthority(client, ObjectKey("keys", name)),
        address=f"127.0.0.1:{port}",
        linger_s=0.0,
    )
    task = asyncio.create_task(server.run())
    try:
        await eventually(lambda: server.fault() is None, message="ready", timeout_s=20)
        yield
    finally:
        await _forget(client, name)
        task.cancel()
        await asyncio.wait({task})
        await _forget(client, name)  # what was put right between the two
        await client.delete(Namespace, ObjectKey(name))


async def _forget(client: Client, name: str) -> None:
    for kind in CONFIGURATIONS:
        with suppress(NotFound):
            await client.delete(kind, ObjectKey(name))
