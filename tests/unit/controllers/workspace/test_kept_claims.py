"""Claims stay a Workspace's, and go with it, whatever becomes of their labels, their kind and the saves."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from kaito.api.kaito_v1beta1 import Workspace
from kaito.api.karpenter_v1 import NodeClaim
from kaito.api.karpenter_v1alpha5 import Machine
from kaito.client.errors import Conflict
from kaito.controllers.claims import NODE_CLAIM, MadeFor
from kaito.kube.object_key import ObjectKey
from kaito.testing.fake_api import Fault, Refuse
from tests.operating.workspace_scene import KEY
from tests.operating.workspace_scene import WorkspaceScene as Scene

Machines = Callable[..., Machine]
LABELS = ("kaito.sh/workspace", "kaito.sh/workspacenamespace", "kaito.sh/workspace-uid")


async def take_off(at: Scene, name: str, label: str) -> None:
    await at.client.patch(Machine, ObjectKey(name), {"metadata": {"labels": {label: None}}})


@pytest.mark.parametrize("label", LABELS)
def test_a_claim_without_one_of_its_labels_is_neither_replaced_nor_left_behind(scene: Any, label: str) -> None:
    async def script(at: Scene) -> None:
        await at.step()
        await at.step()
        (name,) = await at.machines()
        await take_off(at, name, label)
        await at.step()
        assert await at.machines() == [name]
        assert [claim.name for claim in (await at.workspace()).status.node_claims] == [name]
        await at.client.delete(Workspace, KEY)
        for _ in range(2):
            await at.step()
        assert await at.machines() == []
        assert at.api.objects(Workspace) == []

    scene(script)


@pytest.mark.parametrize("label", LABELS)
def test_a_claim_without_one_of_its_labels_holds_the_workspace_until_it_is_gone(scene: Any, label: str) -> None:
    async def script(at: Scene) -> None:
        await at.step()
        (name,) = await at.machines()
        await at.client.patch(Machine, ObjectKey(name), {"metadata": {"finalizers": ["holds"]}})
        await take_off(at, name, label)
        await at.client.delete(Workspace, KEY)
        await at.step()
        assert at.api.objects(Workspace)
        assert name in (await at.told("WorkspaceDeleting"))[2]

    scene(script)


def test_an_orphan_without_its_uid_label_is_collected(scene: Any) -> None:
    async def script(at: Scene) -> None:
        await at.step()
        (name,) = await at.machines()
        await take_off(at, name, "kaito.sh/workspace-uid")
        await at.client.patch(Workspace, KEY, {"metadata": {"finalizers": None}})
        await at.client.delete(Workspace, KEY)
        at.now += timedelta(minutes=1)
        await at.step()
        assert await at.machines() == []

    scene(script)


def test_a_list_that_does_not_show_a_claim_is_not_believed_before_a_live_look(scene: Any) -> None:
    async def script(at: Scene) -> None:
        await at.step()
        await at.step()
        (name,) = await at.machines()
        for label in LABELS:
            await take_off(at, name, label)
        # Once, by name, from what may be a cache that lags.
        at.api.faults.add(Fault(Refuse(404, "NotFound"), verb="get", resource="machines", times=1))
        await at.step()
        assert [claim.name for claim in (await at.workspace()).status.node_claims] == [name]
        assert await at.machines() == [name]

    scene(script)


def test_a_workspace_keeps_claims_of_the_kind_that_is_not_made_any_more(scene: Any) -> None:
    async def script(at: Scene) -> None:
        await at.step()
        await at.bring_nodes()
        (name,) = await at.machines()
        at.restart(NODE_CLAIM)
        await at.step()
        assert (await at.told("ResourceReady"))[0] == "True"
        assert await at.node_claims() == []
        # Its successor is of the kind of the day.
        await at.client.delete(Machine, ObjectKey(name))
        await at.step()
        assert await at.machines() == []
        (successor,) = await at.node_claims()
        assert successor != name

    scene(script)


def test_a_claim_of_the_other_kind_that_only_the_server_shows_is_not_made_twice(scene: Any) -> None:
    async def script(at: Scene) -> None:
        await at.step()
        at.restart(NODE_CLAIM)
        # Neither the list nor the look by name shows it: what is read from caches lags.
        for verb in ("list", "get"):
            at.api.faults.add(Fault(Refuse(404, "NotFound"), verb=verb, resource="machines", times=1))
        await at.step()
        assert await at.node_claims() == []

    scene(script)


@pytest.mark.parametrize("made", [NODE_CLAIM, None], ids=["nodeclaim", "byo"])
def test_deletion_gives_back_claims_of_the_kind_that_is_not_made_any_more(scene: Any, made: Any) -> None:
    async def script(at: Scene) -> None:
        await at.step()
        (name,) = await at.machines()
        await at.client.patch(Machine, ObjectKey(name), {"metadata": {"finalizers": ["holds"]}})
        at.restart(made)
        await at.client.delete(Workspace, KEY)
        await at.step()
        assert at.api.objects(Workspace)
        assert f"Machine {name}" in (await at.told("ResourceReady"))[2]
        await at.client.patch(Machine, ObjectKey(name), {"metadata": {"finalizers": None}})
        await at.step()
        assert at.api.objects(Workspace) == []
        assert await at.machines() == []

    scene(script)


def test_orphans_of_both_kinds_are_collected(scene: Any) -> None:
    async def script(at: Scene) -> None:
        at.restart(NODE_CLAIM)
        await at.step()
        assert len(await at.node_claims()) == 1
        at.restart()
        await at.client.patch(Workspace, KEY, {"metadata": {"finalizers": None}})
        await at.client.delete(Workspace, KEY)
        at.now += timedelta(minutes=1)
        await at.step()
        assert await at.node_claims() == []

    scene(script)


@pytest.mark.parametrize(
    ("arguments", "fields"),
    [(("no-such-model",), {}), (("phi-3-mini-4k-instruct", ""), {})],
    ids=["refused", "uses existing nodes"],
)
def test_claims_of_the_workspace_before_go_though_this_one_makes_none(
    scene: Any, machine: Machines, arguments: tuple[str, ...], fields: dict[str, Any]
) -> None:
    async def script(at: Scene) -> None:
        earlier = {"kaito.sh/workspace": "phi", "kaito.sh/workspacenamespace": "default"}
        await at.client.create(machine("before", metadata={"labels": {**earlier, "kaito.sh/workspace-uid": "earlier"}}))
        await at.step()
        assert await at.machines() == []

    scene(script, *arguments, **fields)


def test_a_workspace_that_is_known_by_an_old_uid_only_releases_nothing(scene: Any, machine: Machines) -> None:
    """A cache that lags takes the Workspace of today for the one before it."""

    async def script(at: Scene) -> None:
        await at.step()
        (name,) = await at.machines()
        found = await at.workspace()
        stale = found.model_copy(update={"metadata": found.metadata.model_copy(update={"uid": "earlier"})})
        await at.reconciler._release.of_earlier(stale)
        assert await at.machines() == [name]

    scene(script)


@pytest.mark.parametrize("label", LABELS)
def test_a_claim_of_another_workspace_with_a_label_that_names_this_one_is_left_alone(
    scene: Any, machine: Machines, label: str
) -> None:
    async def script(at: Scene) -> None:
        await at.step()
        own = MadeFor("default", "phi", (await at.workspace()).metadata.uid)
        other = MadeFor("theirs", "other", "uid-of-other")
        # All labels but one name this Workspace: only the annotation says whose the claim is.
        labels = {**own.labels, label: other.labels[label]}
        marks = {"labels": labels, "annotations": {"kaito.sh/made-for": str(other)}}
        await at.client.create(machine("other", metadata=marks))
        await at.step()
        assert "other" in await at.machines()
        await at.client.delete(Workspace, KEY)
        for _ in range(3):
            await at.step()
        at.now += timedelta(minutes=1)
        await at.step()
        assert at.api.objects(Workspace) == []
        assert await at.machines() == ["other"]

    scene(script)


async def lose(at: Scene) -> str:
    """The claim on record goes, as with somebody who takes our nodes away; returns its name."""
    (name,) = await at.machines()
    await at.step()
    await at.client.delete(Machine, ObjectKey(name))
    return name


def test_a_save_that_fails_does_not_make_the_lost_claim_again_without_delay(scene: Any) -> None:
    async def script(at: Scene) -> None:
        await at.step()
        for _ in range(2):
            await lose(at)
            await at.step()
        # The second successor has to wait; a retry after a conflict must not forget that.
        at.now += timedelta(minutes=1)
        await at.step()
        lost = await lose(at)
        at.api.faults.add(Fault(Refuse(409, "Conflict"), verb="patch", resource="workspaces/status", times=1))
        with pytest.raises(Conflict):
            await at.step()
        result = await at.step()
        assert await at.machines() == []
        (wanted,) = (await at.workspace()).status.node_claims
        assert wanted.name != lost
        assert wanted.not_before is not None
        assert result.requeue_after is not None

    scene(script)


def test_nothing_is_remembered_of_a_workspace_that_is_gone(scene: Any) -> None:
    async def script(at: Scene) -> None:
        await at.step()
        await at.step()
        assert at.reconciler._supply._seen
        await at.client.delete(Workspace, KEY)
        for _ in range(3):
            await at.step()
        assert at.api.objects(NodeClaim) == at.api.objects(Machine) == at.api.objects(Workspace) == []
        assert not at.reconciler._supply._seen

    scene(script)
