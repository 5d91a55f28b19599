"""What others change or take away is put right: workload, Service, claim, node; and a name that is used again."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable

import pytest

from kaito.api.kaito_v1beta1 import Workspace
from kaito.api.karpenter_v1alpha5 import Machine
from kaito.kube.apps_v1 import Deployment, StatefulSet
from kaito.kube.core_v1 import Node, Service
from kaito.testing import eventually
from tests.operating.cluster import Cluster, workspace

NAME = "drifts"
CONTAINER = "/spec/template/spec/containers/0"


@pytest.fixture
async def ready(cluster: Cluster) -> Cluster:
    await cluster.apply(workspace(NAME))
    await cluster.ready(NAME)
    return cluster


@pytest.mark.parametrize(
    "change",
    [
        {"op": "replace", "path": "/spec/replicas", "value": 3},
        {"op": "replace", "path": f"{CONTAINER}/image", "value": "somebody/elses:1"},
        {"op": "add", "path": f"{CONTAINER}/env/-", "value": {"name": "STRANGER", "value": "1"}},
        {"op": "replace", "path": "/spec/strategy", "value": {"type": "RollingUpdate"}},
        {"op": "remove", "path": "/spec/template/spec/tolerations"},
    ],
    ids=["scaled", "image", "environment", "strategy", "tolerations"],
)
async def test_a_changed_deployment_is_put_right(ready: Cluster, change: dict[str, object]) -> None:
    wanted = spec(await ready.get(Deployment, NAME))
    await ready.kubectl("patch", "deployment", NAME, "--type", "json", "--patch", json.dumps([change]))

    async def repaired() -> bool:
        assert spec(await ready.get(Deployment, NAME)) == wanted
        return True

    await eventually(repaired, timeout_s=30, message="the deployment is as it was")
    await ready.ready(NAME)


@pytest.mark.parametrize("kind", [Service, Deployment])
async def test_what_is_deleted_is_made_again(ready: Cluster, kind: type[Service] | type[Deployment]) -> None:
    before = await ready.get(kind, NAME)
    await ready.kubectl("delete", kind.__name__.lower(), NAME)

    async def made_again() -> bool:
        found = await ready.find(kind, NAME)
        return found is not None and found.metadata.uid != before.metadata.uid

    await eventually(made_again, timeout_s=30, message="it is there again")
    await ready.ready(NAME)


async def test_a_machine_deleted_by_hand_is_replaced_by_its_next_incarnation(ready: Cluster) -> None:
    (before,) = await ready.claims(NAME)
    await ready.kubectl("delete", "machine", before.metadata.name)
    await eventually(replaced(ready, before.metadata.name), timeout_s=30, message="another machine has taken its place")
    found = await ready.ready(NAME)
    assert [claim.incarnation for claim in found.status.node_claims] == [1]
    assert await ready.find(Node, before.status.node_name) is None
    (pod,) = [pod for pod in await ready.pods(NAME) if pod.metadata.deletion_timestamp is None]
    assert (pod.spec.node_name,) == found.status.worker_nodes


async def test_a_node_deleted_by_hand_takes_its_machine_along_and_both_are_replaced(ready: Cluster) -> None:
    (before,) = await ready.claims(NAME)
    await ready.kubectl("delete", "node", before.status.node_name, "--wait=false")
    await eventually(replaced(ready, before.metadata.name), timeout_s=30, message="another machine has taken its place")
    found = await ready.ready(NAME)
    assert found.status.worker_nodes != (before.status.node_name,)
    assert await ready.find(Node, before.status.node_name) is None


async def test_a_node_that_was_torn_out_without_its_finalizer_comes_back(ready: Cluster) -> None:
    (claim,) = await ready.claims(NAME)
    before = await ready.get(Node, claim.status.node_name)
    await ready.patch("node", before.metadata.name, {"metadata": {"finalizers": None}})
    await ready.kubectl("delete", "node", before.metadata.name, "--ignore-not-found")

    async def another() -> bool:
        nodes = await ready.nodes(NAME)
        return len(nodes) == 1 and nodes[0].metadata.uid != before.metadata.uid

    await eventually(another, timeout_s=30, message="there is another node")
    await ready.ready(NAME)


async def test_while_the_node_is_gone_the_conditions_do_not_say_that_the_model_answers(ready: Cluster) -> None:
    (claim,) = await ready.claims(NAME)
    patch = {"spec": {"unschedulable": True}}
    await ready.patch("node", claim.status.node_name, patch)
    await ready.kubectl("delete", "pod", "-l", f"kaito.sh/workspace={NAME}", "--wait=false")
    message = await ready.condition(NAME, "InferenceReady", "False")
    assert "0 of 1 pods are ready" in message
    await ready.condition(NAME, "WorkspaceReady", "False")
    await ready.patch("node", claim.status.node_name, {"spec": {"unschedulable": False}})
    await ready.ready(NAME)


async def test_a_name_that_is_used_again_inherits_nothing(ready: Cluster) -> None:
    before = await ready.get(Workspace, NAME)
    (machine,) = await ready.claims(NAME)
    await ready.delete(NAME)
    await ready.apply(workspace(NAME))
    after = await ready.ready(NAME)
    assert after.metadata.uid != before.metadata.uid
    (new,) = await ready.claims(NAME)
    assert new.metadata.name != machine.metadata.name
    assert await ready.find(Node, machine.status.node_name) is None


async def test_the_machine_of_a_workspace_that_was_torn_out_is_collected(ready: Cluster) -> None:
    (machine,) = await ready.claims(NAME)
    await ready.patch("workspace", NAME, {"metadata": {"finalizers": None}})
    await ready.kubectl("delete", "workspace", NAME, "--ignore-not-found")
    await ready.gone(NAME)
    assert await ready.find(Machine, machine.metadata.name) is None


async def test_a_model_on_several_nodes_runs_as_a_stateful_set_with_a_pod_on_each(cluster: Cluster) -> None:
    await cluster.apply(workspace("spread", preset="llama-3.3-70b-instruct", instance_type="Standard_NC24ads_A100_v4"))
    found = await cluster.ready("spread")
    assert found.status.target_node_count > 1
    claims = await cluster.claims("spread")
    assert len(claims) == found.status.target_node_count
    stateful_set = await cluster.get(StatefulSet, "spread")
    assert stateful_set.spec.replicas == len(claims)
    assert await cluster.find(Deployment, "spread") is None
    assert {pod.spec.node_name for pod in await cluster.pods("spread")} == {claim.status.node_name for claim in claims}
    headless = await cluster.get(Service, "spread-headless")
    assert headless.spec.cluster_ip == "None"
    await cluster.delete("spread")
    await cluster.gone("spread")
    assert await cluster.find(Service, "spread-headless") is None


def spec(deployment: Deployment) -> object:
    return deployment.to_dict()["spec"]


def replaced(cluster: Cluster, name: str) -> Callable[[], Awaitable[bool]]:
    async def probe() -> bool:
        names = [claim.metadata.name for claim in await cluster.claims(NAME)]
        assert len(names) == 1, names
        assert names != [name]
        return True

    return probe
