"""Hot loops: a key that is reconciled by its own doing is named once, with the likely reason; others are not."""

from __future__ import annotations

import asyncio
import itertools
from datetime import timedelta

import pytest

from kaito.runtime import DONE, Result, generation_changed
from kaito.runtime.hot_loop import HOT_RECONCILES
from kaito.testing import virtual_clock
from tests.unit.runtime.widgets import Bench, Recording, Widget, bench, running

MESSAGE = "hot loop: a key is reconciled again and again"


class Noting:
    """Writes into the object at each reconcile, as one would into its status."""

    def __init__(self, wait_s: float = 0.0) -> None:
        self.wait_s = wait_s
        self.it: Bench | None = None
        self.numbers = itertools.count()
        self.runs = 0

    async def reconcile(self, widget: Widget) -> Result:
        assert self.it is not None
        self.runs += 1
        await asyncio.sleep(self.wait_s)
        note = {"metadata": {"annotations": {"seen": str(next(self.numbers))}}}
        await self.it.manager.client.patch(Widget, widget.key, note)
        return DONE


def play(noting: Noting, seconds: float, **options: object) -> float:
    """Lets it work on one object, and returns how many hot loops were counted."""

    async def main() -> float:
        it = noting.it = bench(noting, **options)
        async with running(it):
            assert it.count("controller_hot_loops_total") == 0
            it.put("a")
            await asyncio.sleep(seconds)
            return it.count("controller_hot_loops_total")

    return virtual_clock.run(main())


def likely(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [str(vars(record)["likely"]) for record in caplog.records if record.getMessage() == MESSAGE]


def test_a_key_whose_reconciles_start_the_next_by_what_they_write_is_named_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    noting = Noting(wait_s=0.05)
    assert play(noting, 35.0) >= 3
    assert noting.runs > 3 * HOT_RECONCILES
    (why,) = likely(caplog)
    assert why.startswith("each reconcile writes (patch widgets.example.com default/a), and the event of that write")
    assert "where=generation_changed()" in why


def test_the_advice_helps(caplog: pytest.LogCaptureFixture) -> None:
    noting = Noting(wait_s=0.05)
    assert play(noting, 35.0, where=generation_changed()) == 0
    assert noting.runs == 1
    assert likely(caplog) == []


def test_writing_now_and_then_is_no_hot_loop(caplog: pytest.LogCaptureFixture) -> None:
    noting = Noting(wait_s=1.0)
    assert play(noting, 200.0) == 0
    assert noting.runs > 100
    assert likely(caplog) == []


@pytest.mark.parametrize(("after_s", "loops"), [(0.0, True), (0.05, True), (1.0, False)])
def test_a_key_that_asks_to_come_back_at_once_again_and_again_is_named(
    after_s: float, loops: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def step(_: Widget) -> Result:
        await asyncio.sleep(0.01)
        return Result(requeue_after=timedelta(seconds=after_s))

    async def main() -> float:
        it = bench(Recording(step))
        async with running(it):
            it.put("a")
            await asyncio.sleep(60.0)
            return it.count("controller_hot_loops_total")

    assert (virtual_clock.run(main()) > 0) is loops
    expected = "it asks to come back at once each time: give Result a longer requeue_after, or return DONE"
    assert likely(caplog) == ([expected] if loops else [])


def test_many_events_from_elsewhere_are_no_hot_loop(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        reconciler = Recording()
        it = bench(reconciler)
        async with running(it):
            it.put("a")
            for size in range(1, 500):
                it.change("a", size=size)
                await asyncio.sleep(0.01)
            assert len(reconciler.names) > 4 * HOT_RECONCILES
            assert it.count("controller_hot_loops_total") == 0

    virtual_clock.run(main())
    assert likely(caplog) == []
