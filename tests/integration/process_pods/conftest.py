"""One agent of process nodes for all tests here, and a node of its own for each."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from kaito.client import Client
from kaito.devcluster.controlplane import ControlPlane
from kaito.kube.core_v1 import Node
from kaito.kube.object_key import ObjectKey
from kaito.testing import eventually
from tests.operating.process_agent import Agent, Pods


@pytest.fixture(scope="package")
def agent(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    """One for all: two of them would both run every pod."""
    running = Agent(control_plane.kubeconfig, tmp_path_factory.mktemp("process-nodes") / "agent")
    running.start()
    yield running
    running.stop()
    assert running.processes() == []


@pytest.fixture
async def pods(agent: Agent, client: Client, namespace: str) -> AsyncIterator[Pods]:
    """On a node of its own, with which all that they started ends."""
    made = Pods(client, namespace)
    labels = {"kaito.sh/process-node": "true"}
    await client.create(Node.model_validate({"metadata": {"name": made.node, "labels": labels}}))
    yield made
    await client.delete(Node, ObjectKey(made.node))
    await eventually(lambda: not agent.processes(), message="processes outlive their node")
