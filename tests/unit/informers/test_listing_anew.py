"""Informers that are stopped, run again and made to list anew; and handlers that take their time meanwhile."""

from __future__ import annotations

import asyncio

import pytest

from kaito.informers import InformerEvent
from kaito.kube.core_v1 import ConfigMap, Secret
from kaito.kube.object_key import ObjectKey
from kaito.testing import virtual_clock
from tests.unit.informers.caching import bench
from tests.unit.informers.scoped import ONE, TWO, drop, names, options, put


def test_a_cache_that_is_run_again_lists_anew_and_handlers_hear_what_changed_meanwhile() -> None:
    async def main() -> None:
        async with bench() as it:
            put(it, "default", "stays")
            put(it, "default", "goes")
            informer = it.cache.informer(Secret)
            told: list[tuple[str, str, bool]] = []

            def hear(event: InformerEvent[Secret]) -> None:
                told.append((event.change.type, event.key.name, event.initial))

            informer.add_handler(hear)
            await informer.wait_synced()
            await it.stop()
            told.clear()
            drop(it, "default", "goes")
            put(it, "default", "comes")
            await asyncio.sleep(1.0)
            assert told == []
            it.start()
            await asyncio.sleep(1.0)
            assert told == [("deleted", "goes", True), ("added", "comes", True)]
            assert await names(it) == ["default/comes", "default/stays"]

    virtual_clock.run(main())


def test_a_relist_brings_what_others_wrote_before_it_even_while_watches_lag() -> None:
    async def main() -> None:
        async with bench() as it:
            informer = it.cache.informer(Secret, options(ONE, "default"))
            await it.cache.wait_synced()
            it.lag(5.0)
            put(it, "default", "s")
            await asyncio.sleep(1.0)
            assert await names(it) == []
            relisting = asyncio.create_task(it.cache.relist())
            await asyncio.sleep(1.0)
            assert not relisting.done()
            assert await names(it) == []  # the old contents, meanwhile
            await relisting
            assert await names(it) == ["default/s"]
            assert all(part.lists == 2 for part in informer.parts)

    virtual_clock.run(main())


def test_a_list_that_was_begun_before_the_call_does_not_count_as_the_new_one() -> None:
    async def main() -> None:
        async with bench() as it:
            await it.cache.wait_synced()
            for turns in range(60):
                relisting = asyncio.create_task(it.cache.relist())
                for _ in range(turns):
                    await asyncio.sleep(0)  # to every point of a list, its last tick included
                it.transport.gate.clear()
                name = f"m{turns}"
                it.put(name)
                it.transport.gate.set()
                await it.cache.relist()
                assert f"default/{name}" in it.maps.store
                await relisting

    virtual_clock.run(main())


def test_any_number_of_callers_may_want_a_new_list_at_once() -> None:
    async def main() -> None:
        async with bench() as it:
            await it.cache.wait_synced()
            first = asyncio.create_task(it.cache.relist())
            await asyncio.sleep(0)
            await asyncio.gather(first, *(it.cache.relist() for _ in range(3)))
            assert it.maps.parts[0].lists >= 2

    virtual_clock.run(main())


def test_nobody_waits_for_ever_for_what_was_taken_out_meanwhile() -> None:
    async def main() -> None:
        async with bench() as it:
            informer = it.cache.informer(Secret, options(ONE, TWO))
            await it.cache.wait_synced()
            it.transport.gate.clear()
            relisting = asyncio.create_task(it.cache.relist())
            await asyncio.sleep(1.0)
            await informer.set_namespaces([])
            await it.cache.remove_informer(ConfigMap)
            it.transport.gate.set()
            async with asyncio.timeout(10.0):
                await relisting
                it.transport.gate.clear()
                unsynced = it.cache.informer(ConfigMap)
                waiting = asyncio.create_task(it.cache.wait_synced())
                await asyncio.sleep(0.1)
                assert not unsynced.synced
                await it.cache.remove_informer(ConfigMap)
                await waiting

    virtual_clock.run(main())


def test_the_second_informer_of_a_kind_is_read_from_once_the_first_has_gone() -> None:
    async def main() -> None:
        async with bench() as it:
            put(it, "default", "s")
            it.cache.informer(Secret, options("default"))
            rest = it.cache.informer(Secret, options())
            await it.cache.wait_synced()
            await it.cache.remove_informer(Secret, options("default"))
            assert await names(it) == ["default/s"]  # live
            assert it.cache.informer(Secret) is rest
            await it.client.get(Secret, ObjectKey("s", "default"))
            assert it.gets() == 0

    virtual_clock.run(main())


def test_handlers_of_the_wrong_sort_are_refused_or_reported() -> None:
    async def main() -> None:
        async with bench() as it:

            async def slow(event: InformerEvent[ConfigMap]) -> None:
                raise AssertionError

            with pytest.raises(TypeError, match="add_handler cannot await it, subscribe can"):
                it.maps.add_handler(slow)  # type: ignore[arg-type]
            it.maps.subscribe(lambda event: None)  # type: ignore[arg-type,return-value]
            it.put("a")
            await asyncio.sleep(0.1)
            assert it.maps.handler_errors == 1

    virtual_clock.run(main())


def test_a_slow_handler_holds_up_neither_the_store_nor_others_and_is_synced_on_its_own() -> None:
    async def main() -> None:
        async with bench() as it:
            for name in ("a", "b", "c"):
                put(it, "default", name)
            informer = it.cache.informer(Secret)
            gate, told = asyncio.Event(), []

            async def slow(event: InformerEvent[Secret]) -> None:
                await gate.wait()
                told.append((event.change.type, event.key.name))

            quick: list[str] = []
            registration = informer.subscribe(slow)
            other = informer.add_handler(lambda event: quick.append(event.key.name))
            await informer.wait_synced()
            assert other.synced
            assert not registration.synced
            for _ in range(10):
                it.api.call(
                    "PATCH",
                    "/api/v1/namespaces/default/secrets/c",
                    {"metadata": {"labels": {"v": str(it.api.store.version)}}},
                    content_type="application/merge-patch+json",
                )
            await asyncio.sleep(0.1)
            assert quick == ["a", "b", "c", *["c"] * 10]
            assert registration.backlog == informer.backlog == 2
            metric = it.registry.get_sample_value("controller_informer_handler_backlog", {"kind": "Secret"})
            assert metric == 2
            gate.set()
            await registration.wait_synced()
            assert told == [("added", "a"), ("added", "b"), ("added", "c")]
            registration.remove()
            put(it, "default", "unheard")
            await asyncio.sleep(0.1)
            assert len(told) == 3

    virtual_clock.run(main())


def test_a_slow_handler_that_comes_late_hears_of_everything_once() -> None:
    async def main() -> None:
        async with bench() as it:
            put(it, "default", "a")
            informer = it.cache.informer(Secret)
            await informer.wait_synced()
            told: list[tuple[str, bool]] = []

            async def slow(event: InformerEvent[Secret]) -> None:
                told.append((event.key.name, event.initial))

            registration = informer.subscribe(slow)
            assert not registration.synced
            put(it, "default", "b")
            await registration.wait_synced()
            await asyncio.sleep(0.1)
            assert told == [("a", True), ("b", False)]

    virtual_clock.run(main())
