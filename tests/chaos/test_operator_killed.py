"""kill -9 of the manager at any write, before or after it took effect: same end state, no second machine, no orphan."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from enum import Enum
from pathlib import Path

import pytest

from kaito.api.kaito_v1beta1 import Workspace
from kaito.client import Client
from kaito.client.transport import Request
from kaito.devcluster.controlplane import ControlPlane
from kaito.kube.apps_v1 import Deployment, StatefulSet
from kaito.kube.core_v1 import Service
from kaito.testing import eventually
from kaito.testing.fake_api import Drop, Fault
from kaito.testing.fault_proxy import FaultProxy, Write
from tests.operating.cluster import SETTLE_TIMEOUT_S, Cluster, install_crds, told, workspace
from tests.operating.manager_process import ManagerProcess

NAME = "killed"
# More than either way takes: the last numbers kill nobody, and show that all before them were reached.
WRITES_TO_READY = 24
WRITES_TO_GONE = 14
WRITES_TO_GROW = 50
WRITES_TO_SHRINK = 30
Choice = Callable[[Drop], Fault]
"""Makes the rule by which a manager dies: at which write."""


class Moment(Enum):
    """When, in the life of a write, the writer dies."""

    BEFORE_IT_IS_SENT = "before"
    BEFORE_IT_IS_ANSWERED = "after"


class Stage:
    """A cluster, a proxy before it, and one manager after the other.

    Args:
        cluster: live, past the proxy.
        proxy: what the managers speak through.
        folder: for logs.
    """

    def __init__(self, cluster: Cluster, proxy: FaultProxy, folder: Path) -> None:
        self.cluster = cluster
        self.proxy = proxy
        self._folder = folder
        self._managers = 0

    def manager(self) -> ManagerProcess:
        """Another manager, not started."""
        self._managers += 1
        return ManagerProcess(self.proxy.kubeconfig, self._folder / f"manager-{self._managers}.log")

    async def apply(self, choice: Choice, moment: Moment) -> bool:
        """Applies a Workspace, kills the manager on its way, and checks what the next one makes of it.

        Returns:
            Whether the chosen write came.
        """
        async with self.manager() as doomed:
            await doomed.ready()
            fault = self._doom(doomed, choice, moment)
            await self.cluster.apply(workspace(NAME))
            await eventually(self._killed_or_ready, timeout_s=SETTLE_TIMEOUT_S, message="killed, or ready")
            self.proxy.faults.clear()
        async with self.manager() as next_one:
            await self.cluster.ready(NAME)
            await self._is_whole()
            assert next_one.failures() == []
        return fault.has_hit

    async def delete(self, choice: Choice, moment: Moment) -> bool:
        """Deletes the Workspace, kills the manager on its way, and checks what the next one makes of it."""
        async with self.manager() as doomed:
            await doomed.ready()
            await self.cluster.apply(workspace(NAME))
            await self.cluster.ready(NAME)
            fault = self._doom(doomed, choice, moment)
            await self.cluster.kubectl("delete", "workspace", NAME, "--wait=false")
            await eventually(self._killed_or_gone, timeout_s=SETTLE_TIMEOUT_S, message="killed, or gone")
            self.proxy.faults.clear()
        async with self.manager() as next_one:
            await self.cluster.gone(NAME)
            assert next_one.failures() == []
        return fault.has_hit

    async def count(self, before: int, after: int, choice: Choice, moment: Moment) -> bool:
        """Changes the count of a Workspace that is ready, kills the manager on its way, and checks what comes of it.

        Returns:
            Whether the chosen write came.
        """
        async with self.manager() as doomed:
            await doomed.ready()
            await self.cluster.apply(workspace(NAME, count=before))
            await self._counted(before)
            kept = {claim.metadata.uid for claim in await self.cluster.claims(NAME)}
            fault = self._doom(doomed, choice, moment)
            await self.cluster.patch("workspace", NAME, {"resource": {"count": after}})
            await eventually(
                lambda: self._killed_or_counted(after), timeout_s=SETTLE_TIMEOUT_S, message="killed, or counted"
            )
            self.proxy.faults.clear()
        async with self.manager() as next_one:
            await self._counted(after)
            assert next_one.failures() == []
        left = {claim.metadata.uid for claim in await self.cluster.claims(NAME)}
        assert left <= kept or kept <= left, "a node was replaced"
        return fault.has_hit

    async def _counted(self, count: int) -> None:
        """Waits until as many nodes are there, each with a claim and a ready pod, and no more of anything."""
        await eventually(
            lambda: self._is_counted(count), timeout_s=SETTLE_TIMEOUT_S, interval_s=0.2, message=f"{count} nodes"
        )

    async def _is_counted(self, count: int) -> bool:
        found = await self.cluster.get(Workspace, NAME)
        claims, nodes = await self.cluster.claims(NAME), await self.cluster.nodes(NAME)
        pods = await self.cluster.pods(NAME)
        assert set(told(found).values()) == {"True"}
        assert found.status.target_node_count == len(claims) == len(nodes) == len(pods) == count
        assert {claim.name for claim in found.status.node_claims} == {claim.metadata.name for claim in claims}
        assert {pod.spec.node_name for pod in pods} == {node.metadata.name for node in nodes}
        many, one = await self.cluster.find(StatefulSet, NAME), await self.cluster.find(Deployment, NAME)
        assert [workload.spec.replicas for workload in (many, one) if workload is not None] == [count]
        assert (one is not None) == (count == 1)
        return True

    async def _killed_or_counted(self, count: int) -> bool:
        return self._has_killed or await self._is_counted(count)

    def _doom(self, doomed: ManagerProcess, choice: Choice, moment: Moment) -> Fault:
        drop = Drop(handled=moment is Moment.BEFORE_IT_IS_ANSWERED, act=doomed.kill)
        return self.proxy.faults.add(choice(drop))

    @property
    def _has_killed(self) -> bool:
        return any(fault.has_hit for fault in self.proxy.faults)

    async def _is_whole(self) -> None:
        found = await self.cluster.get(Workspace, NAME)
        (claim,) = await self.cluster.claims(NAME)
        (node,) = await self.cluster.nodes(NAME)
        (pod,) = await self.cluster.pods(NAME)
        assert [(wanted.name, wanted.incarnation) for wanted in found.status.node_claims] == [(claim.metadata.name, 0)]
        assert found.status.worker_nodes == (node.metadata.name,)
        assert claim.status.node_name == node.metadata.name == pod.spec.node_name
        for kind in (Deployment, Service):
            owners = (await self.cluster.get(kind, NAME)).metadata.owner_references
            assert [owner.uid for owner in owners] == [found.metadata.uid]

    async def _killed_or_ready(self) -> bool:
        found = await self.cluster.find(Workspace, NAME)
        return self._has_killed or (found is not None and set(told(found).values()) == {"True"})

    async def _killed_or_gone(self) -> bool:
        return self._has_killed or not await self.cluster.left_of(NAME)


@pytest.fixture
async def stage(control_plane: ControlPlane, client: Client, namespace: str, tmp_path: Path) -> AsyncIterator[Stage]:
    await install_crds(control_plane)
    cluster = Cluster(control_plane, client, namespace)
    async with FaultProxy(control_plane.kubeconfig) as proxy:
        made = Stage(cluster, proxy, tmp_path)
        yield made
        async with made.manager():
            await cluster.kubectl("delete", "workspace", "--all", "--timeout=60s")


def first(kind: str) -> Choice:
    def is_chosen(request: Request) -> bool:
        write = Write.of(request)
        return write is not None and write.kind == kind and not write.is_dry_run

    return lambda drop: Fault(drop, only=is_chosen)


def at(number: int) -> Choice:
    return lambda drop: Fault(drop, only=lambda request: Write.of(request) is not None, nth=number)


@pytest.mark.parametrize(
    ("kind", "moment"),
    [
        ("PATCH workspaces/status", Moment.BEFORE_IT_IS_ANSWERED),
        ("POST machines", Moment.BEFORE_IT_IS_ANSWERED),
        ("POST nodes", Moment.BEFORE_IT_IS_ANSWERED),
        ("PATCH deployments", Moment.BEFORE_IT_IS_SENT),
    ],
)
async def test_a_manager_killed_while_it_makes_things_is_carried_on_by_the_next(
    stage: Stage, kind: str, moment: Moment
) -> None:
    assert await stage.apply(first(kind), moment)


@pytest.mark.parametrize(
    ("kind", "moment"),
    [
        ("DELETE machines", Moment.BEFORE_IT_IS_ANSWERED),
        ("DELETE nodes", Moment.BEFORE_IT_IS_ANSWERED),
        ("PATCH machines", Moment.BEFORE_IT_IS_SENT),
    ],
)
async def test_a_manager_killed_while_it_takes_things_away_is_carried_on_by_the_next(
    stage: Stage, kind: str, moment: Moment
) -> None:
    assert await stage.delete(first(kind), moment)


@pytest.mark.chaos
@pytest.mark.parametrize("moment", Moment)
@pytest.mark.parametrize("number", range(1, WRITES_TO_READY + 1))
async def test_a_manager_killed_at_any_write_to_ready_is_carried_on_by_the_next(
    stage: Stage, number: int, moment: Moment
) -> None:
    killed = await stage.apply(at(number), moment)
    assert killed or number > WRITES_TO_READY // 2, "there were fewer writes than this test was made for"


@pytest.mark.chaos
@pytest.mark.parametrize("moment", Moment)
@pytest.mark.parametrize("number", range(1, WRITES_TO_GONE + 1))
async def test_a_manager_killed_at_any_write_to_gone_is_carried_on_by_the_next(
    stage: Stage, number: int, moment: Moment
) -> None:
    killed = await stage.delete(at(number), moment)
    assert killed or number > WRITES_TO_GONE // 2, "there were fewer writes than this test was made for"


@pytest.mark.parametrize(
    ("before", "after", "kind", "moment"),
    [
        (1, 2, "POST machines", Moment.BEFORE_IT_IS_ANSWERED),
        (2, 1, "DELETE machines", Moment.BEFORE_IT_IS_ANSWERED),
    ],
)
async def test_a_manager_killed_while_a_count_changes_is_carried_on_by_the_next(
    stage: Stage, before: int, after: int, kind: str, moment: Moment
) -> None:
    assert await stage.count(before, after, first(kind), moment)


@pytest.mark.chaos
@pytest.mark.parametrize("moment", Moment)
@pytest.mark.parametrize("number", range(1, WRITES_TO_GROW + 1))
async def test_a_manager_killed_at_any_write_to_more_nodes_is_carried_on_by_the_next(
    stage: Stage, number: int, moment: Moment
) -> None:
    killed = await stage.count(1, 3, at(number), moment)
    assert killed or number > WRITES_TO_GROW // 2, "there were fewer writes than this test was made for"


@pytest.mark.chaos
@pytest.mark.parametrize("moment", Moment)
@pytest.mark.parametrize("number", range(1, WRITES_TO_SHRINK + 1))
async def test_a_manager_killed_at_any_write_to_fewer_nodes_is_carried_on_by_the_next(
    stage: Stage, number: int, moment: Moment
) -> None:
    killed = await stage.count(3, 1, at(number), moment)
    assert killed or number > WRITES_TO_SHRINK // 2, "there were fewer writes than this test was made for"
