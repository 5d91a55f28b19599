"""What stands for the rest of the cluster: nodes, workloads, garbage collection."""

from __future__ import annotations

import asyncio
from typing import Any

from kaito.client.client import Client
from kaito.kube.core_v1 import Node
from kaito.testing.fake_api import FakeApi
from kaito.testing.fake_api.actors import deployment_agent, is_ready, node_agent
from kaito.testing.fake_api.garbage import garbage_collector

DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
MAPS = "/api/v1/namespaces/default/configmaps"
Json = dict[str, Any]


def node(name: str, **labels: str) -> Json:
    capacity = {"nvidia.com/gpu": "1"}
    return {"metadata": {"name": name, "labels": labels}, "status": {"capacity": capacity}}


def deployment(name: str, node_label: str, replicas: int = 2) -> Json:
    expression = {"key": "pool", "operator": "In", "values": [node_label]}
    terms = {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": {"affinity": affinity}}
    spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template}
    return {"metadata": {"name": name}, "spec": spec}


def owned(name: str, *owners: Json, block: bool = False) -> Json:
    references = [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "name": owner["metadata"]["name"],
            "uid": owner["metadata"]["uid"],
            "blockOwnerDeletion": block,
        }
        for owner in owners
    ]
    return {"metadata": {"name": name, "ownerReferences": references}}


def maps(api: FakeApi) -> list[str]:
    return [key.name for key, _ in api.store.select("configmaps")]


def test_a_node_becomes_ready_after_its_time_and_keeps_its_capacity(play: Any) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        node_agent(api, ready_after_s=30)
        api.call("POST", "/api/v1/nodes", node("n1"))
        await asyncio.sleep(20)
        api.call("POST", "/api/v1/nodes", node("n2"))
        await asyncio.sleep(15)
        first, second = api.objects(Node)
        assert (is_ready(first), is_ready(second)) == (True, False)
        assert first["status"]["allocatable"] == first["status"]["capacity"] == {"nvidia.com/gpu": "1"}
        await asyncio.sleep(20)
        assert all(is_ready(one) for one in api.objects(Node))

    play(main)


def test_a_deployment_is_ready_once_a_fitting_node_is(play: Any) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        node_agent(api, ready_after_s=10)
        deployment_agent(api, ready_after_s=20)
        api.call("POST", DEPLOYMENTS, deployment("d", "gpu"))
        api.call("POST", "/api/v1/nodes", node("other", pool="cpu"))
        await asyncio.sleep(100)
        assert api.call("GET", f"{DEPLOYMENTS}/d")["status"]["readyReplicas"] == 0
        api.call("POST", "/api/v1/nodes", node("right", pool="gpu"))
        await asyncio.sleep(29)
        assert api.call("GET", f"{DEPLOYMENTS}/d")["status"]["readyReplicas"] == 0
        await asyncio.sleep(2)
        status = api.call("GET", f"{DEPLOYMENTS}/d")["status"]
        assert (status["readyReplicas"], status["observedGeneration"]) == (2, 1)

    play(main)


def test_a_changed_deployment_is_rolled_out_anew(play: Any) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        node_agent(api)
        deployment_agent(api, ready_after_s=20)
        api.call("POST", "/api/v1/nodes", node("n", pool="gpu"))
        api.call("POST", DEPLOYMENTS, deployment("d", "gpu"))
        await asyncio.sleep(30)
        merge = "application/merge-patch+json"
        api.call("PATCH", f"{DEPLOYMENTS}/d", {"spec": {"replicas": 3}}, content_type=merge)
        await asyncio.sleep(10)
        status = api.call("GET", f"{DEPLOYMENTS}/d")["status"]
        assert (status["readyReplicas"], status["observedGeneration"]) == (0, 2)
        await asyncio.sleep(20)
        assert api.call("GET", f"{DEPLOYMENTS}/d")["status"]["readyReplicas"] == 3

    play(main)


def test_a_stopped_actor_does_nothing_more(play: Any) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        agent = node_agent(api, ready_after_s=10)
        api.call("POST", "/api/v1/nodes", node("n"))
        await asyncio.sleep(5)
        agent.stop()
        agent.stop()
        await asyncio.sleep(100)
        assert not is_ready(api.objects(Node)[0])

    play(main)


def test_garbage_goes_with_its_last_owner(play: Any) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        garbage_collector(api)
        one = api.call("POST", MAPS, {"metadata": {"name": "one"}})
        two = api.call("POST", MAPS, {"metadata": {"name": "two"}})
        child = api.call("POST", MAPS, owned("child", one, two))
        api.call("POST", MAPS, owned("grandchild", child))
        api.call("DELETE", f"{MAPS}/one")
        await asyncio.sleep(10)
        assert maps(api) == ["child", "grandchild", "two"]
        assert len(api.call("GET", f"{MAPS}/child")["metadata"]["ownerReferences"]) == 1
        api.call("DELETE", f"{MAPS}/two")
        await asyncio.sleep(10)
        assert maps(api) == []

    play(main)


def test_an_owner_that_was_made_again_under_its_name_owns_nothing(play: Any) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        garbage_collector(api)
        old = api.call("POST", MAPS, {"metadata": {"name": "owner"}})
        api.call("POST", MAPS, owned("child", old))
        api.call("DELETE", f"{MAPS}/owner")
        api.call("POST", MAPS, {"metadata": {"name": "owner"}})
        await asyncio.sleep(10)
        assert maps(api) == ["owner"]

    play(main)


def test_foreground_deletion_keeps_the_owner_until_its_dependents_are_gone(play: Any) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        garbage_collector(api)
        owner = api.call("POST", MAPS, {"metadata": {"name": "owner"}})
        held = owned("child", owner, block=True)
        held["metadata"]["finalizers"] = ["example.com/f"]
        api.call("POST", MAPS, held)
        api.call("DELETE", f"{MAPS}/owner", {"propagationPolicy": "Foreground"})
        await asyncio.sleep(10)
        assert maps(api) == ["child", "owner"]
        merge = "application/merge-patch+json"
        api.call("PATCH", f"{MAPS}/child", {"metadata": {"finalizers": None}}, content_type=merge)
        await asyncio.sleep(10)
        assert maps(api) == []

    play(main)


def test_orphans_stay_and_forget_their_owner(play: Any) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        garbage_collector(api)
        owner = api.call("POST", MAPS, {"metadata": {"name": "owner"}})
        api.call("POST", MAPS, owned("child", owner))
        api.call("DELETE", f"{MAPS}/owner", {"propagationPolicy": "Orphan"})
        await asyncio.sleep(10)
        assert maps(api) == ["child"]
        assert "ownerReferences" not in api.call("GET", f"{MAPS}/child")["metadata"]

    play(main)


def test_a_deleted_namespace_takes_its_contents_along(play: Any) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        api.call("POST", "/api/v1/namespaces", {"metadata": {"name": "demo"}})
        api.call("POST", "/api/v1/namespaces/demo/configmaps", {"metadata": {"name": "a"}})
        api.call("DELETE", "/api/v1/namespaces/demo")
        assert api.call("GET", "/api/v1/namespaces/demo")["status"]["phase"] == "Terminating"
        garbage_collector(api)
        await asyncio.sleep(10)
        assert maps(api) == []
        assert "demo" not in [key.name for key, _ in api.store.select("namespaces")]

    play(main)
