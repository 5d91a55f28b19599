"""ClaimReconciler: from a claim to a ready node, against a cloud that does what a test says."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

from kaito.api.karpenter_v1alpha5 import Machine
from kaito.client.client import Client
from kaito.controllers.claims import MACHINE
from kaito.controllers.gpu_provisioner.provider import InstanceState, InvalidRequest, NameTaken, ProviderError
from kaito.controllers.machine.reconciler import ClaimReconciler
from kaito.kube.conditions import find
from kaito.kube.core_v1 import Node
from kaito.runtime.reconciler import Result
from kaito.testing.fake_api import FakeApi
from tests.operating.scripted_cloud import ScriptedCloud

NAME = "ws012345678"
Machines = Callable[..., Machine]
Nodes = Callable[..., Node]


class Scene:
    """A claim and who reconciles it."""

    def __init__(self, client: Client, cloud: ScriptedCloud, now: datetime) -> None:
        self.client = client
        self.cloud = cloud
        self._reconciler = ClaimReconciler(client, cloud, MACHINE, lambda: now)

    async def claim(self) -> Machine:
        return (await self.client.list(Machine))[0]

    async def step(self) -> Result:
        return await self._reconciler.reconcile(await self.claim())

    async def told(self, condition: str) -> tuple[str, str | None]:
        found = find((await self.claim()).status.conditions, condition)
        assert found is not None
        return found.status, found.reason


@pytest.fixture
def scene(play: Any, cloud: ScriptedCloud, now: datetime, machine: Machines) -> Callable[..., None]:
    def run(script: Callable[[Scene], Any], **fields: Any) -> None:
        async def main(api: FakeApi, client: Client) -> None:
            await client.create(machine(**fields))
            await script(Scene(client, cloud, now))

        play(main)

    return run


def test_the_finalizer_is_on_before_the_cloud_is_asked(scene: Any) -> None:
    async def script(at: Scene) -> None:
        at.cloud.refusal = InvalidRequest("no such type")
        await at.step()
        assert (await at.claim()).metadata.finalizers == ("karpenter.sh/termination",)
        assert at.cloud.asked == [f"create {NAME}"]

    scene(script)


def test_a_node_that_joins_makes_the_claim_ready(scene: Any, node: Nodes) -> None:
    async def script(at: Scene) -> None:
        await at.step()
        assert await at.told("MachineRegistered") == ("Unknown", "NodeNotFound")
        await at.client.create(node())
        await at.step()
        assert (await at.told("Ready"))[0] == "True"
        assert at.cloud.asked == [f"create {NAME}"]

    scene(script)


def test_a_node_is_found_by_the_pools_label_whatever_it_is_called(scene: Any, node: Nodes) -> None:
    async def script(at: Scene) -> None:
        labels = {"labels": {"agentpool": NAME}}
        await at.client.create(node("aks-vmss000000", metadata=labels, spec={"providerID": f"scripted://{NAME}"}))
        await at.client.create(node("aks-other", metadata=labels, spec={"providerID": "scripted://other"}))
        await at.step()
        assert (await at.claim()).status.node_name == "aks-vmss000000"
        # The cloud replaces it, under another name.
        (old,) = [each for each in await at.client.list(Node) if each.metadata.name == "aks-vmss000000"]
        await at.client.patch(Node, old.key, {"metadata": {"finalizers": None}})
        await at.client.delete(Node, old.key)
        await at.client.create(node("aks-vmss000001", metadata=labels, spec={"providerID": f"scripted://{NAME}"}))
        await at.step()
        assert (await at.claim()).status.node_name == "aks-vmss000001"

    scene(script)


@pytest.mark.parametrize(
    ("error", "reason"), [(InvalidRequest("no such type"), "InvalidRequest"), (NameTaken("theirs"), "NameTaken")]
)
def test_a_refusal_is_final_in_words_and_asked_about_again_later(scene: Any, error: ProviderError, reason: str) -> None:
    async def script(at: Scene) -> None:
        at.cloud.refusal = error
        assert (await at.step()).requeue_after is not None
        assert await at.told("MachineLaunched") == ("False", reason)

    scene(script)


def test_a_passing_failure_is_told_and_raised_for_the_backoff(scene: Any) -> None:
    async def script(at: Scene) -> None:
        at.cloud.refusal = ProviderError("Throttled", "too many requests", retryable=True)
        with pytest.raises(ProviderError):
            await at.step()
        assert await at.told("MachineLaunched") == ("Unknown", "Throttled")

    scene(script)


@pytest.mark.parametrize(
    ("state", "status"),
    [(InstanceState.CREATING, "Unknown"), (InstanceState.FAILED, "False"), (InstanceState.DELETING, "Unknown")],
)
def test_an_instance_that_does_not_run_is_looked_at_again(scene: Any, state: InstanceState, status: str) -> None:
    async def script(at: Scene) -> None:
        at.cloud.instance(NAME, (await at.claim()).metadata.uid, state)
        assert (await at.step()).requeue_after is not None
        assert (await at.told("MachineLaunched"))[0] == status
        assert (await at.claim()).metadata.deletion_timestamp is None

    scene(script)


def test_an_instance_that_somebody_deletes_takes_its_claim_along(scene: Any) -> None:
    async def script(at: Scene) -> None:
        await at.step()
        at.cloud.instance(NAME, (await at.claim()).metadata.uid, InstanceState.DELETING)
        await at.step()
        assert (await at.claim()).metadata.deletion_timestamp is not None

    scene(script)


def test_a_node_that_somebody_deletes_takes_its_claim_along(scene: Any, node: Nodes) -> None:
    async def script(at: Scene) -> None:
        made = await at.client.create(node())
        await at.step()
        await at.client.delete(Node, made.key)
        await at.step()
        assert (await at.claim()).metadata.deletion_timestamp is not None
        assert (await at.told("Ready")) == ("False", "NodeDeleted")

    scene(script)


def test_another_claims_instance_of_that_name_is_not_taken_for_ours(scene: Any) -> None:
    async def script(at: Scene) -> None:
        await at.step()
        at.cloud.instance(NAME, "another-claim")
        at.cloud.refusal = NameTaken("theirs")
        await at.step()
        assert await at.told("MachineLaunched") == ("False", "NameTaken")

    scene(script)


def test_two_nodes_of_one_instance_are_reported(scene: Any, node: Nodes) -> None:
    async def script(at: Scene) -> None:
        for name in ("one", "two"):
            spec = {"providerID": f"scripted://{NAME}"}
            await at.client.create(node(name, metadata={"labels": {"agentpool": NAME}}, spec=spec))
        await at.step()
        assert await at.told("MachineRegistered") == ("False", "MultipleNodesFound")

    scene(script)


def test_a_claim_that_is_not_kaitos_is_not_touched(scene: Any) -> None:
    async def script(at: Scene) -> None:
        before = await at.claim()
        assert await at.step() == Result()
        assert await at.claim() == before
        assert at.cloud.asked == []

    scene(script, metadata={"labels": {"karpenter.sh/provisioner-name": "theirs"}})


MARKS = {
    "kaito.sh/workspace": "phi",
    "kaito.sh/workspacenamespace": "default",
    "kaito.sh/workspace-uid": "uid-1",
}


@pytest.mark.parametrize("lost", MARKS)
def test_a_claim_that_lost_a_label_gets_it_back_and_goes_on(scene: Any, lost: str) -> None:
    async def script(at: Scene) -> None:
        await at.step()
        claim = await at.claim()
        assert claim.metadata.labels.items() >= MARKS.items()
        assert claim.metadata.finalizers == ("karpenter.sh/termination",)
        assert at.cloud.asked == [f"create {NAME}"]

    labels = {name: value for name, value in MARKS.items() if name != lost}
    scene(script, metadata={"labels": labels, "annotations": {"kaito.sh/made-for": "default/phi/uid-1"}})


def test_a_claim_that_lost_every_mark_is_still_terminated(scene: Any) -> None:
    async def script(at: Scene) -> None:
        await at.step()
        claim = await at.claim()
        nothing = {"labels": None, "annotations": None}
        await at.client.patch(Machine, claim.key, {"metadata": nothing})
        await at.client.delete(Machine, claim.key)
        await at.step()
        assert at.cloud.asked == [f"create {NAME}", f"delete {NAME}"]
        assert [*await at.client.list(Machine)] == []

    scene(script)
