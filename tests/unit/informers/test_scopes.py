"""Informers of some namespaces, or of some objects: what they hold, how that changes, and what reads make of it."""

from __future__ import annotations

import asyncio

import pytest

from kaito.client import CacheNotSynced, NotFound
from kaito.informers import InformerEvent, InformerOptions
from kaito.kube.core_v1 import ConfigMap, Namespace, Secret
from kaito.kube.object_key import ObjectKey
from kaito.testing import virtual_clock
from kaito.testing.fake_api import Fault, Refuse
from tests.unit.informers.caching import Bench, bench, config_map

ONE, TWO = "kube-system", "kube-public"


def put(it: Bench, namespace: str, name: str, **labels: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/secrets"
    it.api.call("POST", path, {"metadata": {"name": name, "labels": labels}, "stringData": {}})


def drop(it: Bench, namespace: str, name: str) -> None:
    it.api.call("DELETE", f"/api/v1/namespaces/{namespace}/secrets/{name}")


async def names(it: Bench, namespace: str | None = None, labels: str = "") -> list[str]:
    return [str(obj.key) for obj in await it.client.list(Secret, namespace=namespace, labels=labels)]


def options(*namespaces: str, labels: str = "", fields: str = "") -> InformerOptions:
    return InformerOptions(frozenset(namespaces) if namespaces else None, labels, fields)


# Namespaces.


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


# Selectors.


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


# Sharing.


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


# Stopping, starting, listing anew.


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


# Indexes.


def test_lists_are_narrowed_by_every_index_that_there_is() -> None:
    async def main() -> None:
        async with bench() as it:
            for number in range(4):
                it.put(f"m{number}", app=f"a{number % 2}", tier=f"t{number // 2}")
            it.cache.add_label_index(ConfigMap, "app", "tier")
            it.cache.add_label_index(ConfigMap, "app")  # twice is harmless
            it.cache.add_index(ConfigMap, "data.app", lambda found: [found.data["app"]])
            await asyncio.sleep(0.1)

            async def found(namespace: str | None = None, labels: str = "", fields: str = "") -> list[str]:
                objects = await it.client.list(ConfigMap, namespace=namespace, labels=labels, fields=fields)
                return [obj.metadata.name for obj in objects]

            assert await found(labels="app=a1") == ["m1", "m3"]
            assert await found(labels="app=a1,tier=t0") == ["m1"]
            assert await found(labels="app=a1,tier!=t0") == ["m3"]
            assert await found(labels="app=a1", fields="data.app=a0") == []
            assert await found(fields="data.app=a0,metadata.name=m2") == ["m2"]
            assert await found(fields="metadata.namespace=default,data.app==a0") == ["m0", "m2"]
            assert await found(fields="metadata.namespace=default", namespace="kube-system") == []
            with pytest.raises(ValueError, match="cannot be read from a cache; expected INDEX=VALUE"):
                await found(fields="data.app!=a0")
            with pytest.raises(ValueError, match=r"declare it with cache\.add_index\(ConfigMap, 'spec\.x'"):
                await found(fields="spec.x=1")
            with pytest.raises(ValueError, match=r"declare it with cache\.add_owner_index\(ConfigMap\)"):
                await it.cache.owned_by(ConfigMap, config_map())
            with pytest.raises(ValueError, match=r"index 'data\.app' of configmaps exists already"):
                it.cache.add_index(ConfigMap, "data.app", lambda found: [])

    virtual_clock.run(main())


def test_objects_are_found_by_their_controlling_owner() -> None:
    async def main() -> None:
        async with bench() as it:
            owner = await it.client.create(config_map("owner"))
            it.cache.add_owner_index(ConfigMap)
            it.cache.add_owner_index(ConfigMap)  # twice is harmless
            reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner.metadata.uid}
            for name, controller in (("mine", True), ("not-controlled", False)):
                metadata = {"name": name, "ownerReferences": [{**reference, "controller": controller}]}
                it.api.call("POST", "/api/v1/namespaces/default/configmaps", {"metadata": metadata})
            await asyncio.sleep(0.1)
            assert [obj.metadata.name for obj in await it.cache.owned_by(ConfigMap, owner)] == ["mine"]

    virtual_clock.run(main())
