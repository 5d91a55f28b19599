"""A workload's pods: what is told of them, and how those of an old revision are replaced."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from kaito.controllers.workspace.pods import first_fault
from kaito.kube.apps_v1 import StatefulSet
from kaito.kube.core_v1 import Pod
from kaito.kube.object_key import ObjectKey
from kaito.testing.fake_api import Fault, Refuse
from tests.operating.workspace_scene import WorkspaceScene as Scene

Scenes = Callable[..., None]
UNSCHEDULED = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes: no GPU"}


def pod(name: str = "phi-0", **status: Any) -> Pod:
    return Pod.model_validate({"metadata": {"name": name, "namespace": "default"}, "spec": {}, "status": status})


def container(**fields: Any) -> dict[str, Any]:
    return {"containerStatuses": [{"name": "inference", "ready": False} | fields]}


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return {"waiting": {"reason": reason, "message": message}}


def ended(code: int, reason: str, message: str = "") -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "reason": reason, "message": message}}


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ({"conditions": [UNSCHEDULED]}, "is not scheduled: 0/3 nodes: no GPU"),
        (
            container(state=waiting("ImagePullBackOff", "no such image")),
            "container inference does not start: ImagePullBackOff: no such image",
        ),
        (
            container(
                state=waiting("CrashLoopBackOff", "back-off 5m0s"),
                lastState=ended(1, "Error", "CUDA out of memory"),
                restartCount=7,
            ),
            "container inference ended 7 times, last with exit code 1 (Error): CUDA out of memory",
        ),
        (
            container(state={"running": {}}, lastState=ended(137, "OOMKilled", "INFO ready"), restartCount=1),
            "container inference ended with exit code 137 (OOMKilled)",
        ),
        (
            container(state=ended(137, "Error", "INFO ready")),
            "container inference ended with exit code 137 (SIGKILL)",
        ),
        (
            container(state=ended(137, "ContainerStatusUnknown", "could not be located")),
            "container inference ended with exit code 137 (ContainerStatusUnknown): could not be located",
        ),
        (
            container(state=waiting("ErrImagePull", "x" * 301)),
            f"container inference does not start: ErrImagePull: {'x' * 299}…",
        ),
        (
            {"initContainerStatuses": [{"name": "puller-a", "state": waiting("ErrImagePull", "denied")}]},
            "container puller-a does not start: ErrImagePull: denied",
        ),
        (
            {
                "initContainerStatuses": [
                    {
                        "name": "puller-a",
                        "state": waiting("CrashLoopBackOff", "back-off 40s"),
                        "lastState": ended(1, "Error", "asking r.example.com\n10 MB of 40 MB\nit lets nobody pull\n"),
                        "restartCount": 3,
                    }
                ]
            },
            "container puller-a ended 3 times, last with exit code 1 (Error): it lets nobody pull",
        ),
        ({"phase": "Failed", "reason": "Evicted", "message": "disk"}, "failed: Evicted: disk"),
    ],
)
def test_the_first_thing_that_fails_on_the_way_is_told(status: dict[str, Any], said: str) -> None:
    assert first_fault([pod(**status)]) == f"pod phi-0: {said}"


@pytest.mark.parametrize(
    "status",
    [
        {},
        container(state=waiting("ContainerCreating")),
        container(state={"running": {}}),
        {
            "containerStatuses": [
                {"name": "inference", "ready": True, "restartCount": 3, "lastState": ended(1, "Error")}
            ]
        },
        {"initContainerStatuses": [{"name": "puller", "ready": True, "state": ended(0, "Completed")}]},
    ],
)
def test_a_pod_on_its_way_has_no_fault(status: dict[str, Any]) -> None:
    assert first_fault([pod(**status)]) is None


def test_a_pod_that_is_going_says_nothing_of_those_that_are_to_serve() -> None:
    going = pod("a", conditions=[UNSCHEDULED])
    draft = going.edit()
    draft.metadata.deletion_timestamp = "2026-01-01T00:00:00Z"  # type: ignore[assignment]
    assert first_fault([draft, pod("b", conditions=[UNSCHEDULED])]) == "pod b: is not scheduled: 0/3 nodes: no GPU"


async def put_pod(at: Scene, name: str, revision: str, owner: StatefulSet | None = None, **status: Any) -> None:
    metadata: dict[str, Any] = {
        "name": name,
        "namespace": "default",
        "labels": {"kaito.sh/workspace": "phi", "controller-revision-hash": revision},
    }
    if owner is not None:
        reference = {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "phi", "uid": owner.metadata.uid}
        metadata["ownerReferences"] = [{**reference, "controller": True}]
    spec = {"containers": [{"name": "inference", "image": "i"}]}
    made = await at.client.create(Pod.model_validate({"metadata": metadata, "spec": spec}))
    await at.client.status.patch(Pod, made.key, {"status": status})


async def serve(at: Scene) -> StatefulSet:
    """Nodes come, and the StatefulSet is made."""
    await at.step()
    await at.bring_nodes()
    await at.step()
    return await at.client.get(StatefulSet, at.key)


async def pods(at: Scene) -> list[str]:
    return [each.metadata.name for each in await at.client.list(Pod)]


def test_all_pods_of_an_old_revision_are_deleted_together_and_no_others(scene: Scenes) -> None:
    async def script(at: Scene) -> None:
        made = await serve(at)
        for number in range(2):
            await put_pod(at, f"phi-{number}", "old", made)
            # They take their time to end.
            await at.client.patch(Pod, ObjectKey(f"phi-{number}", "default"), {"metadata": {"finalizers": ["holds"]}})
        await put_pod(at, "somebody-elses", "old")
        await at.observe("new", 0)
        at.writes()
        await at.step()
        assert at.writes() == ["delete pods", "delete pods"]
        at.now += timedelta(seconds=1)
        await at.step()
        assert at.writes() == ["patch workspaces/status"]
        assert "2 of 2 pods run the previous revision" in (await at.told("InferenceReady"))[2]
        for number in range(2):
            await at.client.patch(Pod, ObjectKey(f"phi-{number}", "default"), {"metadata": {"finalizers": None}})
        assert await pods(at) == ["somebody-elses"]
        for number in range(2):
            await put_pod(at, f"phi-{number}", "new", made)
        await at.step()
        assert len(await pods(at)) == 3
        await at.observe("new", 2)
        await at.step()
        assert (await at.told("InferenceReady"))[0] == "True"

    scene(script, count=2)


def test_nothing_is_deleted_before_the_stateful_sets_controller_has_seen_the_change(scene: Scenes) -> None:
    async def script(at: Scene) -> None:
        made = await serve(at)
        await put_pod(at, "phi-0", "old", made)
        status = {"observedGeneration": made.metadata.generation - 1, "updateRevision": "older"}
        await at.client.status.patch(StatefulSet, at.key, {"status": status})
        await at.step()
        assert await pods(at) == ["phi-0"]

    scene(script, count=2)


def test_a_pod_that_was_replaced_meanwhile_is_left_alone(scene: Scenes) -> None:
    async def script(at: Scene) -> None:
        made = await serve(at)
        await put_pod(at, "phi-0", "old", made)
        await at.observe("new", 0)
        at.api.faults.add(Fault(Refuse(409, "Conflict"), verb="delete", resource="pods", times=1))
        await at.step()
        assert await pods(at) == ["phi-0"]
        deleted = [entry for entry in at.api.log if entry.verb == "delete"]
        assert [entry.status for entry in deleted] == [409]

    scene(script, count=2)


def test_a_workspace_says_what_its_pod_says(scene: Scenes) -> None:
    async def script(at: Scene) -> None:
        made = await serve(at)
        await put_pod(at, "phi-0", "new", made, **container(state=waiting("ImagePullBackOff", "no such image")))
        await at.observe("new", 0)
        await at.step()
        at.now += timedelta(seconds=1)
        await at.step()
        message = (await at.told("InferenceReady"))[2]
        assert message == (
            "StatefulSet phi: 0 of 2 pods are ready: pod phi-0: container inference does not start: "
            "ImagePullBackOff: no such image"
        )

    scene(script, count=2)
