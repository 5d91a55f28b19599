"""Termination: cordon, drain, instance, Node, claim; in that order, and never another's node."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from kaito.api.karpenter_v1alpha5 import Machine
from kaito.client.client import Client
from kaito.client.errors import NotFound
from kaito.controllers.machine.termination import Termination
from kaito.kube.core_v1 import Node, Pod
from kaito.runtime.reconciler import Result
from kaito.testing.fake_api import FakeApi, Fault, Refuse
from tests.operating.scripted_cloud import ScriptedCloud

NAME = "ws012345678"
Machines = Callable[..., Machine]
Nodes = Callable[..., Node]


class Scene:
    """A claim that is being deleted, its registered node, and what ends them."""

    def __init__(self, client: Client, cloud: ScriptedCloud, now: datetime) -> None:
        self.client = client
        self.cloud = cloud
        self.now = now

    async def set(self, machine: Machines, node: Nodes, *, owned: bool = True) -> None:
        claim = await self.client.create(machine(metadata={"finalizers": ["karpenter.sh/termination"]}))
        self.cloud.instance(NAME, claim.metadata.uid)
        owner = {"apiVersion": "karpenter.sh/v1alpha5", "kind": "Machine", "name": NAME, "uid": claim.metadata.uid}
        metadata = {"finalizers": ["karpenter.sh/termination"], "ownerReferences": [owner]} if owned else {}
        await self.client.create(node(metadata=metadata))
        await self.client.delete(Machine, claim.key)

    async def add_pod(self, name: str, *, phase: str = "Running", **fields: Any) -> None:
        spec = {"nodeName": NAME, "containers": [{"name": "c", "image": "i"}], **fields.get("spec", {})}
        metadata = {"name": name, "namespace": "default", **fields.get("metadata", {})}
        pod = await self.client.create(Pod.model_validate({"metadata": metadata, "spec": spec}))
        await self.client.status.patch(Pod, pod.key, {"status": {"phase": phase}})

    async def step(self) -> Result:
        claim = (await self.client.list(Machine))[0]
        termination = Termination(self.client, self.cloud, lambda: self.now)
        return await termination.step(claim, await self.client.list(Node))

    async def left(self) -> list[str]:
        return [
            *(each.kind for each in await self.client.list(Machine)),
            *(each.kind for each in await self.client.list(Node)),
        ]


@pytest.fixture
def scene(play: Any, cloud: ScriptedCloud, now: datetime, machine: Machines, node: Nodes) -> Callable[..., None]:
    def run(script: Callable[[FakeApi, Scene], Any], **options: Any) -> None:
        async def main(api: FakeApi, client: Client) -> None:
            made = Scene(client, cloud, now)
            await made.set(machine, node, **options)
            await script(api, made)

        play(main)

    return run


def test_pods_leave_before_the_instance_does_and_the_claim_goes_last(scene: Any) -> None:
    async def script(api: FakeApi, at: Scene) -> None:
        await at.add_pod("model", metadata={"finalizers": ["example.com/slow"]})
        assert (await at.step()).requeue_after is not None
        (node,) = await at.client.list(Node)
        assert [taint.key for taint in node.spec.taints] == ["karpenter.sh/disrupted"]
        assert node.metadata.labels["node.kubernetes.io/exclude-from-external-load-balancers"] == "karpenter"
        (pod,) = await at.client.list(Pod)
        assert pod.metadata.deletion_timestamp is not None
        assert at.cloud.asked == []
        await at.client.patch(Pod, pod.key, {"metadata": {"finalizers": None}})
        assert (await at.step()).requeue_after is None
        assert at.cloud.asked == [f"delete {NAME}"]
        assert await at.left() == []

    scene(script)


def test_the_node_and_the_claim_stay_until_the_cloud_says_that_the_instance_is_gone(scene: Any) -> None:
    async def script(api: FakeApi, at: Scene) -> None:
        at.cloud.deletes_at_once = False
        for _ in range(2):
            assert (await at.step()).requeue_after is not None
            assert await at.left() == ["Machine", "Node"]
        at.cloud.deletes_at_once = True
        await at.step()
        assert await at.left() == []

    scene(script)


@pytest.mark.parametrize(
    "fields",
    [
        {"phase": "Succeeded"},
        {"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": NAME, "uid": "u"}]}},
        {"metadata": {"ownerReferences": [{"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "d", "uid": "u"}]}},
        {"spec": {"tolerations": [{"operator": "Exists"}]}},
        {"spec": {"tolerations": [{"key": "karpenter.sh/disrupted", "operator": "Exists"}]}},
    ],
    ids=["ended", "static", "daemon", "tolerates-all", "tolerates-disruption"],
)
def test_pods_that_would_not_leave_or_come_back_are_not_waited_for(scene: Any, fields: dict[str, Any]) -> None:
    async def script(api: FakeApi, at: Scene) -> None:
        await at.add_pod("stays", **fields)
        await at.step()
        assert await at.left() == []
        assert len(await at.client.list(Pod)) == 1

    scene(script)


def test_a_pod_that_nobody_ends_is_not_waited_for_longer_than_a_minute(scene: Any) -> None:
    async def script(api: FakeApi, at: Scene) -> None:
        await at.add_pod("stuck", metadata={"finalizers": ["example.com/slow"]})
        await at.step()
        at.now += timedelta(minutes=2)
        assert (await at.step()).requeue_after is None
        assert await at.left() == []

    scene(script)


def test_where_the_instance_is_gone_nobody_is_waited_for(scene: Any) -> None:
    async def script(api: FakeApi, at: Scene) -> None:
        await at.add_pod("model")
        at.cloud.instances.clear()
        await at.step()
        assert await at.left() == []

    scene(script)


def test_a_disruption_budget_holds_the_node_for_as_long_as_it_takes(scene: Any) -> None:
    async def script(api: FakeApi, at: Scene) -> None:
        await at.add_pod("model")
        api.faults.add(Fault(Refuse(429, "TooManyRequests"), verb="create", resource="pods/eviction", times=2))
        for _ in range(2):
            assert (await at.step()).requeue_after is not None
        assert at.cloud.asked == []

    scene(script)


def test_the_node_of_somebody_else_is_not_touched(scene: Any) -> None:
    async def script(api: FakeApi, at: Scene) -> None:
        await at.add_pod("theirs")
        at.cloud.instance(NAME, "another-claim")
        await at.step()
        assert await at.left() == ["Node"]
        (node,) = await at.client.list(Node)
        assert node.spec.taints == ()
        (pod,) = await at.client.list(Pod)
        assert pod.metadata.deletion_timestamp is None
        assert NAME in at.cloud.instances

    scene(script, owned=False)


def test_a_claim_without_our_finalizer_is_somebody_elses_to_end(
    play: Any, cloud: ScriptedCloud, now: datetime, machine: Machines
) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        claim = await client.create(machine(metadata={"finalizers": ["theirs"]}))
        await client.delete(Machine, claim.key)
        await Termination(client, cloud, lambda: now).step(await client.get(Machine, claim.key), [])
        assert cloud.asked == []
        await client.patch(Machine, claim.key, {"metadata": {"finalizers": None}})
        with pytest.raises(NotFound):
            await client.get(Machine, claim.key)

    play(main)


def test_what_holds_a_deletion_up_stands_on_the_claim_and_in_the_log_once(
    scene: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def script(api: FakeApi, at: Scene) -> None:
        await at.add_pod("model")
        refusal = Refuse(429, "TooManyRequests", "The disruption budget model needs 1 healthy pods and has 1 currently")
        api.faults.add(Fault(refusal, verb="create", resource="pods/eviction", times=None))
        for _ in range(3):
            await at.step()
        (claim,) = await at.client.list(Machine)
        told = {each.type: (each.status, each.reason, each.message) for each in claim.status.conditions}
        status, reason, sentence = told["Drained"]
        assert (status, reason) == ("False", "Draining")
        assert sentence is not None
        assert sentence.startswith(f"node {NAME} waits for pods to leave (1): default/model: ")
        assert refusal.message in sentence
        assert told["Ready"] == ("False", "Terminating", sentence)

    caplog.set_level(logging.INFO)
    scene(script)
    assert [record.message for record in caplog.records if record.name.endswith("termination")] == [
        "claim's deletion waits"
    ]


def test_a_deletion_is_looked_after_less_often_the_longer_it_is_held_up(scene: Any) -> None:
    async def script(api: FakeApi, at: Scene) -> None:
        await at.add_pod("model")
        api.faults.add(Fault(Refuse(429, "TooManyRequests"), verb="create", resource="pods/eviction", times=None))
        waits = []
        for _ in range(4):
            waits.append((await at.step()).requeue_after)
            at.now += timedelta(minutes=2)
        assert waits == [timedelta(seconds=seconds) for seconds in (1, 12, 24, 30)]

    scene(script)


def test_a_cloud_that_takes_its_time_is_named_once_the_pods_are_gone(scene: Any) -> None:
    async def script(api: FakeApi, at: Scene) -> None:
        at.cloud.deletes_at_once = False
        await at.step()
        (claim,) = await at.client.list(Machine)
        told = {each.type: each.status for each in claim.status.conditions}
        assert (told["Drained"], told["InstanceTerminating"], told["Ready"]) == ("True", "True", "False")

    scene(script)
