"""The collector: removes what has no claim any more, and nothing else, whatever it cannot see."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from kaito.api.karpenter_v1 import NodeClaim
from kaito.api.karpenter_v1alpha5 import Machine
from kaito.client.client import Client
from kaito.client.errors import ApiError
from kaito.controllers.claim_registry import ClaimRegistry
from kaito.controllers.gpu_provisioner.collector import ORPHAN_AGE, SWEEP_INTERVAL, InstanceCollector, Sweeper
from kaito.controllers.gpu_provisioner.provider import InstanceState, ProviderError
from kaito.kube.core_v1 import Node
from kaito.kube.object_key import ObjectKey
from kaito.runtime.reconciler import Result
from kaito.testing.fake_api import FakeApi, Fault, Refuse
from tests.operating.scripted_cloud import ScriptedCloud

NAME = "ws012345678"
GPU = {"kaito.sh/machine-type": "gpu", "agentpool": NAME}
Machines = Callable[..., Machine]
Nodes = Callable[..., Node]


class Scene:
    """A cluster, and a collector that looks at it when its objects are old enough, unless told otherwise."""

    def __init__(self, api: FakeApi, client: Client, cloud: ScriptedCloud, now: datetime) -> None:
        self.api = api
        self.client = client
        self.cloud = cloud
        self.now = now + ORPHAN_AGE
        self.collector = InstanceCollector(client, cloud, ClaimRegistry(client), lambda: self.now)

    async def look(self, name: str = NAME) -> Result:
        return await self.collector.reconcile_key(ObjectKey(name))

    async def nodes(self) -> list[str]:
        return [node.metadata.name for node in await self.client.list(Node)]


@pytest.fixture
def scene(play: Any, cloud: ScriptedCloud, now: datetime) -> Callable[..., None]:
    def run(script: Callable[[Scene], Any]) -> None:
        async def main(api: FakeApi, client: Client) -> None:
            await script(Scene(api, client, cloud, now))

        play(main)

    return run


def owned(uid: str, kind: str = "Machine", **metadata: Any) -> dict[str, Any]:
    version = "v1alpha5" if kind == "Machine" else "v1"
    owner = {"apiVersion": f"karpenter.sh/{version}", "kind": kind, "name": NAME, "uid": uid}
    return {"labels": GPU, "ownerReferences": [owner], "finalizers": ["karpenter.sh/termination"], **metadata}


def test_a_node_whose_claim_is_gone_goes_with_its_instance_finalizer_and_all(scene: Any, node: Nodes) -> None:
    async def script(at: Scene) -> None:
        at.cloud.instance(NAME, "gone")
        await at.client.create(node(metadata=owned("gone")))
        await at.look()
        assert await at.nodes() == []
        assert at.cloud.instances == {}

    scene(script)


def test_a_node_whose_claim_lives_stays(scene: Any, node: Nodes, machine: Machines) -> None:
    async def script(at: Scene) -> None:
        claim = await at.client.create(machine())
        await at.client.create(node(metadata=owned(claim.metadata.uid)))
        assert await at.look() == Result()
        assert await at.nodes() == [NAME]
        assert at.cloud.asked == []

    scene(script)


def test_a_node_of_another_name_than_its_claim_stays_too(scene: Any, node: Nodes, machine: Machines) -> None:
    async def script(at: Scene) -> None:
        claim = await at.client.create(machine())
        await at.client.create(node("aks-vmss000000", metadata=owned(claim.metadata.uid)))
        await at.look("aks-vmss000000")
        assert await at.nodes() == ["aks-vmss000000"]

    scene(script)


def test_the_node_of_a_claim_of_the_other_wire_kind_stays(scene: Any, node: Nodes) -> None:
    async def script(at: Scene) -> None:
        spec = {"nodeClassRef": {"group": "kaito.sh", "kind": "KaitoNodeClass", "name": "d"}, "requirements": []}
        claim = await at.client.create(NodeClaim.model_validate({"metadata": {"name": NAME}, "spec": spec}))
        await at.client.create(node(metadata=owned(claim.metadata.uid, "NodeClaim")))
        await at.look()
        assert await at.nodes() == [NAME]

    scene(script)


def test_a_node_left_by_an_earlier_claim_of_that_name_goes(scene: Any, node: Nodes, machine: Machines) -> None:
    async def script(at: Scene) -> None:
        await at.client.create(machine())
        at.cloud.instance(NAME, "earlier")
        await at.client.create(node(metadata=owned("earlier")))
        await at.look()
        assert await at.nodes() == []
        assert at.cloud.instances == {}

    scene(script)


def test_a_young_node_is_given_time(scene: Any, node: Nodes) -> None:
    async def script(at: Scene) -> None:
        at.now -= timedelta(seconds=10)
        await at.client.create(node(metadata=owned("gone")))
        assert (await at.look()).requeue_after == timedelta(seconds=11)
        assert await at.nodes() == [NAME]

    scene(script)


@pytest.mark.parametrize("labels", [{}, GPU], ids=["plain", "labelled-like-ours"])
def test_a_node_that_no_claim_and_no_cloud_knows_is_the_users(scene: Any, node: Nodes, labels: dict[str, str]) -> None:
    async def script(at: Scene) -> None:
        await at.client.create(node(metadata={"labels": labels}))
        assert await at.look() == Result()
        assert await at.nodes() == [NAME]

    scene(script)


def test_when_the_api_server_does_not_tell_nothing_is_removed(scene: Any, node: Nodes) -> None:
    async def script(at: Scene) -> None:
        await at.client.create(node(metadata=owned("gone")))
        # Whichever of the looks at the claims fails, the cached one or the sure ones.
        for resource in ("machines", "nodeclaims"):
            at.api.faults.add(Fault(Refuse(403, "Forbidden"), verb="get", resource=resource))
            with pytest.raises(ApiError):
                await at.look()
        assert await at.nodes() == [NAME]
        assert at.cloud.asked == []

    scene(script)


def test_the_node_stays_until_the_cloud_says_that_its_instance_is_gone(scene: Any, node: Nodes) -> None:
    async def script(at: Scene) -> None:
        at.cloud.instance(NAME, "gone")
        at.cloud.deletes_at_once = False
        await at.client.create(node(metadata=owned("gone")))
        assert (await at.look()).requeue_after is not None
        assert await at.nodes() == [NAME]

    scene(script)


def test_a_sweep_removes_only_instances_that_have_neither_claim_nor_node(
    scene: Any, node: Nodes, machine: Machines
) -> None:
    async def script(at: Scene) -> None:
        claim = await at.client.create(machine("claimed"))
        at.cloud.instance("claimed", claim.metadata.uid)
        at.cloud.instance("uid-was-lost", "")
        await at.client.create(machine("uid-was-lost"))
        at.cloud.instance("with-node", "u")
        await at.client.create(node("with-node"))
        at.cloud.instance("going", "u", InstanceState.DELETING)
        at.cloud.instance("leaked", "u")
        assert [instance.name for instance in await at.collector.sweep()] == ["leaked"]
        assert at.cloud.asked == ["delete leaked"]

    scene(script)


def test_a_sweep_of_an_incomplete_inventory_removes_nothing(scene: Any) -> None:
    async def script(at: Scene) -> None:
        at.cloud.instance("leaked", "u")
        at.cloud.refusal = ProviderError("Throttled", "page 2 did not come", retryable=True)
        with pytest.raises(ProviderError):
            await at.collector.sweep()
        assert at.cloud.asked == []

    scene(script)


def test_the_instances_of_claims_of_either_kind_are_left_alone(
    play: Any, cloud: ScriptedCloud, now: datetime, machine: Machines
) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        claim = await client.create(machine())
        cloud.instance(NAME, claim.metadata.uid)
        assert await InstanceCollector(client, cloud, ClaimRegistry(client), lambda: now).sweep() == []

    play(main)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ProviderError("Throttled", "page 2 did not come", retryable=True), ("WARNING", False)),
        (RuntimeError("a bug"), ("ERROR", True)),
    ],
)
def test_a_sweep_that_fails_is_told_in_one_line_and_a_surprise_with_its_traceback(
    scene: Any, caplog: pytest.LogCaptureFixture, error: Any, expected: tuple[str, bool]
) -> None:
    async def script(at: Scene) -> None:
        at.cloud.refusal = error
        sweeping = asyncio.create_task(Sweeper(at.collector).run())
        await asyncio.sleep(SWEEP_INTERVAL.total_seconds() * 2.5)
        sweeping.cancel()

    caplog.set_level(logging.INFO)
    scene(script)
    told = [record for record in caplog.records if record.message.startswith("sweep failed")]
    assert [(record.levelname, record.exc_info is not None) for record in told] == [expected] * 2


def test_an_api_server_that_is_down_is_no_surprise_to_a_sweep(scene: Any, caplog: pytest.LogCaptureFixture) -> None:
    async def script(at: Scene) -> None:
        at.cloud.instance("leaked", "u")
        at.api.faults.add(Fault(Refuse(503, "ServiceUnavailable"), verb="get", times=None))
        sweeping = asyncio.create_task(Sweeper(at.collector).run())
        await asyncio.sleep(SWEEP_INTERVAL.total_seconds() * 1.5)
        sweeping.cancel()

    caplog.set_level(logging.INFO)
    scene(script)
    assert [record.levelname for record in caplog.records if "sweep failed" in record.message] == ["WARNING"]
