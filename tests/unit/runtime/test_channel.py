"""Channel: events from elsewhere reach each controller that uses it, with back-pressure, and from other threads."""

from __future__ import annotations

import asyncio
import threading
from typing import Any, cast

import pytest

from kaito.kube.object_key import ObjectKey
from kaito.runtime import DONE, Channel, Controller, Result
from kaito.testing import virtual_clock
from tests.unit.runtime.test_worker import working
from tests.unit.runtime.widgets import Bench, Recording, Widget, bench, running


class Keys:
    """Writes down the keys that it is given."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    async def reconcile_key(self, key: ObjectKey) -> Result:
        self.seen.append(key.name)
        return DONE


def by_keys(channel: Channel[Any]) -> tuple[Bench, Keys]:
    keys = Keys()
    return bench(keys, channels=[channel]), keys


def test_a_key_or_an_object_that_is_put_is_reconciled() -> None:
    async def main() -> None:
        channel: Channel[ObjectKey | Widget] = Channel()
        reconciler = Recording()
        it = bench(reconciler, channels=[channel])
        it.put("a")
        async with running(it):
            reconciler.seen.clear()
            await channel.put(ObjectKey("a", "default"))
            await asyncio.sleep(0.1)
            await channel.put(await it.manager.client.get(Widget, ObjectKey("a", "default")))
            await asyncio.sleep(0.1)
            assert reconciler.names == ["a", "a"]

    virtual_clock.run(main())


def test_a_map_makes_keys_of_whatever_events_and_is_tried_again_when_it_fails() -> None:
    failures = 2

    async def concerned(event: dict[str, str]) -> list[ObjectKey]:
        nonlocal failures
        await asyncio.sleep(0.01)
        failures -= 1
        if failures >= 0:
            raise ConnectionError("away")
        return [ObjectKey(event["name"])]

    async def main() -> None:
        channel: Channel[dict[str, str]] = Channel(concerned)
        it, keys = by_keys(channel)
        async with running(it):
            for name in ("a", "b", "c"):
                await channel.put({"name": name})
            await asyncio.sleep(5.0)
            assert sorted(keys.seen) == ["a", "b", "c"]
            assert it.count("controller_map_errors_total", kind="channel") == 2

    virtual_clock.run(main())


def test_who_puts_waits_while_maps_do_not_keep_up_and_nothing_is_lost() -> None:
    open_ = asyncio.Event()

    async def concerned(event: int) -> list[ObjectKey]:
        await open_.wait()
        return [ObjectKey(f"w{event}")]

    async def main() -> None:
        channel: Channel[int] = Channel(concerned, capacity=10)
        it, keys = by_keys(channel)
        put = 0

        async def producer() -> None:
            nonlocal put
            for number in range(100):
                await channel.put(number)
                put += 1

        async with running(it):
            producing = asyncio.create_task(producer())
            await asyncio.sleep(1.0)
            assert 10 <= put <= 21
            open_.set()
            await producing
            await asyncio.sleep(1.0)
            assert sorted(keys.seen) == sorted(f"w{number}" for number in range(100))

    virtual_clock.run(main())


def test_each_running_controller_gets_each_event_and_one_that_stops_holds_nobody_up() -> None:
    async def main() -> None:
        channel: Channel[Any] = Channel(lambda name: [ObjectKey(name)], capacity=1)
        it, keys = by_keys(channel)
        others = Keys()
        it.manager.add(Controller(Widget, others, name="others", channels=[channel]))
        async with running(it):
            await channel.put("a")
            await asyncio.sleep(0.1)
            await it.manager.remove("others")
            for name in ("b", "c"):
                await channel.put(name)
            await asyncio.sleep(0.1)
            assert (keys.seen, others.seen) == (["a", "b", "c"], ["a"])

    virtual_clock.run(main())


def test_who_waits_for_room_at_a_controller_that_stops_is_let_go() -> None:
    async def stuck(_: str) -> list[ObjectKey]:
        await asyncio.get_running_loop().create_future()
        return []

    async def main() -> None:
        channel: Channel[str] = Channel(stuck, capacity=1)
        it, _ = by_keys(channel)

        async def producer() -> None:
            for number in range(10):
                await channel.put(f"w{number}")

        async with working(it) as task:
            producing = asyncio.create_task(producer())
            await asyncio.sleep(1.0)
            assert not producing.done()
            task.cancel()
            await asyncio.sleep(1.0)
            assert not producing.done()  # nobody runs: it waits for somebody
            producing.cancel()
            await asyncio.wait([producing])

    virtual_clock.run(main())


def test_what_is_put_before_anybody_runs_waits_for_the_first() -> None:
    async def main() -> None:
        channel: Channel[ObjectKey] = Channel()
        putting = asyncio.create_task(channel.put(ObjectKey("a")))
        await asyncio.sleep(1.0)
        assert not putting.done()
        it, keys = by_keys(channel)
        async with running(it):
            await putting
            await asyncio.sleep(0.1)
            assert keys.seen == ["a"]

    virtual_clock.run(main())


async def test_another_thread_puts_and_blocks_until_it_is_taken() -> None:
    channel: Channel[ObjectKey] = Channel()
    with pytest.raises(RuntimeError, match="no controller that uses the channel runs"):
        channel.put_from_thread(ObjectKey("early"))
    feed = channel.open()
    with pytest.raises(RuntimeError, match=r"await put\(\) there"):
        channel.put_from_thread(ObjectKey("here"))
    thread = threading.Thread(target=channel.put_from_thread, args=(ObjectKey("a"),))
    thread.start()
    async with asyncio.timeout(5.0):
        assert await feed.get() == ObjectKey("a")
    await asyncio.to_thread(thread.join)
    feed.close()
    with pytest.raises(TimeoutError):
        await asyncio.to_thread(channel.put_from_thread, ObjectKey("late"), timeout_s=0.01)


def test_what_is_no_key_of_a_channel_without_a_map_is_named(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        channel: Channel[Any] = Channel()
        it, keys = by_keys(channel)
        async with running(it):
            await channel.put("a")
            await channel.put(ObjectKey("b"))
            await asyncio.sleep(0.1)
            assert keys.seen == ["b"]

    virtual_clock.run(main())
    errors = [str(vars(record).get("error")) for record in caplog.records]
    assert "Channel: 'a' is neither an ObjectKey nor an object; give the channel a map" in errors
    with pytest.raises(ValueError, match="capacity is 0; at least 1"):
        Channel(cast("Any", None), capacity=0)
