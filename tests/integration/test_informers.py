"""Informers and caches against a real API server: streaming and paged lists, own writes, broken schemas."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import pytest

from kaito.client import AiohttpTransport, Client, Config, NotFound, load_config
from kaito.client.middleware import Middleware, RetryMiddleware
from kaito.devcluster.controlplane import ControlPlane
from kaito.informers import Cache, InformerEvent, WriteFloors
from kaito.kube.core_v1 import ConfigMap
from kaito.kube.frozen import FrozenDict
from kaito.kube.meta_v1 import ObjectMeta
from kaito.kube.object_key import ObjectKey
from kaito.kube.resource import Resource
from kaito.testing import eventually


class Cached:
    """A client whose reads come from a cache."""

    def __init__(self, config: Config, kinds: Iterable[type[Resource]] = (ConfigMap,)) -> None:
        floors = WriteFloors()
        self.transport = AiohttpTransport(config, user_agent="tests")
        middleware: list[Middleware] = [floors, RetryMiddleware()]
        self.cache = Cache(Client(self.transport, field_owner="tests", middleware=middleware), floors)
        self.client = Client(self.transport, field_owner="tests", middleware=middleware, reader=self.cache)
        self.told: list[tuple[str, str, bool]] = []
        for kind in kinds:
            self.cache.informer(kind).add_handler(self._hear)

    def _hear(self, event: InformerEvent[Resource]) -> None:
        self.told.append((event.change.type, str(event.key), event.initial))

    @property
    def phases(self) -> list[tuple[str, bool]]:
        return [(informer.state.phase.value, informer.state.streaming) for informer in self.cache.informers()]


@asynccontextmanager
async def cached(config: Config, kinds: Iterable[type[Resource]] = (ConfigMap,)) -> AsyncIterator[Cached]:
    it = Cached(config, kinds)
    task = asyncio.create_task(it.cache.run())
    try:
        async with asyncio.timeout(30):
            await it.cache.wait_synced()
        yield it
    finally:
        task.cancel()
        await asyncio.wait([task])
        await it.transport.aclose()


def config_map(namespace: str, name: str = "a", **data: str) -> ConfigMap:
    return ConfigMap(metadata=ObjectMeta(name=name, namespace=namespace), data=FrozenDict(data))


async def test_a_streaming_list_and_the_changes_after_it(
    control_plane: ControlPlane, client: Client, namespace: str
) -> None:
    before = await client.create(config_map(namespace, "before"))
    async with cached(load_config(control_plane.kubeconfig)) as it:
        assert ("added", str(before.key), True) in it.told
        await client.create(config_map(namespace, "after"))
        await client.patch(ConfigMap, before.key, {"data": {"x": "1"}})
        await client.delete(ConfigMap, before.key)
        ours = {str(before.key), f"{namespace}/after"}  # and not the root certificates, which come when they like
        assert await eventually(lambda: ("deleted", str(before.key), False) in it.told)
        assert [event for event in it.told if not event[2] and event[1] in ours] == [
            ("added", f"{namespace}/after", False),
            ("updated", str(before.key), False),
            ("deleted", str(before.key), False),
        ]
        assert it.cache.informers()[0].state.error is None
        assert it.phases == [("stream_list", True)]  # the list and its watch are one connection


async def test_own_writes_are_read_at_once_under_load(control_plane: ControlPlane, namespace: str) -> None:
    async with cached(load_config(control_plane.kubeconfig)) as it:

        async def hammer(name: str) -> None:
            made = await it.client.create(config_map(namespace, name))
            for number in range(8):
                text = str(number)
                patched = await it.client.patch(ConfigMap, made.key, {"data": {"n": text}})
                found = await it.client.get(ConfigMap, made.key)
                assert int(found.metadata.resource_version) >= int(patched.metadata.resource_version)
                assert found.data["n"] == text
                assert name in [obj.metadata.name for obj in await it.client.list(ConfigMap, namespace=namespace)]
            await it.client.delete(ConfigMap, made.key)
            with pytest.raises(NotFound):
                await it.client.get(ConfigMap, made.key)

        await asyncio.gather(*(hammer(f"m{number}") for number in range(20)))
        floors = it.cache._catch_up[ConfigMap].floors
        await eventually(lambda: len(floors) == 0)


async def test_an_object_whose_last_finalizer_went_is_gone_at_once(control_plane: ControlPlane, namespace: str) -> None:
    async with cached(load_config(control_plane.kubeconfig)) as it:
        for number in range(10):
            draft = config_map(namespace, f"m{number}").edit()
            draft.metadata.finalizers = ("tests.example.com/hold",)
            made = await it.client.create(draft)
            await it.client.delete(ConfigMap, made.key)
            assert (await it.client.get(ConfigMap, made.key)).metadata.deletion_timestamp is not None
            await it.client.patch(ConfigMap, made.key, {"metadata": {"finalizers": None}})
            with pytest.raises(NotFound):
                await it.client.get(ConfigMap, made.key)


async def test_what_comes_from_the_cache_is_what_the_server_has_but_for_managed_fields(
    control_plane: ControlPlane, namespace: str
) -> None:
    async with cached(load_config(control_plane.kubeconfig)) as it:
        made = await it.client.create(config_map(namespace, x="é\n\"'"))
        live = (await it.client.live.get(ConfigMap, made.key)).to_dict()
        assert live["metadata"].pop("managedFields")
        assert (await it.client.get(ConfigMap, made.key)).to_dict() == live


@pytest.fixture(scope="module")
def old_control_plane() -> Iterable[ControlPlane]:
    """A server without streaming lists; its ConfigMaps are paged."""
    flags = {"kube-apiserver": ["--feature-gates=WatchList=false"]}
    with ControlPlane(extra_flags=flags) as plane:  # type: ignore[arg-type]
        yield plane


async def test_a_server_without_streaming_lists_is_listed_page_by_page_and_a_lost_server_is_found_again(
    old_control_plane: ControlPlane,
) -> None:
    config = load_config(old_control_plane.kubeconfig)
    async with Client.from_config(config) as client:
        await asyncio.gather(*(client.create(config_map("default", f"m{number:03}")) for number in range(520)))
        async with cached(config) as it:
            assert it.phases == [("watch", False)]
            assert len(await it.client.list(ConfigMap, namespace="default")) >= 520
            await old_control_plane.stop_program("kube-apiserver")
            informer = it.cache.informer(ConfigMap)
            await eventually(lambda: informer.state.error)
            assert len(await it.client.list(ConfigMap, namespace="default")) >= 520  # still readable
            await old_control_plane.start_program("kube-apiserver")
            made = await eventually(lambda: client.create(config_map("default", "later")), retry_on=(Exception,))
            await eventually(lambda: str(made.key) in informer.store, timeout_s=20.0)
            assert informer.state.error is None
            assert (await it.client.get(ConfigMap, ObjectKey("later", "default"))).metadata.uid == made.metadata.uid
            assert it.told.count(("added", "default/m000", True)) == 1
