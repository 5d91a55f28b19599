"""What the controllers' tests share: an API server in memory under virtual time, a Workspace, a cloud to script."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

import pytest

from kaito.api.kaito_v1beta1 import Workspace
from kaito.api.karpenter_v1 import NodeClaim
from kaito.api.karpenter_v1alpha5 import Machine
from kaito.client.client import Client
from kaito.kube.core_v1 import Node
from kaito.testing.fake_api import FakeApi
from kaito.testing.virtual_clock import run
from tests.operating.scripted_cloud import ScriptedCloud

T = TypeVar("T")
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture
def now() -> datetime:
    return NOW


@pytest.fixture
def cloud() -> ScriptedCloud:
    return ScriptedCloud()


@pytest.fixture
def play() -> Callable[[Callable[[FakeApi, Client], Awaitable[Any]]], Any]:
    """Runs a coroutine function of (server, client) under virtual time."""

    def play(main: Callable[[FakeApi, Client], Awaitable[T]]) -> T:
        async def body() -> T:
            api = FakeApi(clock=lambda: NOW)
            for kind in (Workspace, Machine, NodeClaim):
                api.register(kind)
            async with Client(api.transport(), field_owner="tests") as client:
                return await main(api, client)

        return run(body())

    return play


@pytest.fixture
def workspace() -> Callable[..., Workspace]:
    """Makes a Workspace as it would be read."""

    def make(
        preset: str = "phi-3-mini-4k-instruct",
        instance_type: str = "Standard_NC6s_v3",
        *,
        count: int = 1,
        uid: str = "uid-1",
        **fields: Any,
    ) -> Workspace:
        metadata = {"name": "phi", "namespace": "default", "uid": uid, "resourceVersion": "7", "generation": 3}
        annotations = fields.pop("annotations", {})
        labels = fields.pop("labels", {"apps": "phi-3"})
        return Workspace.model_validate(
            {
                "metadata": {**metadata, "annotations": annotations},
                "resource": {
                    "count": count,
                    "instanceType": instance_type,
                    "labelSelector": {"matchLabels": labels},
                },
                "inference": {"preset": {"name": preset}},
                **fields,
            }
        )

    return make


@pytest.fixture
def machine() -> Callable[..., Machine]:
    """Makes a Machine of a Workspace."""

    def make(name: str = "ws012345678", **fields: Any) -> Machine:
        metadata = {
            "name": name,
            "labels": {"kaito.sh/workspace": "phi", "apps": "phi-3"},
            **fields.pop("metadata", {}),
        }
        spec = {
            "requirements": [
                {"key": "node.kubernetes.io/instance-type", "operator": "In", "values": ["Standard_NC6s_v3"]}
            ],
            "resources": {"requests": {"storage": "100Gi"}},
            "taints": [{"key": "sku", "value": "gpu", "effect": "NoSchedule"}],
        }
        return Machine.model_validate({"metadata": metadata, "spec": {**spec, **fields.pop("spec", {})}, **fields})

    return make


@pytest.fixture
def node() -> Callable[..., Node]:
    """Makes a Node as it joins: ready, with a GPU."""

    def make(name: str = "ws012345678", *, gpus: str = "1", ready: str = "True", **fields: Any) -> Node:
        status = {
            "allocatable": {"cpu": "6", "nvidia.com/gpu": gpus},
            "conditions": [{"type": "Ready", "status": ready, "reason": "KubeletReady", "message": "said by kubelet"}],
        }
        spec = {"providerID": f"scripted://{name}", **fields.pop("spec", {})}
        metadata = {"name": name, **fields.pop("metadata", {})}
        return Node.model_validate({"metadata": metadata, "spec": spec, "status": status})

    return make
