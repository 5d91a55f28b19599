"""Applier: nothing is written when nothing differs, what is another's stays, and drift does not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from kaito.client import Client, Conflict
from kaito.client.middleware import Middleware
from kaito.informers.cache import Cache
from kaito.informers.floors import WriteFloors
from kaito.kube.apps_v1 import Deployment
from kaito.kube.core_v1 import ConfigMap
from kaito.kube.object_key import ObjectKey
from kaito.runtime.apply import INTENT_HASH_ANNOTATION, Applier, ApplyOutcome, NotOurs, intent_hash
from kaito.runtime.metrics import RuntimeMetrics
from kaito.testing import virtual_clock
from kaito.testing.fake_api import FakeApi

Json = dict[str, Any]
KEY = ObjectKey("web", "default")
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
MERGE = "application/merge-patch+json"
WRITES = {"create", "update", "patch", "apply", "delete"}


class Bench:
    """An owner, an applier over a cache, and a fake API server."""

    def __init__(self, api: FakeApi) -> None:
        self.api = api
        floors = WriteFloors()
        middleware: list[Middleware] = [floors]
        live = Client(api.transport(), field_owner="tests", middleware=middleware)
        self.cache = Cache(live, floors)
        self.cache.informer(Deployment)
        self.client = Client(api.transport(), field_owner="tests", middleware=middleware, reader=self.cache)
        self.registry = CollectorRegistry()
        self.applier = Applier(self.client, RuntimeMetrics(self.registry))

    def writes(self) -> list[str]:
        return [entry.verb for entry in self.api.log if entry.verb in WRITES]

    def stored(self) -> Json:
        (obj,) = self.api.objects(Deployment)
        return obj

    async def owner(self, name: str = "owner") -> ConfigMap:
        path = "/api/v1/namespaces/default/configmaps"
        if not any(obj["metadata"]["name"] == name for obj in self.api.objects(ConfigMap)):
            self.api.call("POST", path, {"metadata": {"name": name}})
        return await self.client.get(ConfigMap, ObjectKey(name, "default"))


@asynccontextmanager
async def started(api: FakeApi) -> AsyncIterator[Bench]:
    """A process: a new client and a new cache each time."""
    it = Bench(api)
    task = asyncio.create_task(it.cache.run())
    await it.cache.wait_synced()
    api.log.clear()
    try:
        yield it
    finally:
        task.cancel()
        await asyncio.wait([task])


def deployment(replicas: int = 1, **container: Any) -> Deployment:
    main = {"name": "main", "image": "i", "env": [{"name": "A", "value": "1"}], **container}
    labels = {"app": "web"}
    return Deployment.model_validate(
        {
            "metadata": {"name": "web", "namespace": "default", "labels": labels},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": {"containers": [main]}},
            },
        }
    )


def test_an_object_that_is_not_there_is_made_with_its_owner_and_hash_by_apply() -> None:
    async def main() -> None:
        async with started(FakeApi()) as it:
            owner = await it.owner()
            applied = await it.applier.apply(deployment(), owner)
            assert applied.outcome is ApplyOutcome.CREATED
            assert it.writes() == ["apply"]
            metadata = it.stored()["metadata"]
            assert metadata["ownerReferences"] == [
                {
                    "apiVersion": "v1",
                    "kind": "ConfigMap",
                    "name": "owner",
                    "uid": owner.metadata.uid,
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ]
            assert len(metadata["annotations"][INTENT_HASH_ANNOTATION]) == 16

    virtual_clock.run(main())


def test_nothing_is_written_when_nothing_differs_in_this_process_and_in_the_next() -> None:
    async def main() -> None:
        api = FakeApi()
        async with started(api) as it:
            await it.applier.apply(deployment(), await it.owner())
            for _ in range(3):
                applied = await it.applier.apply(deployment(), await it.owner())
                assert applied.outcome is ApplyOutcome.UNCHANGED
                assert applied.object.metadata.uid == it.stored()["metadata"]["uid"]
            assert it.writes() == ["apply"]
        async with started(api) as again:
            assert (await again.applier.apply(deployment(), await again.owner())).outcome is ApplyOutcome.UNCHANGED
            assert again.writes() == []
            assert not any("deployments" in entry.path for entry in api.log if entry.verb == "get")

    virtual_clock.run(main())


def test_a_changed_intent_is_applied_and_what_it_no_longer_has_goes() -> None:
    async def main() -> None:
        async with started(FakeApi()) as it:
            owner = await it.owner()
            await it.applier.apply(deployment(1, command=["run"]), owner)
            applied = await it.applier.apply(deployment(2), owner)
            assert applied.outcome is ApplyOutcome.UPDATED
            assert it.stored()["spec"]["replicas"] == 2
            assert "command" not in it.stored()["spec"]["template"]["spec"]["containers"][0]
            assert (await it.applier.apply(deployment(2), owner)).outcome is ApplyOutcome.UNCHANGED

    virtual_clock.run(main())


def test_a_scalar_that_somebody_changed_is_set_back() -> None:
    async def main() -> None:
        async with started(FakeApi()) as it:
            owner = await it.owner()
            await it.applier.apply(deployment(), owner)
            it.api.call(
                "PATCH", f"{DEPLOYMENTS}/web", {"spec": {"replicas": 7}}, content_type=MERGE, manager="somebody"
            )
            await asyncio.sleep(0.1)
            assert (await it.applier.apply(deployment(), owner)).outcome is ApplyOutcome.UPDATED
            assert it.stored()["spec"]["replicas"] == 1
            assert (await it.applier.apply(deployment(), owner)).outcome is ApplyOutcome.UNCHANGED

    virtual_clock.run(main())


def test_a_list_item_that_somebody_added_is_taken_out_and_what_the_server_defaults_stays() -> None:
    async def main() -> None:
        async with started(FakeApi()) as it:
            owner = await it.owner()
            await it.applier.apply(deployment(), owner)
            template = it.stored()["spec"]["template"]
            main = dict(template["spec"]["containers"][0])
            main["env"] = [*main["env"], {"name": "LD_PRELOAD", "value": "x"}]
            main["imagePullPolicy"] = "Always"
            spec = {"template": {**template, "spec": {"containers": [main, {"name": "sidecar", "image": "j"}]}}}
            it.api.call("PATCH", f"{DEPLOYMENTS}/web", {"spec": spec}, content_type=MERGE, manager="somebody")
            await asyncio.sleep(0.1)
            assert (await it.applier.apply(deployment(), owner)).outcome is ApplyOutcome.UPDATED
            (left,) = it.stored()["spec"]["template"]["spec"]["containers"]
            assert left == {
                "name": "main",
                "image": "i",
                "env": [{"name": "A", "value": "1"}],
                "imagePullPolicy": "Always",
            }
            assert (await it.applier.apply(deployment(), owner)).outcome is ApplyOutcome.UNCHANGED

    virtual_clock.run(main())


def test_labels_and_finalizers_of_others_are_theirs() -> None:
    async def main() -> None:
        async with started(FakeApi()) as it:
            owner = await it.owner()
            await it.applier.apply(deployment(), owner)
            theirs = {"metadata": {"labels": {"theirs": "1"}, "finalizers": ["theirs/hold"]}}
            it.api.call("PATCH", f"{DEPLOYMENTS}/web", theirs, content_type=MERGE, manager="somebody")
            await asyncio.sleep(0.1)
            assert (await it.applier.apply(deployment(), owner)).outcome is ApplyOutcome.UNCHANGED
            await it.applier.apply(deployment(2), owner)
            assert it.stored()["metadata"]["labels"]["theirs"] == "1"
            assert it.stored()["metadata"]["finalizers"] == ["theirs/hold"]

    virtual_clock.run(main())


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("owned", [True, False])
def test_an_object_of_somebody_else_is_refused_and_not_touched(known: bool, owned: bool) -> None:
    async def main() -> None:
        api = FakeApi()
        body = deployment().to_dict()
        async with started(api) as it:
            owner, other = await it.owner(), await it.owner("other")
            reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "other", "uid": other.metadata.uid}
            if owned:
                body["metadata"]["ownerReferences"] = [{**reference, "controller": True}]
            api.call("POST", DEPLOYMENTS, body)
            before = it.stored()
            if known:
                await asyncio.sleep(0.1)
            whose = "belongs to ConfigMap other" if owned else "has no controlling owner"
            text = f"Deployment default/web exists and {whose}.* not to ConfigMap default/owner .*: delete or rename it"
            with pytest.raises(NotOurs, match=text):
                await it.applier.apply(deployment(), owner)
            assert it.stored() == before
            assert it.writes() == []

    virtual_clock.run(main())


def test_an_object_of_a_predecessor_of_the_owner_is_not_inherited() -> None:
    async def main() -> None:
        async with started(FakeApi()) as it:
            await it.applier.apply(deployment(), await it.owner())
            it.api.call("DELETE", "/api/v1/namespaces/default/configmaps/owner")
            with pytest.raises(NotOurs, match="belongs to ConfigMap owner"):
                await it.applier.apply(deployment(), await it.owner())

    virtual_clock.run(main())


def test_an_object_that_is_being_deleted_is_waited_for() -> None:
    async def main() -> None:
        async with started(FakeApi()) as it:
            owner = await it.owner()
            await it.applier.apply(deployment(), owner)
            hold = {"metadata": {"finalizers": ["theirs/hold"]}}
            it.api.call("PATCH", f"{DEPLOYMENTS}/web", hold, content_type=MERGE)
            it.api.call("DELETE", f"{DEPLOYMENTS}/web")
            await asyncio.sleep(0.1)
            with pytest.raises(Conflict, match="is being deleted; it is made again when it is gone"):
                await it.applier.apply(deployment(2), owner)
            assert it.writes() == ["apply"]

    virtual_clock.run(main())


def test_an_object_that_vanished_unseen_is_not_made_from_half_an_intent() -> None:
    async def main() -> None:
        async with started(FakeApi()) as it:
            owner = await it.owner()
            await it.applier.apply(deployment(), owner)
            await it.client.get(Deployment, KEY)
            it.api.call("DELETE", f"{DEPLOYMENTS}/web")
            with pytest.raises(Conflict):  # before the watch has told of it
                await it.applier.apply(deployment(2), owner)
            assert it.api.objects(Deployment) == []
            await asyncio.sleep(0.1)
            assert (await it.applier.apply(deployment(2), owner)).outcome is ApplyOutcome.CREATED

    virtual_clock.run(main())


def test_the_hash_of_an_intent_does_not_depend_on_the_order_of_its_fields() -> None:
    assert intent_hash({"a": 1, "b": {"c": 2, "d": 3}}) == intent_hash({"b": {"d": 3, "c": 2}, "a": 1})
    assert intent_hash({"a": [1, 2]}) != intent_hash({"a": [2, 1]})
