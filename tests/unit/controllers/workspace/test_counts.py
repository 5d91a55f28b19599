"""`resource.count` changes under a running Workspace: what is bought, what is given back, and in which order."""

from __future__ import annotations

from typing import Any

import pytest

from kaito.api.kaito_v1beta1 import Workspace
from kaito.api.karpenter_v1alpha5 import Machine
from kaito.client.errors import KubeError
from kaito.controllers.claims import instance_type_of
from kaito.kube.apps_v1 import Deployment, StatefulSet
from kaito.kube.core_v1 import Node, Pod, Service
from kaito.kube.object_key import ObjectKey
from kaito.testing.fake_api import Drop, Fault
from tests.operating.workspace_scene import KEY
from tests.operating.workspace_scene import WorkspaceScene as Scene


async def serves_on(at: Scene, count: int) -> list[str]:
    """So many nodes are there, with a pod on each, and the last look changed nothing; returns the claims."""
    await at.step()
    await at.bring_nodes()
    await at.step()
    names = [claim.name for claim in (await at.workspace()).status.node_claims]
    await at.run_pods(names)
    await at.step()
    assert len(names) == count
    return names


async def recorded(at: Scene) -> list[tuple[int, str]]:
    return [(claim.ordinal, claim.name) for claim in (await at.workspace()).status.node_claims]


def test_a_raise_adds_claims_and_what_runs_goes_on_until_all_nodes_are_ready(scene: Any) -> None:
    async def script(at: Scene) -> None:
        before = await serves_on(at, 1)
        deployment = await at.client.get(Deployment, KEY)
        await at.want(3)
        await at.step()
        found = await at.workspace()
        assert [claim.name for claim in found.status.node_claims][:1] == before
        assert found.status.target_node_count == len(await at.machines()) == 3
        assert (await at.client.get(Deployment, KEY)).metadata.uid == deployment.metadata.uid
        assert (await at.told("ResourceReady"))[:2] == ("False", "NodeClaimNotReady")
        await at.bring_nodes()
        await at.step()
        assert [*await at.client.list(Deployment)] == []
        # The Deployment's pod has the GPU still.
        assert [*await at.client.list(StatefulSet)] == []
        assert "waits for pods of the Deployment to end: phi-" in (await at.told("InferenceReady"))[2]
        await at.end_pods("ReplicaSet")
        await at.step()
        assert (await at.client.get(StatefulSet, KEY)).spec.replicas == 3
        assert sorted(await at.machines()) == sorted(claim.name for claim in found.status.node_claims)

    scene(script)


def test_a_stateful_set_grows_in_place_when_the_new_node_is_ready(scene: Any) -> None:
    async def script(at: Scene) -> None:
        before = await serves_on(at, 2)
        uid = (await at.client.get(StatefulSet, KEY)).metadata.uid
        await at.want(3)
        await at.step()
        assert (await at.client.get(StatefulSet, KEY)).spec.replicas == 2
        await at.bring_nodes()
        await at.step()
        grown = await at.client.get(StatefulSet, KEY)
        assert (grown.metadata.uid, grown.spec.replicas) == (uid, 3)
        assert [name for _, name in await recorded(at)][:2] == before

    scene(script, count=2)


def test_a_lowered_count_gives_a_node_back_once_its_pod_is_gone(scene: Any) -> None:
    async def script(at: Scene) -> None:
        names = await serves_on(at, 3)
        # Pods and claims need not have the same ordinals: the last pod is on the first node.
        await at.run_pods([names[1], names[2], names[0]])
        await at.want(2)
        await at.step()
        assert (await at.client.get(StatefulSet, KEY)).spec.replicas == 2
        assert sorted(await at.machines()) == sorted(names)
        status, _, message = await at.told("ResourceReady")
        assert (status, f"given back once no pod needs them: {names[0]}" in message) == ("True", True)
        assert (await at.workspace()).status.target_node_count == 2
        await at.client.delete(Pod, ObjectKey("phi-2", "default"))
        await at.step()
        assert await recorded(at) == [(1, names[1]), (2, names[2])]
        assert sorted(await at.machines()) == sorted(names[1:])
        at.writes()
        await at.step()
        assert at.writes() == []

    scene(script, count=3)


def test_from_many_to_one_the_node_stays_that_the_new_pod_came_to(scene: Any) -> None:
    async def script(at: Scene) -> None:
        names = await serves_on(at, 3)
        await at.want(1)
        await at.step()
        assert not [*await at.client.list(StatefulSet), *await at.client.list(Deployment)]
        await at.end_pods("StatefulSet")
        await at.step()
        assert [each.metadata.name for each in await at.client.list(Deployment)] == ["phi"]
        assert [each.metadata.name for each in await at.client.list(Service)] == ["phi"]
        assert sorted(await at.machines()) == sorted(names)
        await at.run_pods([names[1]])
        await at.step()
        assert await recorded(at) == [(1, names[1])]
        assert await at.machines() == [names[1]]

    scene(script, count=3)


def test_no_name_comes_back_when_a_count_is_lowered_and_raised(scene: Any) -> None:
    async def script(at: Scene) -> None:
        names = await serves_on(at, 3)
        await at.want(2)
        await at.step()
        await at.client.delete(Pod, ObjectKey("phi-2", "default"))
        await at.step()
        assert len(await at.machines()) == 2
        await at.want(3)
        await at.step()
        ordinal, name = (await recorded(at))[-1]
        assert ordinal == 3
        assert name not in names

    scene(script, count=3)


def test_nodes_that_never_came_are_given_back_at_once(scene: Any) -> None:
    async def script(at: Scene) -> None:
        names = await serves_on(at, 1)
        await at.want(3)
        await at.step()
        assert len(await at.machines()) == 3
        await at.want(1)
        await at.step()
        assert await at.machines() == names
        assert (await at.told("ResourceReady"))[0] == "True"
        assert len([*await at.client.list(Deployment)]) == 1

    scene(script)


def test_a_lost_node_is_not_replaced_when_fewer_are_wanted_anyway(scene: Any) -> None:
    async def script(at: Scene) -> None:
        names = await serves_on(at, 3)
        await at.client.delete(Machine, ObjectKey(names[0]))
        await at.want(2)
        await at.step()
        assert await recorded(at) == [(1, names[1]), (2, names[2])]

    scene(script, count=3)


def test_a_count_below_what_the_model_needs_changes_nothing_and_says_so(scene: Any) -> None:
    async def script(at: Scene) -> None:
        names = await serves_on(at, 3)
        await at.want(1)
        at.writes()
        await at.step()
        assert [name for _, name in await recorded(at)] == names
        assert "resource.count (1) is the least to have" in (await at.told("ResourceReady"))[2]
        assert at.writes() == ["patch workspaces/status"]

    scene(script, "llama-3.3-70b-instruct", "Standard_NC24ads_A100_v4", count=3)


def test_a_name_too_long_for_many_is_refused_and_what_runs_is_left_alone(scene: Any) -> None:
    async def script(at: Scene) -> None:
        names = await serves_on(at, 1)
        await at.want(2)
        await at.step()
        assert (await at.told("ResourceReady"))[:2] == ("False", "InvalidName")
        assert "at most 52 are allowed" in (await at.told("ResourceReady"))[2]
        assert (await at.told("InferenceReady"))[1] != "InvalidName"
        assert await at.machines() == names

    scene(script, name="a" * 53)


@pytest.mark.parametrize("change", [(1, 3), (2, 3), (3, 2), (3, 1)], ids=lambda pair: f"{pair[0]} to {pair[1]}")
@pytest.mark.parametrize("drop", [Drop(), Drop(handled=True)], ids=["lost", "done"])
@pytest.mark.parametrize("nth", range(1, 9))
def test_whichever_write_is_the_last_the_next_process_ends_with_as_many_nodes_as_are_wanted(
    scene: Any, change: tuple[int, int], nth: int, drop: Drop
) -> None:
    """The writer dies at its nth write, which took effect or not; another one, with no memory, carries on."""

    async def script(at: Scene) -> None:
        before, after = change
        names = await serves_on(at, before)
        await at.want(after)
        steps = [False]
        at.api.faults.add(Fault(drop, only=lambda request: steps[0] and request.method != "GET", nth=nth))
        for _ in range(12):
            steps[0] = True
            try:
                await at.step()
            except KubeError:
                at.restart()
            steps[0] = False
            await at.play_cluster()
        kept = {name for _, name in await recorded(at)}
        assert sorted(await at.machines()) == sorted(kept)
        assert len(kept) == after
        assert len(kept & set(names)) == min(before, after)
        assert (await at.told("WorkspaceReady"))[0] == "True"
        assert {pod.spec.node_name for pod in await at.client.list(Pod)} == kept

    scene(script, count=change[0])


@pytest.mark.parametrize("written", ["standard_nc6s_v3", "STANDARD_NC6S_V3"])
def test_a_claim_asks_for_the_name_that_the_cloud_gave_whatever_the_capitals(scene: Any, written: str) -> None:
    async def script(at: Scene) -> None:
        await at.step()
        (machine,) = await at.client.list(Machine)
        assert instance_type_of(machine) == "Standard_NC6s_v3"

    scene(script, "phi-3-mini-4k-instruct", written)


def test_a_claim_made_with_another_spelling_is_not_replaced(scene: Any) -> None:
    async def script(at: Scene) -> None:
        (name,) = await serves_on(at, 1)
        term = {"key": "node.kubernetes.io/instance-type", "operator": "In", "values": ["standard_nc6s_v3"]}
        await at.client.patch(Machine, ObjectKey(name), {"spec": {"requirements": [term]}})
        at.restart()
        await at.step()
        assert await at.machines() == [name]
        assert (await at.told("ResourceReady"))[0] == "True"

    scene(script)


def test_an_instance_type_cleared_under_byo_leaves_nodes_and_claims_as_they_are(scene: Any) -> None:
    async def script(at: Scene) -> None:
        names = await serves_on(at, 1)
        await at.client.patch(Node, ObjectKey(names[0]), {"metadata": {"labels": {"apps": "phi-3"}}})
        at.restart(None)
        await at.client.patch(Workspace, KEY, {"resource": {"instanceType": None}})
        await at.step()
        assert await at.machines() == names
        assert (await at.told("ResourceReady"))[0] == "True"
        assert (await at.workspace()).status.target_node_count == 1

    scene(script)
