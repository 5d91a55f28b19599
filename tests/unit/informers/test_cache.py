"""Cache: reads from memory, of one moment, that no single bad object can harm."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from kaito.client import CacheNotSynced, NotFound, TransportError
from kaito.kube.core_v1 import ConfigMap, Namespace, Secret
from kaito.kube.frozen import FrozenDict
from kaito.kube.model import FrozenModelError
from kaito.kube.object_key import ObjectKey
from kaito.testing import virtual_clock
from kaito.testing.fake_api import Drop, Fault, Refuse
from tests.unit.informers.caching import KEY, MAPS, WIDGETS, Widget, bench, config_map


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

            async def names(namespace: str | None = None, labels: str = "", fields: str = "") -> list[str]:
                found = await it.client.list(ConfigMap, namespace=namespace, labels=labels, fields=fields)
                return [str(obj.key) for obj in found]

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
            for reader in (it.client, it.client.live):
                listed = await reader.list(Widget)
                assert [obj.metadata.name for obj in listed] == ["good"]
                assert [str(unreadable.key) for unreadable in listed.unreadable] == ["default/bad"]
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


@pytest.mark.parametrize("values", [lambda _: [["a"]], lambda _: 5, lambda _: [None]])
def test_an_index_function_that_returns_no_texts_harms_nobody(values: Any, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with bench() as it:
            it.cache.add_index(ConfigMap, "bad", values)
            it.cache.add_index(ConfigMap, "one", lambda found: found.metadata.name)  # a text is one value
            it.put("alone")
            await asyncio.sleep(0.1)
            assert len(await it.client.list(ConfigMap)) == 1
            assert [found.metadata.name for found in await it.cache.by_index(ConfigMap, "one", "alone")] == ["alone"]
            assert len(await it.cache.by_index(ConfigMap, "one", "a")) == 0

    virtual_clock.run(main())
    assert "index function failed" in caplog.text


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
                    it.api.call("DELETE", f"{MAPS}/m{turns:04}")
                    await asyncio.sleep(0)

            counting = asyncio.create_task(count())
            assert len(await it.client.list(ConfigMap)) == 1000
            counting.cancel()
            assert turns >= 4

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
