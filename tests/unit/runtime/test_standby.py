"""Standby: what the queue of a controller holds that has waited for long, and what is told of it once it works."""

from __future__ import annotations

import asyncio

import pytest

from kaito.runtime.standby import FORGET_AFTER_S, LOOK_EVERY_S, SPARE
from kaito.testing import virtual_clock
from tests.unit.runtime.widgets import BASE, Bench, Recording, bench


class Turn:
    """Leave to work, when the test gives it; and a controller that waits for that."""

    def __init__(self, it: Bench) -> None:
        self.come = asyncio.Event()
        self.caches = asyncio.create_task(it.manager.cache.run())
        self.controller = asyncio.create_task(it.controller.run(it.manager, self._wait))

    async def _wait(self) -> None:
        await self.come.wait()

    async def end(self) -> None:
        for task in (self.controller, self.caches):
            task.cancel()
        await asyncio.wait([self.controller, self.caches])


def test_objects_that_came_and_went_are_forgotten_and_those_that_are_there_or_just_went_are_not() -> None:
    async def main() -> None:
        reconciler = Recording()
        it = bench(reconciler)
        it.put("stays")
        turn = Turn(it)
        await asyncio.sleep(1.0)
        for number in range(SPARE + 1):
            it.put(f"job-{number}")
            it.api.call("DELETE", f"{BASE}/job-{number}")
        await asyncio.sleep(FORGET_AFTER_S - LOOK_EVERY_S)
        it.put("late")
        it.api.call("DELETE", f"{BASE}/late")
        await asyncio.sleep(1.0)
        assert len(it.controller.queue) == SPARE + 3
        await asyncio.sleep(2 * LOOK_EVERY_S)
        assert sorted(each.key.name for each in it.controller.queue.snapshot().ready) == ["late", "stays"]
        await turn.end()

    virtual_clock.run(main())


def test_what_waited_before_it_was_its_turn_counts_as_waiting_from_then_on() -> None:
    async def main() -> None:
        it = bench(Recording())
        turn = Turn(it)
        await asyncio.sleep(1.0)
        it.put("a")
        await asyncio.sleep(12 * 3600.0)
        turn.come.set()
        await asyncio.sleep(1.0)
        assert it.count("controller_event_to_reconcile_seconds_count") == 1
        assert it.count("controller_event_to_reconcile_seconds_sum") == pytest.approx(0.0, abs=1.0)
        waited = it.manager.registry.get_sample_value(
            "workqueue_queue_duration_seconds_sum", {"name": "widget", "controller": "widget"}
        )
        assert waited == pytest.approx(0.0, abs=1.0)
        await turn.end()

    virtual_clock.run(main())
