"""What the tests of webhooks stand on: gadgets, reviews of them as an API server sends them, and answers, read."""

from __future__ import annotations

import base64
import json
from typing import Any, NamedTuple

from kaito.kube.model import KubeModel
from kaito.kube.resource import Resource
from kaito.runtime.webhook.endpoint import Answer
from kaito.testing.fake_api.patches import json_patch


class Port(KubeModel):
    """An item of a list."""

    number: int
    name: str = ""


class GadgetSpec(KubeModel):
    """What a gadget wants."""

    size: int = 0
    color: str | None = None
    ports: tuple[Port, ...] = ()


class Gadget(Resource, group="example.com", version="v1"):
    """A custom resource."""

    spec: GadgetSpec = GadgetSpec()


def gadget(name: str = "a", *, metadata: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "example.com/v1",
        "kind": "Gadget",
        "metadata": {"name": name, "namespace": "demo", "uid": "u", **(metadata or {})},
        "spec": spec,
    }


def review(
    operation: str = "CREATE",
    obj: dict[str, Any] | None = None,
    old: dict[str, Any] | None = None,
    version: str = "v1",
    **request: Any,
) -> bytes:
    return json.dumps(
        {
            "apiVersion": f"admission.k8s.io/{version}",
            "kind": "AdmissionReview",
            "request": {
                "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
                "kind": {"group": "example.com", "version": "v1", "kind": "Gadget"},
                "resource": {"group": "example.com", "version": "v1", "resource": "gadgets"},
                "requestKind": {"group": "example.com", "version": "v1", "kind": "Gadget"},
                "name": "a",
                "namespace": "demo",
                "operation": operation,
                "userInfo": {"username": "jane", "groups": ["system:authenticated"], "extra": {"k": ["v"]}},
                "object": obj,
                "oldObject": old,
                "dryRun": False,
                "options": {"apiVersion": "meta.k8s.io/v1", "kind": "CreateOptions", "fieldManager": "kubectl"},
                **request,
            },
        }
    ).encode()


class Verdict(NamedTuple):
    """An answer, as an API server reads it."""

    api_version: str
    response: dict[str, Any]

    @property
    def allowed(self) -> bool:
        return bool(self.response["allowed"])

    @property
    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = self.response["status"]
        return status

    @property
    def operations(self) -> list[dict[str, Any]]:
        """The patch; an API server wants its type with it, and no type without."""
        assert ("patch" in self.response) == ("patchType" in self.response)
        operations: list[dict[str, Any]] = json.loads(base64.b64decode(self.response.get("patch", "W10=")))
        return operations

    def patched(self, obj: dict[str, Any]) -> Any:
        return json_patch(obj, self.operations)


def verdict(answer: Answer) -> Verdict:
    assert answer.code == 200, answer
    document = json.loads(answer.body)
    assert document["kind"] == "AdmissionReview"
    return Verdict(document["apiVersion"], document["response"])
