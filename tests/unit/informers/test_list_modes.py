"""The ways to list: by a stream, whole, in pages; each ends in the same store and is followed by the same watch."""

from __future__ import annotations

import asyncio

import pytest

from kaito.informers.lister import SLICE
from kaito.informers.options import ListMode
from kaito.testing import virtual_clock
from kaito.testing.fake_api import Drop, FakeApi, Fault, throttled, version_expired
from tests.unit.informers.test_reflector import bench

MODES: list[ListMode] = ["stream", "whole", "pages"]


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_lists_watches_and_lists_anew_when_its_position_has_expired(mode: ListMode) -> None:
    async def main() -> None:
        it = bench(list_mode=mode)
        it.put(*(f"m{number:04}" for number in range(3 * SLICE + 7)))
        async with it.running():
            it.touch("m0001")
            it.drop("m0002")
            await asyncio.sleep(1.0)
            it.assert_in_step()
            it.api.faults.add(Fault(version_expired(), verb="watch", nth=1))
            await asyncio.sleep(300.0)
            it.put("z")
            await asyncio.sleep(10.0)
            it.assert_in_step()
            assert it.seen.lists == it.reflector.lists[mode] == 2
            assert sum(it.reflector.lists.values()) == 2
            assert it.reflector.restarts["expired"] == 1

    virtual_clock.run(main())


def test_a_whole_list_is_one_request_without_limit_and_a_consistent_read() -> None:
    async def main() -> None:
        it = bench(list_mode="whole")
        it.put(*(f"m{number:04}" for number in range(600)))
        position = it.api.store.version
        async with it.running():
            assert it.asked("list") == [{}]
            assert it.asked("watch")[0]["resourceVersion"] == str(position)

    virtual_clock.run(main())


@pytest.mark.parametrize("mode", ["whole", "pages"])
def test_a_list_that_fails_is_tried_again_and_publishes_nothing_meanwhile(mode: ListMode) -> None:
    async def main() -> None:
        it = bench(list_mode=mode)
        it.put("a")
        it.api.faults.add(Fault(throttled(), verb="list"))
        it.api.faults.add(Fault(Drop(), verb="list", nth=2))
        async with it.running():
            assert len(it.store) == 0
            await asyncio.sleep(10.0)
            it.assert_in_step()
            assert it.seen.lists == 1
            assert it.reflector.restarts == {"throttled": 1, "broken": 1}

    virtual_clock.run(main())


def test_a_server_without_streaming_lists_is_counted_as_listed_in_pages() -> None:
    async def main() -> None:
        it = bench(FakeApi(watch_list=False))
        it.put("a")
        async with it.running():
            it.assert_in_step()
            assert it.reflector.lists == {"stream": 1, "pages": 1}

    virtual_clock.run(main())
