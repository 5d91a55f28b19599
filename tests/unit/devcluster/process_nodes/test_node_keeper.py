"""kaito.devcluster.process_nodes.node_keeper, in virtual time: what the cluster sees of a Node while it is kept."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime

import pytest

from kaito.client import Client
from kaito.devcluster.process_nodes.addresses import LABEL
from kaito.devcluster.process_nodes.images import INFERENCE, ImageTable
from kaito.devcluster.process_nodes.node_keeper import NodeKeeper
from kaito.informers import Cache
from kaito.informers.floors import WriteFloors
from kaito.testing.fake_api import FakeApi, Fault, Refuse
from kaito.testing.virtual_clock import run

NODE = "/api/v1/nodes/node-1"
MERGE = "application/merge-patch+json"
NO_PRESSURE = ("False", "KubeletHasSufficientMemory", "")
PRESSURES = {"MemoryPressure": NO_PRESSURE}


def play(story: Callable[[FakeApi, asyncio.Task[None]], Awaitable[None]]) -> FakeApi:
    """Tells a story of one Node with the agent's label, while the Nodes of the server's cache are kept."""

    async def main() -> FakeApi:
        api = FakeApi()
        make_node(api)
        async with Client(api.transport(), field_owner="agent") as client, asyncio.TaskGroup() as tasks:
            cache, keeper = (
                Cache(client, WriteFloors()),
                NodeKeeper(client, ImageTable.default(), lambda: dict(PRESSURES)),
            )
            keeper.watch(cache)
            caching = tasks.create_task(cache.run())
            keeping = tasks.create_task(keeper.run())
            await asyncio.sleep(2)
            await story(api, keeping)
            for task in (keeping, caching):
                task.cancel()
                await asyncio.wait([task])
        return api

    return run(main())


def make_node(api: FakeApi, name: str = "node-1", labels: dict[str, str] | None = None) -> None:
    taints = [
        {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"},
        {"key": "node.cloudprovider.kubernetes.io/uninitialized", "value": "true", "effect": "NoSchedule"},
        {"key": "sku", "value": "gpu", "effect": "NoSchedule"},
    ]
    node = {
        "metadata": {"name": name, "labels": {LABEL: "true"} if labels is None else labels},
        "spec": {"taints": taints},
        "status": {"capacity": {"nvidia.com/gpu": "1", "cpu": "6"}, "allocatable": {"nvidia.com/gpu": "1"}},
    }
    api.call("POST", "/api/v1/nodes", node)


def ready(api: FakeApi, path: str = NODE) -> tuple[str, str] | None:
    conditions = api.call("GET", path).get("status", {}).get("conditions", [])
    return next(((each["status"], each["reason"]) for each in conditions if each["type"] == "Ready"), None)


def renewed(api: FakeApi) -> datetime:
    lease = api.call("GET", "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/node-1")
    return datetime.fromisoformat(lease["spec"]["renewTime"])


def test_a_node_becomes_ready_with_what_its_maker_gave_it_and_is_not_when_the_agent_ends() -> None:
    async def story(api: FakeApi, _: asyncio.Task[None]) -> None:
        node = api.call("GET", NODE)
        assert ready(api) == ("True", "KubeletReady")
        assert [taint["key"] for taint in node["spec"]["taints"]] == ["sku"]
        assert node["metadata"]["labels"]["kubernetes.io/hostname"] == "node-1"
        assert node["metadata"]["labels"].keys() > {"kubernetes.io/os", "kubernetes.io/arch"}
        status = node["status"]
        assert (status["capacity"]["nvidia.com/gpu"], status["capacity"]["cpu"]) == ("1", "6")
        assert status["allocatable"]["cpu"] == "6"
        assert status["capacity"]["pods"] == "110"
        assert {each["type"]: each["address"] for each in status["addresses"]} == {
            "InternalIP": "10.240.0.1",
            "Hostname": "node-1",
        }
        assert status["nodeInfo"]["kubeletVersion"] == "v1.36.0-fake"
        assert status["daemonEndpoints"] == {"kubeletEndpoint": {"Port": 10250}}
        assert status["images"][0]["names"] == [INFERENCE]

    api = play(story)
    assert ready(api) == ("False", "AgentStopped")


def test_leases_are_renewed_and_a_quiet_node_costs_no_other_writes() -> None:
    async def story(api: FakeApi, _: asyncio.Task[None]) -> None:
        before, version = renewed(api), api.call("GET", NODE)["metadata"]["resourceVersion"]
        await asyncio.sleep(100)
        assert renewed(api) > before
        assert len([entry for entry in api.log if entry.verb == "apply"]) in (10, 11)
        assert api.call("GET", NODE)["metadata"]["resourceVersion"] == version

    play(story)


def test_a_node_that_somebody_called_unknown_is_ready_again_at_once() -> None:
    async def story(api: FakeApi, _: asyncio.Task[None]) -> None:
        unknown = {"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown"}
        api.call("PATCH", f"{NODE}/status", {"status": {"conditions": [unknown]}}, content_type=MERGE)
        await asyncio.sleep(1)
        assert ready(api) == ("True", "KubeletReady")

    play(story)


def test_a_machine_that_runs_out_of_memory_is_told_within_seconds_and_until_it_has_some_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def story(api: FakeApi, _: asyncio.Task[None]) -> None:
        told = []
        for state in (NO_PRESSURE, ("True", "KubeletHasInsufficientMemory", "1Mi"), NO_PRESSURE):
            monkeypatch.setitem(PRESSURES, "MemoryPressure", state)
            await asyncio.sleep(12)
            conditions = api.call("GET", NODE)["status"]["conditions"]
            told += [each["status"] for each in conditions if each["type"] == "MemoryPressure"]
        assert told == ["False", "True", "False"]

    play(story)


def test_only_nodes_with_the_label_are_kept_and_one_made_anew_is_kept_anew() -> None:
    async def story(api: FakeApi, _: asyncio.Task[None]) -> None:
        make_node(api, "node-2", {})
        api.call("DELETE", NODE)
        await asyncio.sleep(30)
        make_node(api)
        await asyncio.sleep(1)
        assert ready(api) == ("True", "KubeletReady")
        assert ready(api, "/api/v1/nodes/node-2") is None

    play(story)


def test_an_api_server_that_is_away_for_a_while_is_waited_for() -> None:
    async def story(api: FakeApi, keeping: asyncio.Task[None]) -> None:
        refused = api.faults.add(Fault(Refuse(503, "ServiceUnavailable"), verb="apply", times=None))
        await asyncio.sleep(60)
        before = renewed(api)
        api.faults.remove(refused)
        await asyncio.sleep(15)
        assert not keeping.done()
        assert renewed(api) > before

    play(story)
