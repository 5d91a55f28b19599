"""The process cloud: what its Nodes have that kwok's have not; the rest is the same code, and tested there."""

from __future__ import annotations

from typing import Any

from kaito.catalog import CurrentCatalog
from kaito.client.client import Client
from kaito.controllers.gpu_provisioner.provider import LaunchSpec
from kaito.controllers.gpu_provisioner.providers.process import ProcessProvider
from kaito.devcluster.process_nodes.addresses import LABEL
from kaito.kube.core_v1 import Node
from kaito.testing.fake_api import FakeApi


def test_its_nodes_are_the_agents_and_have_what_the_instance_type_has(play: Any) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        # What a Workspace asks of its nodes cannot take them from the agent.
        spec = LaunchSpec("ws1", "claim-1", "Standard_NC12s_v3", labels={"apps": "phi-3", LABEL: "false"})
        provider = ProcessProvider(client, CurrentCatalog())
        instance = await provider.begin_create(spec)
        (node,) = await client.list(Node)
        assert node.metadata.labels.items() >= {LABEL: "true", "apps": "phi-3"}.items()
        assert "kwok.x-k8s.io/node" not in node.metadata.annotations
        assert instance.provider_id == node.spec.provider_id == "process://ws1"
        assert node.status.capacity["nvidia.com/gpu"] == "2"
        assert await provider.list() == [instance]

    play(main)
