"""Read your own writes: no cached read goes back behind what this process has written."""

from __future__ import annotations

import asyncio

import pytest

from kaito.client import CacheNotSynced, Conflict, NotFound, TransportError
from kaito.informers.floors import Floor
from kaito.kube.core_v1 import ConfigMap
from kaito.kube.meta_v1 import ObjectMeta
from kaito.kube.object_key import ObjectKey
from kaito.testing import virtual_clock
from kaito.testing.fake_api import CutWatch, Drop, Fault, Hang
from tests.unit.informers.caching import KEY, Widget, WidgetSpec, bench, config_map


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
            floors = it.cache._catch_up[ConfigMap].floors
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


# Writes that name no object.


def test_a_list_after_a_delete_of_many_does_not_show_them() -> None:
    async def main() -> None:
        async with bench() as it:
            for name in ("a", "b"):
                it.put(name, app="web")
            it.put("c")
            await asyncio.sleep(0.1)
            it.lag(1.0)
            await it.client.delete_collection(ConfigMap, namespace="default", labels="app=web")
            assert [found.metadata.name for found in await it.client.list(ConfigMap)] == ["c"]
            with pytest.raises(NotFound):
                await it.client.get(ConfigMap, KEY)
            assert it.maps.parts[0].lists == 2  # one list served both reads

    virtual_clock.run(main())


def test_an_object_of_a_generated_name_whose_answer_was_lost_is_read_back() -> None:
    async def main() -> None:
        async with bench() as it:
            it.api.faults.add(Fault(Drop(handled=True), verb="create"))
            it.lag(1.0)
            generated = ConfigMap(metadata=ObjectMeta(generate_name="m-", namespace="default"))
            with pytest.raises(TransportError):
                await it.client.create(generated)
            assert len(await it.client.list(ConfigMap)) == 1

    virtual_clock.run(main())


def test_a_list_that_takes_longer_than_a_read_waits_is_not_begun_again_by_the_next_read() -> None:
    async def main() -> None:
        async with bench(read_wait_s=0.5) as it:
            it.put("a")
            await asyncio.sleep(0.1)
            await it.client.delete_collection(ConfigMap, namespace="default")
            it.lag(1.2)
            for _ in range(2):
                with pytest.raises(CacheNotSynced, match="listed anew after a write of many"):
                    await it.client.list(ConfigMap)
            assert len(await it.client.list(ConfigMap)) == 0
            assert it.maps.parts[0].lists == 2
            assert it.maps.parts[0].reflector.begun == 2

    virtual_clock.run(main())
