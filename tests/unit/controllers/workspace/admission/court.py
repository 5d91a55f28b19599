"""Court: the webhooks of Workspaces behind their real endpoints, and an API server in memory with the ConfigMaps."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from prometheus_client import CollectorRegistry

from kaito.catalog import CurrentCatalog, Runtime
from kaito.client.client import Client
from kaito.controllers.workspace.admission import AdmissionOptions, workspace_webhooks
from kaito.controllers.workspace.admission.case import NodeProvisioner
from kaito.kube.core_v1 import ConfigMap
from kaito.runtime.webhook.admission import Role
from kaito.runtime.webhook.endpoint import Endpoint
from kaito.runtime.webhook.metrics import WebhookMetrics
from kaito.testing.fake_api import FakeApi

KIND = {"group": "kaito.sh", "version": "v1beta1", "kind": "Workspace"}


class Said(NamedTuple):
    """An answer, as an API server reads it: what is wrong by field, all warnings, and the sentence of a refusal."""

    allowed: bool
    causes: dict[str, str]
    warnings: list[str]
    message: str


class Court:
    """Judges Workspaces of the namespace ``demo``.

    Args:
        node_provisioner: of the operator.
        runtime: of the operator.
        config_maps: data by name.
    """

    def __init__(
        self,
        node_provisioner: NodeProvisioner = "machine",
        runtime: Runtime | None = None,
        config_maps: Mapping[str, Mapping[str, str]] | None = None,
    ) -> None:
        self.api = FakeApi()
        self.api.call("POST", "/api/v1/namespaces", {"metadata": {"name": "demo"}})
        for name, data in (config_maps or {}).items():
            self.put(name, dict(data))
        client = Client(self.api.transport(), field_owner="tests")
        options = AdmissionOptions(CurrentCatalog(), node_provisioner, runtime, client)
        (webhook,) = workspace_webhooks(options)
        metrics = WebhookMetrics(CollectorRegistry())
        roles: tuple[Role, ...] = ("mutate", "validate")
        self.endpoints = {role: Endpoint(webhook, role, metrics) for role in roles}

    def put(self, name: str, data: dict[str, str], **more: Any) -> None:
        """Makes a ConfigMap."""
        manifest = {"metadata": {"name": name}, "data": data, **more}
        self.api.call("POST", ConfigMap.resource_type.path("demo"), manifest)

    @property
    def reads(self) -> int:
        """How many ConfigMaps have been read so far."""
        return sum("/configmaps/" in entry.path for entry in self.api.log)

    async def judge(self, new: Any, old: Any = None) -> Said:
        """What a user reads of a create, or of an update if there is an old one: both phases, one after the other."""
        said = await self.phase("mutate", new, old)
        return await self.phase("validate", new, old) if said.allowed else said

    async def phase(self, role: Role, new: Any, old: Any = None, **request: Any) -> Said:
        """What one phase answers."""
        return self.answer(await self.body(role, review(new, old, **request)))

    async def body(self, role: Role, body: bytes) -> bytes:
        answer = await self.endpoints[role].answer(body)
        assert answer.code == 200, answer
        return answer.body

    @staticmethod
    def answer(body: bytes) -> Said:
        response = json.loads(body)["response"]
        assert "patch" not in response, "it changes nothing"
        status = response.get("status", {})
        assert status.get("code", 422) < 500, status
        causes = status.get("details", {}).get("causes", [])
        by_field: dict[str, str] = {}
        for cause in causes:
            field = cause.get("field", "")
            by_field[field] = "\n".join(filter(None, (by_field.get(field), cause["message"])))
        return Said(response["allowed"], by_field, response.get("warnings", []), status.get("message", ""))


def review(new: Any, old: Any = None, **request: Any) -> bytes:
    """The body of a review."""
    name = (
        new.get("metadata", {}).get("name", "")
        if isinstance(new, dict) and isinstance(new.get("metadata"), dict)
        else ""
    )
    asked = {
        "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
        "kind": KIND,
        "resource": {"group": "kaito.sh", "version": "v1beta1", "resource": "workspaces"},
        "name": name if isinstance(name, str) else "",
        "namespace": "demo",
        "operation": "CREATE" if old is None else "UPDATE",
        "userInfo": {"username": "jane"},
        "object": new,
        "oldObject": old,
        **request,
    }
    return json.dumps({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": asked}).encode()
