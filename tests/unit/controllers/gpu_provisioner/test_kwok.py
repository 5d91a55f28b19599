"""The kwok cloud: Node objects as instances; idempotent by name, and never another's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kaito.catalog import CurrentCatalog
from kaito.client.client import Client
from kaito.controllers.gpu_provisioner.provider import InstanceState, InvalidRequest, LaunchSpec, NameTaken
from kaito.controllers.gpu_provisioner.providers.kwok import KwokProvider
from kaito.kube.core_v1 import Node
from kaito.testing.fake_api import FakeApi

SPEC = LaunchSpec(
    "ws1",
    "claim-1",
    "Standard_NC12s_v3",
    labels={"apps": "phi-3"},
    taints=(("sku", "gpu", "NoSchedule"),),
    disk_gib=120,
)


def test_an_instance_is_a_node_with_the_types_resources_labels_and_taints(play: Any) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        instance = await KwokProvider(client, CurrentCatalog()).begin_create(SPEC)
        (node,) = await client.list(Node)
        assert (instance.state, instance.uid) == (InstanceState.RUNNING, "claim-1")
        assert instance.provider_id == node.spec.provider_id == "kwok://ws1"
        assert node.metadata.annotations["kwok.x-k8s.io/node"] == "fake"
        assert (
            node.metadata.labels.items()
            >= {
                "apps": "phi-3",
                "node.kubernetes.io/instance-type": "Standard_NC12s_v3",
                "nvidia.com/gpu.count": "2",
            }.items()
        )
        assert node.status.allocatable["nvidia.com/gpu"] == "2"
        assert node.status.allocatable["ephemeral-storage"] == "120Gi"
        assert [(taint.key, taint.value, taint.effect) for taint in node.spec.taints] == [("sku", "gpu", "NoSchedule")]

    play(main)


def test_asked_twice_it_makes_one(play: Any) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        provider = KwokProvider(client, CurrentCatalog())
        assert await provider.begin_create(SPEC) == await provider.begin_create(SPEC)
        assert len(await provider.list()) == 1

    play(main)


def test_a_type_that_it_does_not_know_is_an_invalid_request(play: Any) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        with pytest.raises(InvalidRequest, match="Standard_NC12s_v3"):
            await KwokProvider(client, CurrentCatalog()).begin_create(LaunchSpec("ws1", "u", "Standard_NC12s_v33"))

    play(main)


def test_a_node_of_somebody_else_is_neither_taken_nor_deleted(play: Any, node: Callable[..., Node]) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        provider = KwokProvider(client, CurrentCatalog())
        await client.create(node("ws1"))
        with pytest.raises(NameTaken):
            await provider.begin_create(SPEC)
        assert await provider.begin_delete("ws1", "claim-1")
        assert len(await client.list(Node)) == 1
        assert await provider.list() == []

    play(main)


def test_what_is_deleted_is_gone_or_going(play: Any) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        provider = KwokProvider(client, CurrentCatalog())
        await provider.begin_create(SPEC)
        (node,) = await client.list(Node)
        await client.patch(Node, node.key, {"metadata": {"finalizers": ["example.com/holds"]}})
        assert await provider.begin_delete("ws1", "claim-1")
        going = await provider.observe("ws1")
        assert going is not None
        assert going.state is InstanceState.DELETING
        await client.patch(Node, node.key, {"metadata": {"finalizers": None}})
        assert await provider.observe("ws1") is None
        assert await provider.begin_delete("ws1", "claim-1")

    play(main)
