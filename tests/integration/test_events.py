"""Events as people see them: with kubectl, against a real API server."""

from __future__ import annotations

import asyncio

from kaito.client import Client
from kaito.kube.core_v1 import ConfigMap
from kaito.kube.events_v1 import Event
from kaito.kube.meta_v1 import ObjectMeta
from kaito.runtime.events import EventRecorder
from kaito.testing import eventually
from tests.operating.cluster import Cluster, workspace
from tests.operating.manager_process import ManagerProcess


async def test_kubectl_shows_what_was_said_how_often_and_by_whom(
    client: Client, namespace: str, cluster: Cluster
) -> None:
    made = await client.create(ConfigMap(metadata=ObjectMeta(name="web", namespace=namespace)))
    recorder = EventRecorder(client, "widgets", instance="widgets-1")
    running = asyncio.create_task(recorder.run())
    try:
        for _ in range(3):
            recorder.event(made, "Warning", "LaunchFailed", "Launch", "no capacity " + "ä" * 1000)
        recorder.event(made, "Normal", "Created", "Create", "it was made", related=made)

        async def counted() -> bool:
            return [each.series.count for each in await events() if each.series] == [3]

        async def events() -> list[Event]:
            return [*await client.list(Event, namespace=namespace)]

        await eventually(counted, timeout_s=10)
        recorder.event(made, "Warning", "LaunchFailed", "Launch", "no capacity " + "ä" * 1000)
    finally:
        running.cancel()
        await asyncio.wait([running])
    assert sorted(each.series.count if each.series else 1 for each in await events()) == [1, 4]
    listed = await cluster.kubectl("get", "events")
    assert "LaunchFailed" in listed
    assert "configmap/web" in listed
    described = await cluster.kubectl("events", "--for", "configmap/web")
    assert "it was made" in described
    assert "x4" in described


async def test_kubectl_describe_shows_how_a_workspace_and_its_machine_came_along(
    cluster: Cluster, manager: ManagerProcess
) -> None:
    await cluster.apply(workspace("told"))
    await cluster.ready("told")
    (machine,) = await cluster.claims("told")
    wanted = ("NodeClaimCreated", "NodesReady", "WorkloadCreated", "WorkspaceReady")
    of_machine = ("MachineLaunched", "MachineRegistered", "MachineInitialized")

    async def described() -> bool:
        text = await cluster.kubectl("describe", "workspace", "told")
        assert all(reason in text.partition("Events:")[2] for reason in wanted), text
        text = await cluster.kubectl("describe", "machine", machine.metadata.name)
        assert all(reason in text.partition("Events:")[2] for reason in of_machine), text
        return True

    await eventually(described, timeout_s=20)
    assert await manager.metric("controller_events_dropped_total") == 0
    found = await cluster.client.list(Event, namespace=cluster.namespace)
    said = [each for each in found if (each.regarding.kind, each.regarding.name) == ("Workspace", "told")]
    assert sorted(each.reason for each in said) == sorted(wanted), "each once"
    assert {each.reporting_controller for each in said} == {"kaito"}

    await cluster.apply({**workspace("refused"), "inference": {"preset": {"name": "no-such-model"}}})

    async def refused() -> bool:
        text = await cluster.kubectl("describe", "workspace", "refused")
        assert "no-such-model" in text.partition("Events:")[2], text
        return True

    await eventually(refused, timeout_s=20)
