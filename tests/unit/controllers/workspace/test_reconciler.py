"""WorkspaceReconciler step by step: what is made in which order, what is refused, and what is left alone."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from kaito.api.kaito_v1beta1 import Workspace
from kaito.api.karpenter_v1alpha5 import Machine
from kaito.client.client import Client
from kaito.controllers.claims import MACHINE
from kaito.kube.apps_v1 import Deployment, StatefulSet
from kaito.kube.core_v1 import Service
from kaito.kube.object_key import ObjectKey
from kaito.runtime.reconciler import Result
from kaito.testing.fake_api import FakeApi, Fault, Refuse
from tests.operating.workspace_scene import KEY
from tests.operating.workspace_scene import WorkspaceScene as Scene

Make = Callable[..., Workspace]
Machines = Callable[..., Machine]


def claim_of(at: Workspace, name: str, machine: Machines, **labels: str) -> Machine:
    own = {"kaito.sh/workspace": "phi", "kaito.sh/workspacenamespace": "default", **labels}
    return machine(name, metadata={"labels": own})


def test_names_are_on_record_before_the_machine_is_made(scene: Any) -> None:
    async def script(at: Scene) -> None:
        await at.step()
        assert at.writes()[:3] == ["patch workspaces", "patch workspaces/status", "create machines"]
        found = await at.workspace()
        assert [claim.name for claim in found.status.node_claims] == await at.machines()
        assert found.metadata.finalizers == ("workspace.finalizer.kaito.sh",)

    scene(script)


def test_a_second_look_at_the_same_world_writes_nothing(scene: Any) -> None:
    async def script(at: Scene) -> None:
        await at.step()
        at.writes()
        at.now += timedelta(minutes=1)
        await at.step()
        assert at.writes() == []

    scene(script)


def test_progress_in_words_is_told_at_most_once_a_second(scene: Any) -> None:
    async def script(at: Scene) -> None:
        await at.step()
        at.writes()
        (name,) = await at.machines()
        condition = {"type": "MachineLaunched", "status": "Unknown", "message": "3 minutes to go"}
        await at.client.status.patch(Machine, ObjectKey(name), {"status": {"conditions": [condition]}})
        at.writes()
        assert (await at.step()).requeue_after == timedelta(seconds=1)
        assert at.writes() == []
        at.now += timedelta(seconds=1)
        assert (await at.step()).requeue_after is None
        assert at.writes() == ["patch workspaces/status"]
        assert "3 minutes to go" in (await at.told("ResourceReady"))[2]

    scene(script)


def test_what_the_server_does_not_admit_is_not_paid_for(scene: Any) -> None:
    async def script(at: Scene) -> None:
        at.api.faults.add(Fault(Refuse(403, "Forbidden", "exceeded quota: gpus"), verb="create", resource="pods"))
        assert (await at.step()).requeue_after is not None
        assert (await at.told("ResourceReady"))[:2] == ("False", "Forbidden")
        assert await at.machines() == []
        await at.step()
        assert len(await at.machines()) == 1

    scene(script)


@pytest.mark.parametrize(
    "refusal",
    [
        Refuse(403, "Forbidden", 'User "kaito" cannot create resource "pods"'),
        Refuse(400, "BadRequest", "admission webhook does not support dry run"),
    ],
    ids=["not allowed to ask", "cannot tell"],
)
def test_a_dry_run_that_tells_nothing_holds_nothing_up(scene: Any, refusal: Refuse) -> None:
    async def script(at: Scene) -> None:
        at.api.faults.add(Fault(refusal, verb="create", resource="pods"))
        await at.step()
        assert len(await at.machines()) == 1

    scene(script)


@pytest.mark.parametrize("kind", [Deployment, Service])
def test_a_name_that_is_taken_is_known_before_the_machine_is_made(scene: Any, kind: type[Deployment]) -> None:
    async def script(at: Scene) -> None:
        await at.client.create(kind.model_validate({"metadata": {"name": "phi", "namespace": "default"}, "spec": {}}))
        assert (await at.step()).requeue_after is not None
        status, reason, message = await at.told("ResourceReady")
        assert (status, reason) == ("False", "NotOurs")
        assert kind.__name__ in message
        assert await at.machines() == []

    scene(script)


def test_the_headless_service_of_somebody_else_is_known_before_machines_are_made(scene: Any) -> None:
    async def script(at: Scene) -> None:
        taken = {"metadata": {"name": "phi-headless", "namespace": "default"}, "spec": {}}
        await at.client.create(Service.model_validate(taken))
        await at.step()
        assert (await at.told("ResourceReady"))[1] == "NotOurs"
        assert await at.machines() == []

    scene(script, count=2)


def test_a_refusal_is_logged_when_it_changes(scene: Any, caplog: pytest.LogCaptureFixture) -> None:
    async def script(at: Scene) -> None:
        for _ in range(3):
            await at.step()

    caplog.set_level(logging.INFO)
    scene(script, "no-such-model")
    (told,) = [record for record in caplog.records if record.message == "workspace refused"]
    assert told.__dict__["reason"] == "UnknownPreset"
    assert "no-such-model" in told.__dict__["error"]


def test_where_no_nodes_are_made_nobody_is_told_to_ask_for_some(scene: Any) -> None:
    async def script(at: Scene) -> None:
        for made, hinted in ((MACHINE, True), (None, False)):
            at.restart(made)
            await at.step()
            message = (await at.told("ResourceReady"))[2]
            assert "0 of 1 ready nodes have the labels apps=phi-3: label some" in message
            assert ("resource.instanceType" in message) == hinted
            at.now += timedelta(minutes=1)
            await at.client.status.patch(Workspace, KEY, {"status": {"conditions": []}})

    scene(script, "phi-3-mini-4k-instruct", "")


def test_what_a_machine_waits_for_on_its_way_out_is_told_by_the_workspace(scene: Any) -> None:
    async def script(at: Scene) -> None:
        await at.step()
        (name,) = await at.machines()
        held = {
            "type": "Ready",
            "status": "False",
            "reason": "Terminating",
            "message": "x: a budget holds it",
        }
        await at.client.patch(Machine, ObjectKey(name), {"metadata": {"finalizers": ["holds"]}})
        await at.client.status.patch(Machine, ObjectKey(name), {"status": {"conditions": [held]}})
        await at.client.delete(Workspace, KEY)
        await at.step()
        for condition in ("WorkspaceDeleting", "ResourceReady"):
            assert f"Machine {name} (x: a budget holds it)" in (await at.told(condition))[2]
        assert (await at.told("ResourceReady"))[0] == "False"

    scene(script)


def test_claims_of_the_workspace_before_go_and_those_of_an_upstream_kaito_stay(scene: Any, machine: Machines) -> None:
    async def script(at: Scene) -> None:
        found = await at.workspace()
        await at.client.create(claim_of(found, "before", machine, **{"kaito.sh/workspace-uid": "earlier"}))
        await at.client.create(claim_of(found, "upstream", machine))
        await at.step()
        (wanted,) = (await at.workspace()).status.node_claims
        assert sorted(await at.machines()) == sorted(["upstream", wanted.name])

    scene(script)


def test_a_claim_that_is_wanted_no_more_goes(scene: Any, machine: Machines) -> None:
    async def script(at: Scene) -> None:
        found = await at.workspace()
        labels = {"kaito.sh/workspace-uid": found.metadata.uid}
        await at.client.create(claim_of(found, "too-many", machine, **labels))
        await at.step()
        (wanted,) = (await at.workspace()).status.node_claims
        assert await at.machines() == [wanted.name]

    scene(script)


def test_a_claim_of_that_name_that_is_not_ours_is_reported_and_left_alone(scene: Any, machine: Machines) -> None:
    async def script(at: Scene) -> None:
        await at.step()
        (name,) = await at.machines()
        await at.client.delete(Machine, ObjectKey(name))
        await at.client.create(machine(name))
        assert (await at.step()).requeue_after is not None
        assert (await at.told("ResourceReady"))[1] == "NotOurs"
        assert await at.machines() == [name]

    scene(script)


@pytest.mark.parametrize(("labels", "left"), [({"kaito.sh/workspace-uid": "u"}, []), ({}, ["orphan"])])
def test_claims_whose_workspace_is_gone_are_collected_if_they_are_ours(
    play: Any, machine: Machines, labels: dict[str, str], left: list[str]
) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        own = {"kaito.sh/workspace": "phi", "kaito.sh/workspacenamespace": "default", **labels}
        made = await client.create(machine("orphan", metadata={"labels": own}))
        assert made.metadata.creation_timestamp is not None
        young = Scene(api, client, made.metadata.creation_timestamp + timedelta(seconds=1))
        result = await young.step()
        assert await young.machines() == ["orphan"]
        assert (result.requeue_after is None) == (left == ["orphan"])
        old = Scene(api, client, made.metadata.creation_timestamp + timedelta(minutes=1))
        await old.step()
        assert await old.machines() == left

    play(main)


def test_deletion_takes_the_workload_first_and_the_finalizer_last(scene: Any) -> None:
    async def script(at: Scene) -> None:
        await at.step()
        (name,) = await at.machines()
        await at.client.patch(Machine, ObjectKey(name), {"metadata": {"finalizers": ["holds"]}})
        await at.client.delete(Workspace, KEY)
        at.writes()
        assert (await at.step()).requeue_after is not None
        assert at.writes() == ["delete machines", "patch workspaces/status"]
        assert name in (await at.told("WorkspaceDeleting"))[2]
        assert (await at.told("WorkspaceReady"))[0] == "False"
        await at.client.patch(Machine, ObjectKey(name), {"metadata": {"finalizers": None}})
        at.writes()
        await at.step()
        assert at.writes() == ["patch workspaces"]
        assert [*await at.client.list(Workspace)] == []

    scene(script)


def test_deletion_does_not_wait_for_a_kind_of_claim_that_is_not_installed(scene: Any) -> None:
    async def script(at: Scene) -> None:
        await at.client.patch(Workspace, KEY, {"metadata": {"finalizers": ["workspace.finalizer.kaito.sh"]}})
        await at.client.delete(Workspace, KEY)
        at.api.faults.add(Fault(Refuse(404, "NotFound"), verb="list", resource="machines"))
        await at.step()
        assert [*await at.client.list(Workspace)] == []

    scene(script)


def test_a_plan_error_is_told_once(scene: Any) -> None:
    async def script(at: Scene) -> None:
        for expected in (["patch workspaces/status"], []):
            assert await at.step() == Result()
            assert at.writes() == expected
        assert (await at.told("WorkspaceReady"))[1] == "UnknownPreset"

    scene(script, "no-such-model")


def test_a_workload_of_the_other_kind_makes_room_for_the_one_that_is_wanted(scene: Any) -> None:
    async def script(at: Scene) -> None:
        await at.step()
        found = await at.workspace()
        owner = {"apiVersion": found.api_version, "kind": "Workspace", "name": "phi", "uid": found.metadata.uid}
        metadata = {"name": "phi", "namespace": "default", "ownerReferences": [{**owner, "controller": True}]}
        for kind in (StatefulSet, Deployment):
            await at.client.create(kind.model_validate({"metadata": metadata, "spec": {}}))
        await at.step()
        assert [*await at.client.list(StatefulSet)] == []

    scene(script)


def break_machine(at: Scene, name: str) -> None:
    """Somebody wrote what our class cannot read."""
    path = Machine.resource_type.path(None, name)
    at.api.call("PATCH", path, {"spec": {"requirements": "nonsense"}}, content_type="application/merge-patch+json")


def test_a_claim_that_cannot_be_read_holds_the_workspace_until_it_is_gone(scene: Any) -> None:
    async def script(at: Scene) -> None:
        await at.step()
        (name,) = await at.machines()
        await at.client.patch(Machine, ObjectKey(name), {"metadata": {"finalizers": ["holds"]}})
        break_machine(at, name)
        assert await at.machines() == []
        await at.client.delete(Workspace, KEY)
        await at.step()
        (machine,) = at.api.objects(Machine)
        assert machine["metadata"]["deletionTimestamp"]
        assert at.api.objects(Workspace)
        path = Machine.resource_type.path(None, name)
        gone = {"metadata": {"finalizers": None}}
        at.api.call("PATCH", path, gone, content_type="application/merge-patch+json")
        await at.step()
        assert not at.api.objects(Workspace)

    scene(script)


def test_no_second_claim_is_made_beside_one_that_cannot_be_read(scene: Any) -> None:
    async def script(at: Scene) -> None:
        await at.step()
        (name,) = await at.machines()
        break_machine(at, name)
        await at.step()
        assert [machine["metadata"]["name"] for machine in at.api.objects(Machine)] == [name]
        assert name in (await at.told("ResourceReady"))[2]

    scene(script)
