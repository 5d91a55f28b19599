"""Informers of some objects, and several of one kind: what they hold, and what reads make of it."""

from __future__ import annotations

import asyncio

import pytest

from kaito.client import NotFound
from kaito.informers import InformerOptions
from kaito.kube.core_v1 import ConfigMap, Namespace, Secret
from kaito.kube.object_key import ObjectKey
from kaito.testing import virtual_clock
from tests.unit.informers.caching import bench, config_map
from tests.unit.informers.scoped import ONE, names, options, put


def test_what_a_selector_leaves_out_is_not_listed_but_found_live() -> None:
    async def main() -> None:
        async with bench() as it:
            put(it, "default", "in", app="web")
            put(it, "default", "out", app="db")
            informer = it.cache.informer(Secret, options(labels="app=web"))
            await informer.wait_synced()
            assert await names(it) == ["default/in"]
            await it.client.get(Secret, ObjectKey("in", "default"))
            assert it.gets() == 0
            await it.client.get(Secret, ObjectKey("out", "default"))
            assert it.gets() == 1
            with pytest.raises(NotFound):
                await it.client.get(Secret, ObjectKey("none", "default"))

    virtual_clock.run(main())


def test_an_own_write_that_takes_an_object_out_of_the_selection_is_waited_for_to_be_gone() -> None:
    async def main() -> None:
        async with bench() as it:
            put(it, "default", "s", app="web")
            informer = it.cache.informer(Secret, options(labels="app=web"))
            await informer.wait_synced()
            it.lag(1.0)
            await it.client.patch(Secret, ObjectKey("s", "default"), {"metadata": {"labels": {"app": "db"}}})
            assert await names(it) == []
            assert (await it.client.get(Secret, ObjectKey("s", "default"))).metadata.labels == {"app": "db"}
            it.lag(1.0)
            await it.client.patch(Secret, ObjectKey("s", "default"), {"metadata": {"labels": {"app": "web"}}})
            assert await names(it) == ["default/s"]
            assert it.floor_count == 0

    virtual_clock.run(main())


def test_an_own_write_outside_of_the_selection_makes_no_read_wait() -> None:
    async def main() -> None:
        async with bench() as it:
            informer = it.cache.informer(Secret, options(fields="metadata.name=in"))
            await informer.wait_synced()
            put(it, "default", "out")
            await it.client.patch(Secret, ObjectKey("out", "default"), {"metadata": {"labels": {"x": "1"}}})
            began = asyncio.get_running_loop().time()
            assert await names(it) == []
            assert asyncio.get_running_loop().time() < began + 0.1  # the server was asked whether it is selected

    virtual_clock.run(main())


def test_whether_a_field_is_selected_is_the_servers_to_say() -> None:
    async def main() -> None:
        async with bench() as it:
            put(it, "default", "in")
            # The fake knows metadata.name alone; what matters is that no opinion of ours is asked.
            informer = it.cache.informer(Secret, options(fields="metadata.name=in"))
            await informer.wait_synced()
            for number in range(3):
                it.lag(0.5)
                patch = {"metadata": {"labels": {"n": str(number)}}}
                await it.client.patch(Secret, ObjectKey("in", "default"), patch)
                assert (await it.client.list(Secret))[0].metadata.labels == {"n": str(number)}
            assert it.floor_count == 0

    virtual_clock.run(main())


def test_equal_options_share_an_informer_and_others_get_their_own_and_reads_come_from_the_first() -> None:
    async def main() -> None:
        async with bench() as it:
            put(it, "default", "a", app="web")
            put(it, "default", "b")
            everything = it.cache.informer(Secret)
            selected = it.cache.informer(Secret, options(labels="app=web"))
            assert it.cache.informer(Secret) is everything
            assert it.cache.informer(Secret, options()) is everything
            assert it.cache.informer(Secret, options(labels="app=web")) is selected
            await it.cache.wait_synced()
            assert len(everything.store) == 2
            assert len(selected.store) == 1
            assert len(await it.client.list(Secret)) == 2
            assert it.registry.get_sample_value("controller_informer_objects", {"kind": "Secret"}) == 3

    virtual_clock.run(main())


def test_a_projected_informer_does_not_lend_its_objects_to_others() -> None:
    async def main() -> None:
        async with bench() as it:
            it.put("a", x="1")
            await asyncio.sleep(0.1)

            def cut(obj: dict[str, object]) -> dict[str, object]:
                return {key: value for key, value in obj.items() if key != "data"}

            small = it.cache.informer(ConfigMap, InformerOptions(transform=cut))
            await small.wait_synced()
            ((_, entry),) = small.store.items()
            assert not small.decode(entry).data
            assert (await it.client.get(ConfigMap, ObjectKey("a", "default"))).data == {"x": "1"}
            assert not small.decode(entry).data

    virtual_clock.run(main())


def test_a_removed_informer_is_stopped_and_its_kind_is_read_live() -> None:
    async def main() -> None:
        async with bench() as it:
            told: list[str] = []
            it.maps.add_handler(lambda event: told.append(event.change.key))
            await it.cache.remove_informer(ConfigMap)
            await it.cache.remove_informer(ConfigMap)  # twice is harmless
            await it.client.create(config_map("a"))
            await it.client.get(ConfigMap, ObjectKey("a", "default"))
            assert it.gets() == 1
            assert told == []
            assert it.floor_count == 0
            fresh = it.cache.informer(ConfigMap)
            await fresh.wait_synced()
            await it.client.get(ConfigMap, ObjectKey("a", "default"))
            assert it.gets() == 1

    virtual_clock.run(main())


def test_a_cache_of_some_namespaces_holds_all_of_a_cluster_scoped_kind() -> None:
    async def main() -> None:
        async with bench(options=options(ONE)) as it:
            informer = it.cache.informer(Namespace)
            await informer.wait_synced()
            assert len(informer.store) == 4
            assert it.maps.namespaces == frozenset({ONE})

    virtual_clock.run(main())
