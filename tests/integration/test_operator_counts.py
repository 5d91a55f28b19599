"""`resource.count` of a running Workspace, raised and lowered, on a real control plane."""

from __future__ import annotations

from kaito.api.kaito_v1beta1 import Workspace
from kaito.kube.apps_v1 import Deployment, StatefulSet
from kaito.testing import eventually
from tests.operating.cluster import Cluster, workspace

NAME = "counts"


async def changed(cluster: Cluster, count: int) -> list[str]:
    """The count is patched; waits until as many nodes are there, ready, each with a pod; returns their claims."""
    await cluster.patch("workspace", NAME, {"resource": {"count": count}})

    async def whole() -> list[str]:
        found = await cluster.get(Workspace, NAME)
        claims, nodes, pods = await cluster.claims(NAME), await cluster.nodes(NAME), await cluster.pods(NAME)
        assert found.status.target_node_count == len(claims) == len(nodes) == len(pods) == count
        assert {pod.spec.node_name for pod in pods} == {claim.status.node_name for claim in claims}
        assert {claim.name for claim in found.status.node_claims} == {claim.metadata.name for claim in claims}
        return [claim.metadata.name for claim in claims]

    names = await eventually(whole, timeout_s=60, interval_s=0.2, message=f"{count} nodes, a pod on each")
    await cluster.ready(NAME)
    return names


async def test_nodes_are_added_and_given_back_without_one_that_is_replaced(cluster: Cluster) -> None:
    await cluster.apply(workspace(NAME))
    await cluster.ready(NAME)
    (first,) = [claim.metadata.name for claim in await cluster.claims(NAME)]
    three = await changed(cluster, 3)
    assert first in three
    assert (await cluster.get(StatefulSet, NAME)).spec.replicas == 3
    assert await cluster.find(Deployment, NAME) is None
    before = {pod.metadata.uid: pod.spec.node_name for pod in await cluster.pods(NAME)}
    two = await changed(cluster, 2)
    assert set(two) < set(three)
    after = {pod.metadata.uid: pod.spec.node_name for pod in await cluster.pods(NAME)}
    assert after.items() < before.items()
    (one,) = await changed(cluster, 1)
    assert one in two
    assert await cluster.find(StatefulSet, NAME) is None
    events = await cluster.kubectl("get", "events", "-o", "jsonpath={.items[*].reason}")
    assert events.split().count("NodeClaimReleased") == 2
    assert len(await changed(cluster, 2)) == 2
