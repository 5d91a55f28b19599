"""The original walk-through: what a user types and sees, on a real control plane with nodes that kwok plays."""

from __future__ import annotations

from typing import Any

import pytest

from kaito.api.karpenter_v1alpha5 import Machine
from kaito.devcluster.errors import KubectlError
from kaito.kube.apps_v1 import Deployment
from kaito.kube.conditions import is_true
from kaito.kube.core_v1 import Node, Service
from tests.operating.cluster import PHI_3, PHI_3_WITH_ADAPTERS, TUNING, Cluster, filled_in, manifest, workspace

NAME = "workspace-phi-3-mini"
ADAPTER_NAME = "workspace-phi-3-mini-adapter"


@pytest.mark.parametrize(("example", "name"), [(PHI_3, NAME), (PHI_3_WITH_ADAPTERS, ADAPTER_NAME)])
async def test_an_applied_manifest_becomes_ready_and_prints_as_the_walk_through_shows(
    cluster: Cluster, example: str, name: str
) -> None:
    await cluster.apply(filled_in(example))
    await cluster.ready(name)
    header, row = (await cluster.kubectl("get", "workspace", name)).splitlines()
    assert header.split() == ["NAME", "INSTANCE", "RESOURCEREADY", "INFERENCEREADY", "WORKSPACEREADY", "AGE"]
    assert row.split()[:5] == [name, "Standard_NC6s_v3", "True", "True", "True"]


async def test_the_machine_is_as_karpenter_and_kaito_know_it(cluster: Cluster) -> None:
    await cluster.apply(filled_in(PHI_3))
    found = await cluster.ready(NAME)
    (machine,) = await cluster.claims(NAME)
    assert isinstance(machine, Machine)
    assert "karpenter.sh/termination" in machine.metadata.finalizers
    assert (
        machine.metadata.labels.items()
        >= {
            "karpenter.sh/provisioner-name": "default",
            "kaito.sh/workspace": NAME,
            "kaito.sh/workspacenamespace": cluster.namespace,
            "apps": "phi-3",
        }.items()
    )
    assert requirements(machine) == {
        "node.kubernetes.io/instance-type": ("In", ("Standard_NC6s_v3",)),
        "karpenter.sh/provisioner-name": ("In", ("default",)),
        "kaito.sh/machine-type": ("In", ("gpu",)),
        "kubernetes.io/arch": ("In", ("amd64",)),
        "kubernetes.io/os": ("In", ("linux",)),
    }
    assert [(taint.key, taint.value, taint.effect) for taint in machine.spec.taints] == [("sku", "gpu", "NoSchedule")]
    assert machine.spec.resources.requests["storage"].endswith("Gi")
    assert machine.spec.machine_template_ref is not None
    assert machine.spec.machine_template_ref.name == machine.metadata.name
    for condition in ("MachineLaunched", "MachineRegistered", "MachineInitialized", "Ready"):
        assert is_true(machine.status.conditions, condition), condition
    assert machine.metadata.name == found.status.node_claims[0].name
    assert machine.metadata.name.startswith("ws")
    assert len(machine.metadata.name) == 11
    printed = (await cluster.kubectl("get", "machine", machine.metadata.name, "--no-headers")).split()
    assert printed[:5] == [machine.metadata.name, "Standard_NC6s_v3", "kwok-1", machine.status.node_name, "True"]


async def test_the_node_is_registered_labelled_and_initialized(cluster: Cluster) -> None:
    await cluster.apply(filled_in(PHI_3))
    await cluster.ready(NAME)
    (machine,) = await cluster.claims(NAME)
    node = await cluster.get(Node, machine.status.node_name)
    assert "karpenter.sh/termination" in node.metadata.finalizers
    assert [owner.uid for owner in node.metadata.owner_references] == [machine.metadata.uid]
    assert node.spec.provider_id == machine.status.provider_id
    assert (
        node.metadata.labels.items()
        >= {
            "karpenter.sh/registered": "true",
            "karpenter.sh/initialized": "true",
            "accelerator": "nvidia",
            "kaito.sh/machine-type": "gpu",
            "kaito.sh/workspace": NAME,
            "apps": "phi-3",
            "node.kubernetes.io/instance-type": "Standard_NC6s_v3",
        }.items()
    )
    assert ("sku", "gpu", "NoSchedule") in {(taint.key, taint.value, taint.effect) for taint in node.spec.taints}


async def test_the_deployment_runs_on_the_node_that_the_machine_brought(cluster: Cluster) -> None:
    await cluster.apply(filled_in(PHI_3))
    found = await cluster.ready(NAME)
    deployment = (await cluster.get(Deployment, NAME)).to_dict()
    pod = deployment["spec"]["template"]["spec"]
    assert deployment["spec"]["strategy"] == {"type": "Recreate"}
    assert [owner["uid"] for owner in deployment["metadata"]["ownerReferences"]] == [found.metadata.uid]
    assert pod["containers"][0]["resources"]["limits"] == {"nvidia.com/gpu": "1"}
    assert {"key": "sku", "operator": "Equal", "value": "gpu", "effect": "NoSchedule"} in pod["tolerations"]
    assert affinity(pod)["apps"] == ["phi-3"]
    (running,) = await cluster.pods(NAME)
    (machine,) = await cluster.claims(NAME)
    assert running.spec.node_name == machine.status.node_name
    assert found.status.worker_nodes == (machine.status.node_name,)


async def test_the_service_has_the_ports_of_http_and_of_torch(cluster: Cluster) -> None:
    await cluster.apply(filled_in(PHI_3))
    await cluster.ready(NAME)
    row = (await cluster.kubectl("get", "svc", NAME, "--no-headers")).split()
    assert (row[1], row[4]) == ("ClusterIP", "80/TCP,29500/TCP")
    service = await cluster.get(Service, NAME)
    (pod,) = await cluster.pods(NAME)
    assert service.spec.selector.items() <= pod.metadata.labels.items()


async def test_deleting_the_workspace_removes_everything_that_was_made_for_it(cluster: Cluster) -> None:
    await cluster.apply(filled_in(PHI_3))
    await cluster.ready(NAME)
    (machine,) = await cluster.claims(NAME)
    await cluster.delete(NAME)
    await cluster.gone(NAME)
    assert await cluster.find(Node, machine.status.node_name) is None


async def test_two_workspaces_that_share_their_labels_each_keep_to_the_node_made_for_them(cluster: Cluster) -> None:
    names = ("one", "other")
    await cluster.apply(*(workspace(name, label="shared") for name in names))
    await cluster.all_ready(names)
    placed = {}
    for name in names:
        (claim,) = await cluster.claims(name)
        (pod,) = await cluster.pods(name)
        assert pod.spec.node_name == claim.status.node_name
        placed[name] = pod.spec.node_name
    assert len(set(placed.values())) == 2


@pytest.mark.parametrize(
    ("example", "field"),
    [
        (PHI_3_WITH_ADAPTERS, "inference.adapters[0].source.image"),
        (TUNING[0], "tuning.output.image"),
        (TUNING[1], "tuning.output.image"),
    ],
)
async def test_a_manifest_with_its_placeholders_left_in_is_refused_naming_the_field(
    cluster: Cluster, example: str, field: str
) -> None:
    with pytest.raises(KubectlError, match="placeholder") as refusal:
        await cluster.apply(manifest(example))
    assert field in str(refusal.value)
    assert await cluster.claims() == []


@pytest.mark.parametrize("example", TUNING)
async def test_a_tuning_manifest_says_in_its_condition_that_tuning_is_not_there_yet(
    cluster: Cluster, example: str
) -> None:
    await cluster.apply(filled_in(example))
    name = ADAPTER_NAME if "128k" in example else NAME
    message = await cluster.condition(name, "ResourceReady", "False", "TuningNotSupported")
    assert message.startswith("tuning: ")
    assert await cluster.claims() == []


def requirements(claim: Machine) -> dict[str, tuple[str, tuple[str, ...]]]:
    return {each.key: (each.operator, each.values) for each in claim.spec.requirements}


def affinity(pod: dict[str, Any]) -> dict[str, list[str]]:
    required = pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    (term,) = required["nodeSelectorTerms"]
    return {each["key"]: each["values"] for each in term["matchExpressions"]}
