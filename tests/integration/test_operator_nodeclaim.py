"""The walk-through with `--node-provisioner nodeclaim`: today's wire kind of claims, the same behaviour."""

from __future__ import annotations

import pytest

from kaito.api.karpenter_v1 import NodeClaim
from kaito.api.karpenter_v1alpha5 import Machine
from kaito.kube.conditions import is_true
from kaito.kube.core_v1 import Node
from kaito.testing import eventually
from tests.operating.cluster import PHI_3, Cluster, filled_in, workspace

NAME = "workspace-phi-3-mini"
# As Karpenter itself, and whoever else speaks its API, makes them: nothing of KAITO's on it.
FOREIGN = """
apiVersion: karpenter.sh/v1
kind: NodeClaim
metadata:
  name: karpenters-own
  labels: {karpenter.sh/nodepool: general}
spec:
  nodeClassRef: {group: karpenter.azure.com, kind: AKSNodeClass, name: default}
  requirements: [{key: node.kubernetes.io/instance-type, operator: In, values: [Standard_NC6s_v3]}]
"""


@pytest.fixture(scope="module")
def manager_arguments() -> tuple[str, ...]:
    return ("--node-provisioner", "nodeclaim")


async def test_the_walk_through_works_with_a_node_claim(cluster: Cluster) -> None:
    await cluster.apply(filled_in(PHI_3))
    await cluster.ready(NAME)
    (claim,) = await cluster.claims(NAME, NodeClaim)
    assert isinstance(claim, NodeClaim)
    assert await cluster.claims(NAME, Machine) == []
    for condition in ("Launched", "Registered", "Initialized", "Ready"):
        assert is_true(claim.status.conditions, condition), condition
    assert "karpenter.sh/termination" in claim.metadata.finalizers
    assert claim.metadata.labels["karpenter.sh/nodepool"] == "kaito"
    assert claim.metadata.annotations["karpenter.sh/do-not-disrupt"] == "true"
    assert claim.spec.expire_after == "Never"
    requirements = {each.key: each.values for each in claim.spec.requirements}
    assert requirements["node.kubernetes.io/instance-type"] == ("Standard_NC6s_v3",)
    (pod,) = await cluster.pods(NAME)
    assert pod.spec.node_name == claim.status.node_name
    node = await cluster.get(Node, claim.status.node_name)
    assert [(owner.kind, owner.uid) for owner in node.metadata.owner_references] == [("NodeClaim", claim.metadata.uid)]
    await cluster.delete(NAME)
    await cluster.gone(NAME)


async def test_a_node_claim_that_is_not_kaitos_is_left_alone(cluster: Cluster) -> None:
    await cluster.apply(FOREIGN)
    try:
        # What comes after it has been seen to.
        await cluster.apply(workspace("after-it"))
        await cluster.ready("after-it")
        claim = await cluster.get(NodeClaim, "karpenters-own")
        assert claim.metadata.finalizers == ()
        assert claim.status.conditions == ()
        assert await cluster.find(Node, "karpenters-own") is None
    finally:
        await cluster.kubectl("delete", "nodeclaim", "karpenters-own")


async def test_a_deleted_node_claim_is_replaced_and_nothing_is_left_of_it(cluster: Cluster) -> None:
    await cluster.apply(workspace("replaced"))
    await cluster.ready("replaced")
    (first,) = await cluster.claims("replaced", NodeClaim)
    await cluster.kubectl("delete", "nodeclaim", first.metadata.name)

    async def replaced() -> bool:
        names = [claim.metadata.name for claim in await cluster.claims("replaced", NodeClaim)]
        assert len(names) == 1
        assert names != [first.metadata.name]
        return True

    await eventually(replaced, timeout_s=30, message="another claim has taken its place")
    await cluster.ready("replaced")
    assert await cluster.find(Node, first.status.node_name) is None
