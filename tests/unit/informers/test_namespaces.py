"""Informers of some namespaces: what they hold, how that changes while they run, and what reads make of it."""

from __future__ import annotations

import asyncio

import pytest

from kaito.client import CacheNotSynced
from kaito.kube.core_v1 import Namespace, Secret
from kaito.kube.object_key import ObjectKey
from kaito.testing import virtual_clock
from kaito.testing.fake_api import Fault, Refuse
from tests.unit.informers.caching import bench
from tests.unit.informers.scoped import ONE, TWO, names, options, put


def test_only_the_named_namespaces_are_listed_watched_and_read_from_memory() -> None:
    async def main() -> None:
        async with bench() as it:
            for namespace in (ONE, TWO, "default"):
                put(it, namespace, "s")
            informer = it.cache.informer(Secret, options(ONE, TWO))
            await informer.wait_synced()
            assert await names(it) == [f"{TWO}/s", f"{ONE}/s"]
            assert await names(it, ONE) == [f"{ONE}/s"]
            assert it.gets() == 0
            assert it.cache.serves(Secret, ONE)
            assert not it.cache.serves(Secret, "default")
            await it.client.get(Secret, ObjectKey("s", ONE))
            assert it.gets() == 0
            await it.client.get(Secret, ObjectKey("s", "default"))  # not cached: live
            assert it.gets() == 1
            assert len(informer.store) == 2
            assert "kube-system/s" in informer.store
            assert informer.store.bytes > 0

    virtual_clock.run(main())


def test_it_is_synced_when_every_namespace_is() -> None:
    async def main() -> None:
        async with bench() as it:
            it.api.faults.add(Fault(Refuse(403, "Forbidden", "no rights there"), verb="watch", resource="secrets"))
            informer = it.cache.informer(Secret, options(ONE, TWO))
            await asyncio.sleep(0.1)
            assert not informer.synced
            assert "no rights there" in str(informer.state.error)
            with pytest.raises(CacheNotSynced, match="no rights there"):
                await it.client.list(Secret)
            await informer.wait_synced()

    virtual_clock.run(main())


def test_namespaces_come_and_go_while_it_runs_and_handlers_hear_of_it() -> None:
    async def main() -> None:
        async with bench() as it:
            for namespace in (ONE, TWO):
                put(it, namespace, "s")
            informer = it.cache.informer(Secret, options(ONE))
            told: list[tuple[str, str]] = []
            informer.add_handler(lambda event: told.append((event.change.type, event.change.key)))
            it.cache.add_index(Secret, "name", lambda secret: [secret.metadata.name])
            await informer.wait_synced()

            await informer.set_namespaces([ONE, TWO])
            assert not informer.synced
            await informer.wait_synced()
            assert informer.namespaces == frozenset({ONE, TWO})
            assert [obj.metadata.namespace for obj in await it.cache.by_index(Secret, "name", "s")] == [TWO, ONE]

            await informer.set_namespaces([TWO])
            assert informer.synced
            assert await names(it) == [f"{TWO}/s"]
            put(it, ONE, "unheard")
            await asyncio.sleep(0.1)
            assert told == [("added", f"{ONE}/s"), ("added", f"{TWO}/s"), ("deleted", f"{ONE}/s")]
            assert not it.cache.serves(Secret, ONE)

            await informer.set_namespaces([])
            assert informer.synced
            assert await names(it) == []
            with pytest.raises(ValueError, match="holds all namespaces"):
                await it.maps.set_namespaces([ONE])

    virtual_clock.run(main())


def test_an_own_write_is_waited_for_in_its_own_namespace_and_only_where_it_is_cached() -> None:
    async def main() -> None:
        async with bench() as it:
            informer = it.cache.informer(Secret, options(ONE, TWO))
            await informer.wait_synced()
            for namespace in (ONE, "default"):
                put(it, namespace, "s")
            await asyncio.sleep(0.1)
            it.lag(1.0)
            for namespace in (ONE, "default"):
                await it.client.patch(Secret, ObjectKey("s", namespace), {"metadata": {"labels": {"x": "1"}}})
            began = asyncio.get_running_loop().time()
            assert await names(it, TWO) == []
            assert asyncio.get_running_loop().time() == began
            assert (await it.client.get(Secret, ObjectKey("s", ONE))).metadata.labels == {"x": "1"}
            assert asyncio.get_running_loop().time() > began + 0.5
            await asyncio.sleep(1.0)
            assert it.floor_count == 0

    virtual_clock.run(main())


def test_an_own_write_in_a_namespace_that_went_makes_no_read_wait() -> None:
    async def main() -> None:
        async with bench() as it:
            informer = it.cache.informer(Secret, options(ONE, TWO))
            await informer.wait_synced()
            put(it, ONE, "s")
            it.lag(30.0)
            await it.client.patch(Secret, ObjectKey("s", ONE), {"metadata": {"labels": {"x": "1"}}})
            await informer.set_namespaces([TWO])
            assert await names(it) == []
            assert it.floor_count == 0

    virtual_clock.run(main())


def test_changes_of_the_namespaces_at_once_leave_what_the_last_of_them_wanted() -> None:
    async def main() -> None:
        async with bench() as it:
            put(it, ONE, "s")
            informer = it.cache.informer(Secret, options(ONE, TWO))
            await informer.wait_synced()
            changes = [[TWO], [ONE, TWO], [TWO], [TWO], [ONE, TWO]]
            await asyncio.gather(*(informer.set_namespaces(change) for change in changes))
            await informer.wait_synced()
            assert informer.namespaces == frozenset({ONE, TWO})
            assert (await it.client.get(Secret, ObjectKey("s", ONE))).metadata.name == "s"
            assert it.gets() == 0

    virtual_clock.run(main())


def test_a_cancelled_change_of_the_namespaces_is_made_all_the_same() -> None:
    async def main() -> None:
        async with bench() as it:
            put(it, ONE, "s")
            informer = it.cache.informer(Secret, options(ONE, TWO))
            told: list[tuple[str, str]] = []
            informer.add_handler(lambda event: told.append((event.change.type, event.change.key)))
            await informer.wait_synced()
            changing = asyncio.create_task(informer.set_namespaces([TWO]))
            await asyncio.sleep(0)
            changing.cancel()
            await asyncio.wait([changing])
            assert told == [("added", f"{ONE}/s"), ("deleted", f"{ONE}/s")]
            assert await names(it) == []

    virtual_clock.run(main())


def test_a_namespace_that_cannot_be_listed_costs_the_others_nothing() -> None:
    async def main() -> None:
        async with bench() as it:
            put(it, ONE, "s")
            informer = it.cache.informer(Secret, options(ONE))
            await informer.wait_synced()
            it.api.faults.add(Fault(Refuse(403, "Forbidden", "no"), verb="watch", resource="secrets", times=None))
            await informer.set_namespaces([ONE, TWO])
            await asyncio.sleep(10.0)
            assert not informer.synced
            await it.client.get(Secret, ObjectKey("s", ONE))
            assert it.gets() == 0
            assert await names(it, ONE) == [f"{ONE}/s"]
            with pytest.raises(CacheNotSynced, match="grant get, list and watch on secrets"):
                await names(it)

    virtual_clock.run(main())


def test_what_is_not_cached_is_read_live_through_the_cache_itself_too() -> None:
    async def main() -> None:
        async with bench() as it:
            for namespace in (ONE, "default"):
                put(it, namespace, "s")
            informer = it.cache.informer(Secret, options(ONE))
            await informer.wait_synced()
            assert (await it.cache.get(Secret, ObjectKey("s", "default"))).metadata.name == "s"
            assert len(await it.cache.list(Secret, namespace="default")) == 1
            assert len(await it.cache.list(Namespace)) == 4
            assert len(it.cache.informers()) == 3  # no watch was begun by a read
            with pytest.raises(TypeError, match="expected a set of names"):
                await informer.set_namespaces("default")

    virtual_clock.run(main())
