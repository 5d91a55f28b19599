"""Cache: reads from memory that never go back behind this process's own writes."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from kaito.client import CacheNotSynced, Client, Conflict, NotFound, TransportError
from kaito.client.middleware import Middleware, RetryMiddleware
from kaito.client.transport import Request, Response, ResponseStream, Transport
from kaito.informers.cache import Cache
from kaito.informers.floors import Floor, WriteFloors
from kaito.kube.core_v1 import ConfigMap, Namespace, Secret
from kaito.kube.frozen import FrozenDict, FrozenMap
from kaito.kube.meta_v1 import ObjectMeta
from kaito.kube.model import FrozenModelError, KubeModel
from kaito.kube.object_key import ObjectKey
from kaito.kube.resource import Resource
from kaito.testing import virtual_clock
from kaito.testing.fake_api import CutWatch, Drop, FakeApi, Fault, Hang, Refuse

MAPS = "/api/v1/namespaces/default/configmaps"
WIDGETS = "/apis/example.com/v1/namespaces/default/widgets"
KEY = ObjectKey("a", "default")


class WidgetSpec(KubeModel):
    """What a widget wants."""

    size: int = 0
    parts: tuple[str, ...] = ()


class Widget(Resource, group="example.com", version="v1"):
    """A custom resource."""

    spec: WidgetSpec = WidgetSpec()
    status: FrozenMap[str, str] | None = None


class HeldStream:
    """A watch whose bytes wait at a gate."""

    def __init__(self, inner: ResponseStream, gate: asyncio.Event) -> None:
        self._inner = inner
        self._gate = gate
        self.status = inner.status
        self.headers = inner.headers

    async def chunks(self) -> AsyncIterator[bytes]:
        async for chunk in self._inner.chunks():
            await self._gate.wait()
            yield chunk

    async def aclose(self) -> None:
        await self._inner.aclose()


class HeldWatches:
    """A transport on which watches can be held back, as a server that lags does."""

    def __init__(self, inner: Transport) -> None:
        self._inner = inner
        self.gate = asyncio.Event()
        self.gate.set()

    async def send(self, request: Request) -> Response:
        return await self._inner.send(request)

    async def stream(self, request: Request) -> ResponseStream:
        return HeldStream(await self._inner.stream(request), self.gate)

    async def aclose(self) -> None:
        await self._inner.aclose()


class Bench:
    """A cache of ConfigMaps and Widgets, and a client that reads from it, on a fake API server."""

    def __init__(self, api: FakeApi, read_wait_s: float = 2.0) -> None:
        self.api = api
        api.register(Widget)
        self.transport = HeldWatches(api.transport())
        self.floors = WriteFloors()
        middleware: list[Middleware] = [self.floors, RetryMiddleware(random.Random(1))]
        live = Client(self.transport, field_owner="tests", middleware=middleware)
        self.registry = CollectorRegistry()
        self.cache = Cache(live, self.floors, registry=self.registry, rng=random.Random(1), read_wait_s=read_wait_s)
        self.client = Client(self.transport, field_owner="tests", middleware=middleware, reader=self.cache)
        self.maps = self.cache.informer(ConfigMap)
        self.widgets = self.cache.informer(Widget)

    @property
    def floor_count(self) -> int:
        return sum(len(floors) for kinds in self.floors._kinds.values() for floors in kinds)

    def lag(self, seconds: float) -> None:
        """Holds all watches back for a while."""
        self.transport.gate.clear()
        asyncio.get_running_loop().call_later(seconds, self.transport.gate.set)

    def put(self, name: str, **data: str) -> None:
        self.api.call("POST", MAPS, {"metadata": {"name": name, "labels": data}, "data": data})

    def gets(self) -> int:
        return sum(entry.verb == "get" for entry in self.api.log)


@asynccontextmanager
async def bench(*, synced: bool = True, **options: Any) -> AsyncIterator[Bench]:
    it = Bench(FakeApi(), **options)
    task = asyncio.create_task(it.cache.run())
    if synced:
        await it.cache.wait_synced()
    try:
        yield it
    finally:
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert len(asyncio.all_tasks()) == 1


def config_map(name: str = "a", **data: str) -> ConfigMap:
    return ConfigMap(metadata=ObjectMeta(name=name, namespace="default"), data=FrozenDict(data))


def test_reads_before_the_first_list_say_so_instead_of_finding_nothing() -> None:
    async def main() -> None:
        async with bench(synced=False) as it:
            with pytest.raises(CacheNotSynced, match="ConfigMap is not synced yet"):
                await it.client.get(ConfigMap, KEY)
            with pytest.raises(CacheNotSynced):
                await it.client.list(ConfigMap)

    virtual_clock.run(main())


def test_a_cache_that_cannot_list_says_why() -> None:
    async def main() -> None:
        async with bench(synced=False) as it:
            it.api.faults.add(Fault(Refuse(403, "Forbidden", "no rights"), verb="watch", times=None))
            await asyncio.sleep(1.0)
            with pytest.raises(CacheNotSynced, match="no rights"):
                await it.client.get(ConfigMap, KEY)

    virtual_clock.run(main())


def test_declared_kinds_are_read_from_memory_and_all_others_live() -> None:
    async def main() -> None:
        async with bench() as it:
            it.put("a", x="1")
            await asyncio.sleep(0.1)
            assert (await it.client.get(ConfigMap, KEY)).data == {"x": "1"}
            assert it.gets() == 0
            with pytest.raises(NotFound, match="secrets"):
                await it.client.get(Secret, KEY)
            assert it.gets() == 1
            assert it.cache.serves(ConfigMap, "default")
            assert not it.cache.serves(Secret, "default")
            assert (await it.client.live.get(ConfigMap, KEY)).data == {"x": "1"}
            assert it.gets() == 2

    virtual_clock.run(main())


def test_an_object_that_is_not_there_is_not_found() -> None:
    async def main() -> None:
        async with bench() as it:
            with pytest.raises(NotFound, match="configmaps default/a: not found") as raised:
                await it.client.get(ConfigMap, KEY)
            assert raised.value.status == 404

    virtual_clock.run(main())


def test_asking_for_a_namespaced_object_without_a_namespace_is_a_mistake_and_not_an_absence() -> None:
    async def main() -> None:
        async with bench() as it:
            with pytest.raises(ValueError, match="name a namespace"):
                await it.client.get(ConfigMap, ObjectKey("a"))

    virtual_clock.run(main())


def test_a_cluster_scoped_object_is_found_whatever_namespace_it_is_asked_for_in() -> None:
    async def main() -> None:
        async with bench() as it:
            it.cache.informer(Namespace)
            await it.cache.wait_synced()
            assert (await it.client.get(Namespace, KEY._replace(name="default"))).metadata.name == "default"
            assert len(await it.client.list(Namespace, namespace="default")) == 4

    virtual_clock.run(main())


def test_lists_select_by_namespace_and_labels_sorted_by_key() -> None:
    async def main() -> None:
        async with bench() as it:
            for name, colour in (("c", "red"), ("a", "red"), ("b", "blue")):
                it.put(name, colour=colour)
            it.api.call("POST", "/api/v1/namespaces/kube-system/configmaps", {"metadata": {"name": "a"}})
            await asyncio.sleep(0.1)

            async def names(**query: str) -> list[str]:
                return [str(obj.key) for obj in await it.client.list(ConfigMap, **query)]

            assert await names() == ["default/a", "default/b", "default/c", "kube-system/a"]
            assert await names(namespace="default", labels="colour=red") == ["default/a", "default/c"]
            assert await names(labels="colour notin (red)") == ["default/b", "kube-system/a"]
            assert await names(namespace="none") == []

    virtual_clock.run(main())


def test_an_index_can_be_added_at_any_time_and_follows_changes() -> None:
    async def main() -> None:
        async with bench() as it:
            it.put("a", colour="red")
            await asyncio.sleep(0.1)
            it.cache.add_index(
                ConfigMap, "data.colour", lambda obj: [obj.data["colour"]] if "colour" in obj.data else []
            )
            assert [obj.metadata.name for obj in await it.cache.by_index(ConfigMap, "data.colour", "red")] == ["a"]
            it.put("b", colour="red")
            await it.client.patch(ConfigMap, KEY, {"data": {"colour": "blue"}})
            assert [obj.metadata.name for obj in await it.client.list(ConfigMap, fields="data.colour=red")] == ["b"]
            assert [obj.metadata.name for obj in await it.client.list(ConfigMap, fields="data.colour==blue")] == ["a"]

    virtual_clock.run(main())


def test_a_field_without_an_index_is_refused_and_says_how_to_declare_it() -> None:
    async def main() -> None:
        async with bench() as it:
            with pytest.raises(
                ValueError, match=r"no such index; declare it with cache.add_index\(ConfigMap, 'spec.x'"
            ):
                await it.client.list(ConfigMap, fields="spec.x=1")

    virtual_clock.run(main())


def test_an_index_function_that_raises_for_one_object_harms_neither_the_others_nor_the_informer(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        async with bench() as it:
            it.cache.add_index(ConfigMap, "broken", lambda obj: (value for value in [obj.data["colour"]]))
            it.put("bad")
            it.put("good", colour="red")
            await asyncio.sleep(0.1)
            assert [obj.metadata.name for obj in await it.cache.by_index(ConfigMap, "broken", "red")] == ["good"]
            assert (await it.client.get(ConfigMap, ObjectKey("bad", "default"))).metadata.name == "bad"

    with caplog.at_level(logging.ERROR):
        virtual_clock.run(main())
    assert "index function failed" in caplog.text
    assert "'colour'" in caplog.text


def test_an_index_function_that_names_a_value_twice_is_taken_as_meant() -> None:
    async def main() -> None:
        async with bench() as it:
            it.cache.add_index(ConfigMap, "twice", lambda obj: ["x", "x"])
            await it.client.create(config_map())
            await it.client.patch(ConfigMap, KEY, {"data": {"y": "1"}})
            assert len(await it.cache.by_index(ConfigMap, "twice", "x")) == 1
            await it.client.delete(ConfigMap, KEY)
            assert len(await it.cache.by_index(ConfigMap, "twice", "x")) == 0

    virtual_clock.run(main())


def test_an_object_that_breaks_its_schema_raises_for_itself_and_is_counted_and_the_others_are_read() -> None:
    async def main() -> None:
        async with bench() as it:
            it.cache.add_index(Widget, "size", lambda obj: [str(obj.spec.size)])
            for name, size in (("bad", "not a number"), ("good", 1)):
                it.api.call("POST", WIDGETS, {"metadata": {"name": name}, "spec": {"size": size}})
            await asyncio.sleep(0.1)
            with pytest.raises(ValueError, match=r"spec\.size"):
                await it.client.get(Widget, ObjectKey("bad", "default"))
            assert [obj.metadata.name for obj in await it.client.list(Widget)] == ["good"]
            assert [obj.metadata.name for obj in await it.cache.by_index(Widget, "size", "1")] == ["good"]
            count = it.registry.get_sample_value(
                "controller_informer_decode_errors_total", {"kind": "Widget.example.com"}
            )
            assert count is not None
            assert count >= 2
            others = {"kind": "ConfigMap"}
            assert it.registry.get_sample_value("controller_informer_decode_errors_total", others) == 0

    virtual_clock.run(main())


def test_an_own_write_to_an_object_that_breaks_its_schema_does_not_keep_others_from_being_read() -> None:
    async def main() -> None:
        async with bench() as it:
            for name, size in (("bad", "not a number"), ("good", 1)):
                it.api.call("POST", WIDGETS, {"metadata": {"name": name}, "spec": {"size": size}})
            await asyncio.sleep(0.1)
            it.api.faults.add(Fault(Drop(handled=True), verb="patch"))
            with pytest.raises(TransportError):
                await it.client.patch(Widget, ObjectKey("bad", "default"), {"metadata": {"labels": {"x": "y"}}})
            assert [obj.metadata.name for obj in await it.client.list(Widget)] == ["good"]

    virtual_clock.run(main())


def test_what_comes_from_the_cache_cannot_be_changed_and_is_shared() -> None:
    async def main() -> None:
        async with bench() as it:
            it.put("a", x="1")
            await asyncio.sleep(0.1)
            first = await it.client.get(ConfigMap, KEY)
            with pytest.raises(FrozenModelError):
                first.data = FrozenDict()
            with pytest.raises(TypeError):
                first.metadata.labels["x"] = "2"  # type: ignore[index]
            draft = first.edit()
            draft.data = FrozenDict(x="2")
            assert await it.client.get(ConfigMap, KEY) is first
            assert first.data == {"x": "1"}

    virtual_clock.run(main())


def test_a_long_list_lets_other_work_in_between_and_is_of_one_moment() -> None:
    async def main() -> None:
        async with bench() as it:
            for number in range(1000):
                it.put(f"m{number:04}")
            await asyncio.sleep(0.5)
            turns = 0

            async def count() -> None:
                nonlocal turns
                while True:
                    turns += 1
                    it.maps.store.remove(it.maps.store.items()[-1][1].raw)
                    await asyncio.sleep(0)

            counting = asyncio.create_task(count())
            assert len(await it.client.list(ConfigMap)) == 1000
            counting.cancel()
            assert turns >= 4

    virtual_clock.run(main())


# Read your own writes.


def test_a_created_object_is_read_at_once_however_late_the_watch_is() -> None:
    async def main() -> None:
        async with bench() as it:
            it.lag(1.0)
            made = await it.client.create(config_map(x="1"))
            found = await it.client.get(ConfigMap, KEY)
            assert (found.metadata.uid, found.data) == (made.metadata.uid, {"x": "1"})
            assert it.gets() == 0
            assert it.floor_count == 0

    virtual_clock.run(main())


def test_updates_patches_applies_and_status_writes_are_read_as_written() -> None:
    async def main() -> None:
        async with bench() as it:
            key = ObjectKey("a", "default")
            await it.client.create(Widget(metadata=ObjectMeta(name="a", namespace="default")))
            draft = (await it.client.get(Widget, key)).edit()
            draft.spec = WidgetSpec(size=1)
            it.lag(0.5)
            await it.client.update(draft)
            assert (await it.client.get(Widget, key)).spec.size == 1
            it.lag(0.5)
            await it.client.patch(Widget, key, {"spec": {"size": 2}})
            assert (await it.client.get(Widget, key)).spec.size == 2
            it.lag(0.5)
            await it.client.status.patch(Widget, key, {"status": {"phase": "Ready"}})
            assert (await it.client.get(Widget, key)).status == {"phase": "Ready"}
            it.lag(0.5)
            wanted = Widget(metadata=ObjectMeta(name="a", namespace="default"), spec=WidgetSpec(size=3))
            await it.client.apply(wanted, force=True)
            (found,) = await it.client.list(Widget, namespace="default")
            assert found.spec.size == 3
            assert it.gets() == 0

    virtual_clock.run(main())


def test_a_deleted_object_is_not_found_at_once_and_a_new_one_of_its_name_is_the_new_one() -> None:
    async def main() -> None:
        async with bench() as it:
            old = await it.client.create(config_map(x="1"))
            await it.client.get(ConfigMap, KEY)
            it.lag(0.5)
            await it.client.delete(ConfigMap, KEY)
            with pytest.raises(NotFound):
                await it.client.get(ConfigMap, KEY)
            it.lag(0.5)
            await it.client.delete(ConfigMap, (await it.client.create(config_map(x="2"))).key)
            new = await it.client.create(config_map(x="3"))
            assert (await it.client.get(ConfigMap, KEY)).metadata.uid == new.metadata.uid != old.metadata.uid

    virtual_clock.run(main())


def test_an_object_created_and_deleted_before_the_watch_tells_of_it_is_never_seen_again() -> None:
    async def main() -> None:
        async with bench() as it:
            it.lag(1.0)
            await it.client.create(config_map())
            await it.client.delete(ConfigMap, KEY)
            for _ in range(3):
                with pytest.raises(NotFound):
                    await it.client.get(ConfigMap, KEY)

    virtual_clock.run(main())


def test_an_object_that_a_finalizer_holds_is_read_as_being_deleted_and_gone_when_the_finalizer_goes() -> None:
    async def main() -> None:
        async with bench() as it:
            obj = config_map().edit()
            obj.metadata.finalizers = ("tests/hold",)
            await it.client.create(obj)
            it.lag(0.5)
            await it.client.delete(ConfigMap, KEY)
            assert (await it.client.get(ConfigMap, KEY)).metadata.deletion_timestamp is not None
            it.lag(0.5)
            await it.client.patch(ConfigMap, KEY, {"metadata": {"finalizers": []}})
            with pytest.raises(NotFound):
                await it.client.get(ConfigMap, KEY)

    virtual_clock.run(main())


def test_a_write_that_never_comes_back_is_a_bounded_wait_and_the_next_read_asks_the_server() -> None:
    async def main() -> None:
        async with bench(read_wait_s=2.0) as it:
            it.transport.gate.clear()
            await it.client.create(config_map())
            loop = asyncio.get_running_loop()
            began = loop.time()
            with pytest.raises(CacheNotSynced, match="ConfigMap default/a: an own write has not come back"):
                await it.client.get(ConfigMap, KEY)
            assert loop.time() - began == pytest.approx(2.0)
            with pytest.raises(CacheNotSynced):
                await it.client.get(ConfigMap, KEY)
            assert it.gets() == 1
            it.transport.gate.set()
            assert (await it.client.get(ConfigMap, KEY)).metadata.name == "a"

    virtual_clock.run(main())


def test_a_server_restored_from_a_backup_does_not_make_reads_wait_for_ever() -> None:
    async def main() -> None:
        async with bench(read_wait_s=0.5) as it:
            it.put("a")
            await asyncio.sleep(0.1)
            floors = it.cache._floors[ConfigMap]
            floors.raise_to("default/a", Floor(rv=10**9))
            with pytest.raises(CacheNotSynced):
                await it.client.get(ConfigMap, KEY)
            assert (await it.client.get(ConfigMap, KEY)).metadata.name == "a"
            assert it.gets() == 1

    virtual_clock.run(main())


def test_reads_of_other_objects_do_not_wait() -> None:
    async def main() -> None:
        async with bench() as it:
            it.put("other")
            await asyncio.sleep(0.1)
            it.transport.gate.clear()
            await it.client.create(config_map())
            began = asyncio.get_running_loop().time()
            await it.client.get(ConfigMap, ObjectKey("other", "default"))
            await it.client.list(ConfigMap, namespace="kube-system")
            await it.client.list(Widget)
            assert asyncio.get_running_loop().time() == began

    virtual_clock.run(main())


def test_a_list_waits_for_the_writes_before_it_and_not_for_those_that_come_later() -> None:
    async def main() -> None:
        async with bench(read_wait_s=1.0) as it:
            await it.client.create(config_map())

            async def keep_writing() -> None:
                while True:
                    await it.client.patch(ConfigMap, KEY, {"data": {"t": str(asyncio.get_running_loop().time())}})

            writing = [asyncio.create_task(keep_writing()) for _ in range(3)]
            for _ in range(50):
                await asyncio.sleep(0.05)
                assert len(await it.client.list(ConfigMap)) == 1
            for task in writing:
                task.cancel()
            await asyncio.wait(writing)

    virtual_clock.run(main())


@pytest.mark.parametrize("handled", [True, False])
def test_after_a_lost_answer_the_next_read_is_live_and_true_whether_the_write_happened_or_not(handled: bool) -> None:
    async def main() -> None:
        async with bench() as it:
            it.lag(0.5)
            it.api.faults.add(Fault(Drop(handled=handled), verb="create"))
            with pytest.raises(TransportError) as raised:
                await it.client.create(config_map(x="1"))
            assert raised.value.sent
            if handled:
                assert (await it.client.get(ConfigMap, KEY)).data == {"x": "1"}
            else:
                with pytest.raises(NotFound):
                    await it.client.get(ConfigMap, KEY)
            assert it.gets() == 1
            await asyncio.sleep(1.0)
            await it.client.list(ConfigMap)
            assert (it.gets(), it.floor_count) == (1, 0)

    virtual_clock.run(main())


def test_after_a_lost_answer_to_a_delete_the_object_is_gone() -> None:
    async def main() -> None:
        async with bench() as it:
            await it.client.create(config_map())
            await it.client.get(ConfigMap, KEY)
            it.lag(0.5)
            it.api.faults.add(Fault(Drop(handled=True), verb="delete"))
            with pytest.raises(TransportError):
                await it.client.delete(ConfigMap, KEY)
            with pytest.raises(NotFound):
                await it.client.get(ConfigMap, KEY)

    virtual_clock.run(main())


def test_a_cancelled_write_leaves_its_outcome_to_a_live_read() -> None:
    async def main() -> None:
        async with bench() as it:
            await it.client.create(config_map(x="1"))
            it.lag(0.5)
            it.api.faults.add(Fault(Hang(), verb="update"))
            writing = asyncio.create_task(it.client.update(config_map(x="2")))
            await asyncio.sleep(0.1)
            writing.cancel()
            await asyncio.wait([writing])
            assert (await it.client.get(ConfigMap, KEY)).data == {"x": "1"}
            assert it.gets() == 1

    virtual_clock.run(main())


def test_a_refused_write_neither_waits_nor_asks() -> None:
    async def main() -> None:
        async with bench() as it:
            made = await it.client.create(config_map())
            await it.client.get(ConfigMap, KEY)
            await it.client.patch(ConfigMap, KEY, {"data": {"y": "1"}})
            await it.client.get(ConfigMap, KEY)
            it.transport.gate.clear()
            with pytest.raises(Conflict):
                await it.client.update(made)
            await it.client.get(ConfigMap, KEY)
            assert it.gets() == 0

    virtual_clock.run(main())


def test_a_live_read_that_fails_is_the_error_of_the_read_and_the_key_stays_unknown() -> None:
    async def main() -> None:
        async with bench() as it:
            it.api.faults.add(Fault(Drop(handled=True), verb="create"))
            it.api.faults.add(Fault(Drop(sent=False), verb="get"))
            with pytest.raises(TransportError):
                await it.client.create(config_map())
            with pytest.raises(TransportError):
                await it.client.get(ConfigMap, KEY)
            assert (await it.client.get(ConfigMap, KEY)).metadata.name == "a"

    virtual_clock.run(main())


def test_floors_of_objects_that_nobody_reads_do_not_pile_up() -> None:
    async def main() -> None:
        async with bench() as it:
            for number in range(200):
                it.lag(0.02) if number % 3 else None
                obj = await it.client.create(config_map(f"m{number}"))
                if number % 2:
                    await it.client.delete(ConfigMap, obj.key)
            await asyncio.sleep(1.0)
            assert it.floor_count == 0

    virtual_clock.run(main())


def test_own_writes_are_seen_across_a_broken_watch_and_a_relist() -> None:
    async def main() -> None:
        async with bench(read_wait_s=10.0) as it:
            it.api.faults.add(Fault(CutWatch(how="expire"), verb="watch", times=2))
            for number in range(30):
                made = await it.client.create(config_map(f"m{number}"))
                assert (await it.client.get(ConfigMap, made.key)).metadata.uid == made.metadata.uid
                await asyncio.sleep(20.0)

    virtual_clock.run(main())


def test_the_metrics_tell_what_is_cached_and_how_fresh_it_is() -> None:
    async def main() -> None:
        async with bench() as it:
            it.put("a")
            await asyncio.sleep(10.0)

            def value(name: str) -> float | None:
                return it.registry.get_sample_value(f"controller_informer_{name}", {"kind": "ConfigMap"})

            assert value("objects") == 1
            assert value("bytes") == it.maps.store.bytes > 100
            assert value("synced") == 1
            assert value("resource_version") == it.api.store.version
            age_s = value("last_event_age_seconds")
            assert age_s is not None
            assert 9.0 < age_s < 11.0

    virtual_clock.run(main())
