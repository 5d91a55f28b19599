"""Informers of some namespaces, some objects, some fields, against a real API server and its RBAC."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from kaito.client import Client, NotFound, load_config
from kaito.devcluster.controlplane import ControlPlane
from kaito.informers import Cache, InformerOptions, ListMode, WriteFloors
from kaito.kube.core_v1 import ConfigMap, Namespace, Pod
from kaito.kube.frozen import FrozenDict
from kaito.kube.meta_v1 import ObjectMeta
from kaito.kube.metadata_only import MetadataOnly
from kaito.kube.object_key import ObjectKey
from kaito.kube.resource import Resource
from kaito.testing import eventually


class NamesOnly(Resource, group="", version="v1", kind="ConfigMap", plural="configmaps"):
    """ConfigMaps without their data."""


@asynccontextmanager
async def cached(control_plane: ControlPlane, user: str = "") -> AsyncIterator[tuple[Cache, Client]]:
    """A running cache, and a client that reads from it; as a user of no rights, if one is named."""
    config = load_config(control_plane.add_user(user, []) if user else control_plane.kubeconfig)
    floors = WriteFloors()
    async with Client.from_config(config, name="tests", middleware=[floors]) as live:
        cache = Cache(live, floors)
        task = asyncio.create_task(cache.run())
        try:
            async with asyncio.timeout(30):
                yield cache, Client(live.transport, field_owner="tests", middleware=[floors], reader=cache)
        finally:
            task.cancel()
            await asyncio.wait([task])


def config_map(namespace: str, name: str, labels: dict[str, str] | None = None, **data: str) -> ConfigMap:
    metadata = ObjectMeta(name=name, namespace=namespace, labels=FrozenDict(labels or {}))
    return ConfigMap(metadata=metadata, data=FrozenDict(data))


async def test_a_user_with_rights_in_two_namespaces_has_a_cache_of_these_two(
    control_plane: ControlPlane, client: Client, namespace: str
) -> None:
    other, user = f"{namespace[:50]}-other", f"scoped-{namespace[-6:]}"
    await client.create(Namespace(metadata=ObjectMeta(name=other)))
    for each in (namespace, other):
        await client.create(config_map(each, "mine"))
        binding = ("create", "rolebinding", "-n", each, "scoped", "--clusterrole=edit", f"--user={user}")
        await control_plane.kubectl(*binding)
    async with cached(control_plane, user) as (cache, reading):
        everything = cache.informer(ConfigMap)
        await eventually(lambda: "forbidden" in str(everything.state.error))
        await cache.remove_informer(ConfigMap)

        informer = cache.informer(ConfigMap, InformerOptions(namespaces=frozenset({namespace})))
        await informer.wait_synced()
        await reading.get(ConfigMap, ObjectKey("mine", namespace))
        await informer.set_namespaces([namespace, other])
        await informer.wait_synced()
        names = [obj.key for obj in await reading.list(ConfigMap) if obj.metadata.name == "mine"]
        assert names == [ObjectKey("mine", each) for each in sorted([namespace, other])]
        await informer.set_namespaces([other])
        assert {obj.metadata.namespace for obj in await reading.list(ConfigMap)} == {other}
        await client.delete(Namespace, ObjectKey(other))


async def test_own_writes_in_and_out_of_a_selection_are_read_back(
    control_plane: ControlPlane, client: Client, namespace: str
) -> None:
    options = InformerOptions(frozenset({namespace}), labels="app=web")
    async with cached(control_plane) as (cache, reading):
        await cache.informer(ConfigMap, options).wait_synced()
        for number in range(5):
            key = (await reading.create(config_map(namespace, f"m{number}", {"app": "web"}))).key
            assert [obj.key for obj in await reading.list(ConfigMap)] == [key]
            await reading.patch(ConfigMap, key, {"metadata": {"labels": {"app": "db"}}})
            assert list(await reading.list(ConfigMap)) == []
            assert (await reading.get(ConfigMap, key)).metadata.labels == {"app": "db"}
            await reading.patch(ConfigMap, key, {"metadata": {"labels": {"app": "web"}}})
            assert [obj.key for obj in await reading.list(ConfigMap)] == [key]
            await reading.delete(ConfigMap, key)
            with pytest.raises(NotFound):
                await reading.get(ConfigMap, key)
            assert list(await reading.list(ConfigMap)) == []


async def test_a_field_selector_follows_objects_in_and_out(
    control_plane: ControlPlane, client: Client, namespace: str
) -> None:
    container = {"name": "main", "image": "image"}
    pod = {"metadata": {"name": "p", "namespace": namespace}, "spec": {"containers": [container]}}
    async with cached(control_plane) as (cache, reading):
        options = InformerOptions(frozenset({namespace}), fields="status.phase!=Failed")
        await cache.informer(Pod, options).wait_synced()
        made = await reading.create(Pod.model_validate(pod))
        assert [obj.key for obj in await reading.list(Pod)] == [made.key]
        await reading.status.patch(Pod, made.key, {"status": {"phase": "Failed"}})
        assert list(await reading.list(Pod)) == []


async def test_a_projection_stores_what_the_class_declares(
    control_plane: ControlPlane, client: Client, namespace: str
) -> None:
    await client.create(config_map(namespace, "big", {"app": "web"}, x="y" * 10_000))
    async with cached(control_plane) as (cache, reading):
        options = InformerOptions(frozenset({namespace}), project=True)
        informer = cache.informer(NamesOnly, options)
        await informer.wait_synced()
        found = await reading.get(NamesOnly, ObjectKey("big", namespace))
        assert found.metadata.labels == {"app": "web"}
        assert "data" not in found.to_dict()
        assert informer.store.bytes < 2_000
        draft = found.edit()
        draft.metadata.labels = FrozenDict({"app": "db"})
        for partial in (found, draft):
            with pytest.raises(TypeError, match="would empty the rest; patch or apply it"):
                await reading.update(partial)
        await reading.patch(NamesOnly, found.key, {"metadata": {"labels": {"app": "db"}}})
        assert len((await client.get(ConfigMap, found.key)).data["x"]) == 10_000


async def test_an_informer_of_metadata_alone_is_sent_nothing_else(
    control_plane: ControlPlane, client: Client, namespace: str
) -> None:
    await client.create(config_map(namespace, "big", {"app": "web"}, x="y" * 10_000))
    modes: list[ListMode] = ["stream", "whole", "pages"]
    kind = MetadataOnly(ConfigMap)
    for mode in modes:
        async with cached(control_plane) as (cache, reading):
            informer = cache.informer(kind, InformerOptions(frozenset({namespace}), list_mode=mode))
            await informer.wait_synced()
            assert informer.store.bytes < 2_000
            found = await reading.get(kind, ObjectKey("big", namespace))
            assert (found.kind, found.api_version, found.metadata.labels["app"]) == ("ConfigMap", "v1", "web")
            await reading.patch(kind, found.key, {"metadata": {"labels": {"mode": mode}}})
            assert (await reading.get(kind, found.key)).metadata.labels["mode"] == mode
            assert informer.parts[0].reflector.unreadable == 0


@pytest.mark.parametrize("mode", ["stream", "whole", "pages"])
async def test_every_way_to_list_ends_in_the_same_cache(
    control_plane: ControlPlane, client: Client, namespace: str, mode: ListMode
) -> None:
    await asyncio.gather(*(client.create(config_map(namespace, f"m{n:03}", x='},{"metadata":')) for n in range(120)))
    async with cached(control_plane) as (cache, reading):
        informer = cache.informer(ConfigMap, InformerOptions(list_mode=mode))
        await informer.wait_synced()
        assert informer.parts[0].reflector.lists == {mode: 1}
        live = await client.list(ConfigMap, namespace=namespace)
        found = await reading.list(ConfigMap, namespace=namespace)
        # Without the root certificates, which may come between the two.
        ours = [[obj for obj in objects if obj.metadata.name.startswith("m")] for objects in (live, found)]
        versions = [[(obj.key, obj.metadata.resource_version) for obj in objects] for objects in ours]
        assert versions[0] == versions[1]
        assert len(versions[0]) == 120
        await client.patch(ConfigMap, ObjectKey("m000", namespace), {"data": {"x": "changed"}})

        async def seen() -> bool:
            return (await reading.get(ConfigMap, ObjectKey("m000", namespace))).data == {"x": "changed"}

        await eventually(seen)


async def test_a_relist_sees_what_others_wrote_before_it(
    control_plane: ControlPlane, client: Client, namespace: str
) -> None:
    async with cached(control_plane) as (cache, reading):
        informer = cache.informer(ConfigMap, InformerOptions(frozenset({namespace})))
        await informer.wait_synced()
        for number in range(5):
            made = await client.create(config_map(namespace, f"m{number}"))
            await cache.relist()
            assert (await reading.get(ConfigMap, made.key)).metadata.uid == made.metadata.uid
        assert informer.parts[0].lists == 6
