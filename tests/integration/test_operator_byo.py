"""`--node-provisioner byo`, and Workspaces without an instance type: nodes that are there are used, none is made."""

from __future__ import annotations

import pytest

from kaito.api.kaito_v1beta1 import Workspace
from kaito.api.karpenter_v1alpha5 import Machine
from tests.operating.cluster import Cluster, workspace


@pytest.fixture(scope="module")
def manager_arguments() -> tuple[str, ...]:
    return ("--node-provisioner", "byo")


def node(name: str, label: str, *, gpus: int = 1) -> dict[str, object]:
    resources = {"cpu": "24", "memory": "220Gi", "pods": "110", "nvidia.com/gpu": str(gpus)}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"apps": label}, "annotations": {"kwok.x-k8s.io/node": "fake"}},
        "status": {"capacity": resources, "allocatable": resources},
    }


async def test_ready_nodes_with_the_labels_are_used_and_no_claim_is_made(cluster: Cluster) -> None:
    await cluster.apply(node("own-1", "own"), workspace("own"))
    try:
        found = await cluster.ready("own")
        assert found.status.worker_nodes == ("own-1",)
        assert found.metadata.finalizers == ()
        (pod,) = await cluster.pods("own")
        assert pod.spec.node_name == "own-1"
        assert await cluster.claims() == []
    finally:
        await cluster.delete("own")
        await cluster.kubectl("delete", "node", "own-1")


async def test_a_workspace_waits_for_its_nodes_and_takes_them_as_soon_as_they_come(cluster: Cluster) -> None:
    await cluster.apply(workspace("waits"))
    message = await cluster.condition("waits", "ResourceReady", "False", "NodeNotReady")
    assert "0 of 1 ready nodes have the labels apps=waits" in message
    await cluster.apply(node("late-1", "waits"))
    try:
        await cluster.ready("waits")
    finally:
        await cluster.delete("waits")
        await cluster.kubectl("delete", "node", "late-1")


async def test_a_node_without_gpus_does_not_stand_in_the_way_of_one_that_has_them(cluster: Cluster) -> None:
    await cluster.apply(node("a-without", "mixed", gpus=0), node("b-with", "mixed"), workspace("mixed"))
    try:
        found = await cluster.ready("mixed")
        assert found.status.worker_nodes == ("b-with",)
    finally:
        await cluster.delete("mixed")
        await cluster.kubectl("delete", "node", "a-without", "b-with")


async def test_a_user_who_labels_the_node_later_need_not_touch_the_workspace(cluster: Cluster) -> None:
    await cluster.apply(node("plain", "something-else"), workspace("labelled"))
    try:
        await cluster.condition("labelled", "ResourceReady", "False", "NodeNotReady")
        await cluster.kubectl("label", "node", "plain", "apps=labelled", "--overwrite")
        await cluster.ready("labelled")
    finally:
        await cluster.delete("labelled")
        await cluster.kubectl("delete", "node", "plain")


async def test_deleting_a_workspace_leaves_the_users_node_as_it_was(cluster: Cluster) -> None:
    await cluster.apply(node("stays", "stays"), workspace("stays"))
    try:
        await cluster.ready("stays")
        await cluster.delete("stays")
        kept = await cluster.kubectl("get", "node", "stays", "-o", "jsonpath={.metadata.finalizers}{.spec.taints}")
        assert kept == ""
        assert await cluster.find(Workspace, "stays") is None
        assert await cluster.claims(kind=Machine) == []
    finally:
        await cluster.kubectl("delete", "node", "stays")
