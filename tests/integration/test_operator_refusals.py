"""What cannot be had: a condition that teaches, nothing that costs money, and a manager that serves the others."""

from __future__ import annotations

import pytest

from kaito.api.kaito_v1beta1 import Workspace
from kaito.kube.apps_v1 import Deployment
from kaito.kube.core_v1 import Node
from tests.operating.cluster import Cluster, workspace

CASES = {
    "unknown-preset": ({"preset": "phi-3-mini-4k-instrukt"}, "UnknownPreset", "inference.preset.name", "phi-3-mini-4k"),
    "unknown-type": (
        {"instance_type": "Standard_NC6s_v33"},
        "UnknownInstanceType",
        "resource.instanceType",
        "Standard_NC6s_v3",
    ),
    "too-big": (
        {"preset": "llama-3.1-8b-instruct"},
        "DoesNotFit",
        "resource.instanceType",
        "choose Standard_",
    ),
}


@pytest.mark.parametrize("name", CASES)
async def test_a_mistake_is_named_with_its_field_and_choices_and_costs_nothing(cluster: Cluster, name: str) -> None:
    changes, reason, field, choice = CASES[name]
    await cluster.apply(workspace(name, **changes), workspace("bystander"))
    message = await cluster.condition(name, "ResourceReady", "False", reason)
    assert message.startswith(f"{field}: ")
    assert choice in message
    assert await cluster.condition(name, "WorkspaceReady", "False", reason) == message
    await cluster.ready("bystander")
    assert await cluster.claims(name) == []
    # The user corrects it under the same name.
    await cluster.delete(name)
    await cluster.apply(workspace(name))
    await cluster.ready(name)


async def test_a_pod_that_the_namespace_does_not_admit_is_not_paid_for(cluster: Cluster) -> None:
    await cluster.apply(
        {
            "apiVersion": "v1",
            "kind": "ResourceQuota",
            "metadata": {"name": "no-gpus"},
            "spec": {"hard": {"requests.nvidia.com/gpu": "0"}},
        }
    )
    await cluster.kubectl("wait", "resourcequota/no-gpus", "--for=jsonpath={.status.hard}", "--timeout=20s")
    await cluster.apply(workspace("over-quota"))
    message = await cluster.condition("over-quota", "ResourceReady", "False", "Forbidden")
    assert "no-gpus" in message
    assert await cluster.claims() == []
    await cluster.kubectl("delete", "resourcequota", "no-gpus")
    await cluster.ready("over-quota")


async def test_somebody_elses_deployment_of_that_name_is_left_alone_and_reported(cluster: Cluster) -> None:
    await cluster.kubectl("create", "deployment", "taken", "--image=theirs")
    theirs = await cluster.get(Deployment, "taken")
    await cluster.apply(workspace("taken"))
    message = await cluster.condition("taken", "ResourceReady", "False", "NotOurs")
    assert "Deployment" in message
    assert "taken" in message
    found = await cluster.get(Deployment, "taken")
    assert found.metadata.uid == theirs.metadata.uid
    assert found.spec == theirs.spec
    assert await cluster.claims() == []
    await cluster.kubectl("delete", "deployment", "taken")
    await cluster.ready("taken")


async def test_somebody_elses_node_of_the_wanted_name_is_left_alone_also_when_the_workspace_goes(
    cluster: Cluster,
) -> None:
    await cluster.apply(workspace("name-taken"))
    await cluster.ready("name-taken")
    (claim,) = await cluster.claims("name-taken")
    name = claim.metadata.name
    await cluster.delete("name-taken")
    await cluster.gone("name-taken")
    # The next claim's name cannot be known beforehand; a Machine that a user makes can.
    await cluster.apply(
        {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {"theirs": "yes"}}},
        {
            "apiVersion": "karpenter.sh/v1alpha5",
            "kind": "Machine",
            "metadata": {"name": name, "labels": {"kaito.sh/workspace": "by-hand"}},
            "spec": {
                "requirements": [
                    {"key": "node.kubernetes.io/instance-type", "operator": "In", "values": ["Standard_NC6s_v3"]}
                ]
            },
        },
    )
    try:
        await cluster.kubectl("wait", f"machine/{name}", "--for=condition=MachineLaunched=false", "--timeout=30s")
        await cluster.kubectl("delete", "machine", name, "--timeout=30s")
        node = await cluster.get(Node, name)
        assert node.metadata.labels["theirs"] == "yes"
        assert node.metadata.deletion_timestamp is None
        assert [taint.key for taint in node.spec.taints if taint.key.startswith("karpenter.sh")] == []
    finally:
        await cluster.kubectl("delete", "node", name)


async def test_a_workspace_that_is_refused_can_be_deleted(cluster: Cluster) -> None:
    await cluster.apply(workspace("refused", preset="no-such-model"))
    await cluster.condition("refused", "ResourceReady", "False", "UnknownPreset")
    await cluster.delete("refused")
    assert await cluster.find(Workspace, "refused") is None
