"""Nodes that cannot be let go at once, claims that lose their labels, and models that change on several nodes."""

from __future__ import annotations

from kaito.api.karpenter_v1alpha5 import Machine
from kaito.kube.conditions import find
from kaito.kube.core_v1 import Node
from kaito.testing import eventually
from tests.operating.cluster import Cluster, workspace
from tests.operating.manager_process import ManagerProcess

NAME = "held"
OTHER_POD = """
apiVersion: v1
kind: Pod
metadata: {name: stays, labels: {app: stays}}
spec:
  nodeName: NODE
  containers: [{name: c, image: i}]
  tolerations: [{key: sku, operator: Exists}]
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: one-stays}
spec:
  minAvailable: 1
  selector: {matchLabels: {app: stays}}
"""


async def test_a_label_that_is_taken_off_comes_back_and_no_second_machine_is_bought(cluster: Cluster) -> None:
    await cluster.apply(workspace(NAME))
    await cluster.ready(NAME)
    (machine,) = await cluster.claims(NAME)
    for label in ("kaito.sh/workspace", "kaito.sh/workspace-uid"):
        await cluster.kubectl("label", "machine", machine.metadata.name, f"{label}-")

        async def is_back(label: str = label) -> bool:
            return label in (await cluster.get(Machine, machine.metadata.name)).metadata.labels

        await eventually(is_back, timeout_s=30, message="the label is back")
    await cluster.ready(NAME)
    assert [each.metadata.uid for each in await cluster.claims()] == [machine.metadata.uid]
    await cluster.delete(NAME)
    await cluster.gone(NAME)


async def test_a_pod_that_a_budget_holds_is_named_by_claim_and_workspace(
    cluster: Cluster, manager: ManagerProcess
) -> None:
    await cluster.apply(workspace(NAME))
    await cluster.ready(NAME)
    (machine,) = await cluster.claims(NAME)
    await cluster.apply(OTHER_POD.replace("NODE", machine.status.node_name))
    await cluster.kubectl("wait", "pod", "stays", "--for=condition=Ready", "--timeout=30s")
    await cluster.kubectl("delete", "workspace", NAME, "--wait=false")

    async def told() -> str:
        found = await cluster.get(Machine, machine.metadata.name)
        drained, ready = (find(found.status.conditions, name) for name in ("Drained", "Ready"))
        assert drained is not None
        assert ready is not None
        assert (drained.status, ready.status, ready.reason) == ("False", "False", "Terminating")
        assert "one-stays" in (drained.message or "")
        assert ready.message == drained.message
        return drained.message or ""

    async def workspace_tells() -> bool:
        sentence = await told()
        message = await cluster.condition(NAME, "ResourceReady", "False", "workspaceDeleted")
        assert f"{cluster.namespace}/stays: " in sentence
        assert sentence in message
        return True

    await eventually(workspace_tells, timeout_s=30, message="machine and workspace say what holds the node")
    await cluster.kubectl("delete", "pdb", "one-stays")
    await cluster.gone(NAME)
    assert await cluster.find(Node, machine.status.node_name) is None
    waits = manager.logged("claim's deletion waits", claim=machine.metadata.name)
    assert len(waits) == len({line["why"] for line in waits})


async def test_a_change_of_a_model_on_several_nodes_reaches_all_its_pods(cluster: Cluster) -> None:
    await cluster.apply(workspace("spread", count=2))
    await cluster.ready("spread")
    before = {pod.metadata.uid for pod in await cluster.pods("spread")}
    assert len(before) == 2
    await cluster.kubectl("annotate", "workspace", "spread", "kaito.sh/runtime=transformers")
    adapter = {"source": {"name": "a", "image": "registry.example.com/a:1"}, "strength": "1.0"}
    await cluster.patch("workspace", "spread", {"inference": {"adapters": [adapter]}})

    async def rolled_out() -> bool:
        pods = await cluster.pods("spread")
        assert len(pods) == 2
        assert not before & {pod.metadata.uid for pod in pods}
        assert all(pod.spec.init_containers for pod in pods)
        return True

    await eventually(rolled_out, timeout_s=60, message="both pods are new")
    await cluster.ready("spread")
    await cluster.delete("spread")
    await cluster.gone("spread")
