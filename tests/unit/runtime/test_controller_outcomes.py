"""Controller: what follows from each outcome of a reconcile, and how many run at once."""

from __future__ import annotations

import asyncio
import itertools
import logging
from datetime import timedelta
from typing import cast

import pytest

from kaito.client import CacheNotSynced, Conflict, TransportError
from kaito.runtime import DONE, Result, TerminalError
from kaito.runtime.outcomes import OUTAGE_CAP_S
from kaito.testing import virtual_clock
from tests.unit.runtime.widgets import Recording, Widget, bench, fails, running


def test_coming_back_after_a_time_is_an_outcome_and_resets_the_failures() -> None:
    async def step(_: Widget) -> Result:
        return Result(requeue_after=timedelta(seconds=30))

    async def main() -> None:
        reconciler = Recording(step)
        it = bench(reconciler)
        async with running(it):
            it.put("a")
            await asyncio.sleep(95.0)
            times = [time for time, _, _ in reconciler.seen]
            assert [round(after - before) for before, after in itertools.pairwise(times)] == [30, 30, 30]
            assert it.outcomes() == {"requeue_after": 4}

    virtual_clock.run(main())


def test_a_change_comes_before_the_time_and_replaces_it() -> None:
    async def step(widget: Widget) -> Result:
        return Result(requeue_after=timedelta(seconds=30)) if widget.spec.size == 0 else DONE

    async def main() -> None:
        reconciler = Recording(step)
        it = bench(reconciler)
        async with running(it):
            it.put("a")
            await asyncio.sleep(10.0)
            it.change("a", size=1)
            await asyncio.sleep(60.0)
            assert [size for _, _, size in reconciler.seen] == [0, 1]

    virtual_clock.run(main())


@pytest.mark.parametrize(
    "error", [RuntimeError("oops"), Conflict("changed", status=409), TransportError("x", sent=True)]
)
def test_failures_are_tried_again_with_growing_delays_until_they_end(error: Exception) -> None:
    async def main() -> None:
        reconciler = Recording(fails(5, error))
        it = bench(reconciler)
        async with running(it):
            it.put("a")
            await asyncio.sleep(10.0)
            times = [time for time, _, _ in reconciler.seen]
            waits = [after - before for before, after in itertools.pairwise(times)]
            assert len(waits) == 5
            for number, wait_s in enumerate(waits):
                assert 0.005 * 2**number <= wait_s <= 0.0056 * 2**number + 0.001
            assert it.outcomes() == {"error": 5, "success": 1}
            assert it.count("controller_runtime_reconcile_errors_total") == 5
            unexpected = 5 if isinstance(error, RuntimeError) else 0
            assert it.count("controller_runtime_reconcile_panics_total") == unexpected

    virtual_clock.run(main())


@pytest.mark.parametrize("error", [CacheNotSynced("behind"), TransportError("refused", sent=False)])
def test_what_says_nothing_about_the_object_is_tried_every_few_seconds_however_long_it_lasts(error: Exception) -> None:
    async def main() -> None:
        reconciler = Recording(fails(40, error))
        it = bench(reconciler)
        async with running(it):
            it.put("a")
            await asyncio.sleep(300.0)
            times = [time for time, _, _ in reconciler.seen]
            waits = [after - before for before, after in itertools.pairwise(times)]
            assert len(waits) == 40
            assert max(waits) < 1.2 * OUTAGE_CAP_S

    virtual_clock.run(main())


def test_after_a_success_the_next_failure_waits_as_little_as_the_first() -> None:
    outcomes = [True] * 8 + [False] + [True, False]

    async def step(_: Widget) -> Result:
        if outcomes.pop(0):
            raise RuntimeError("on purpose")
        return DONE

    async def main() -> None:
        reconciler = Recording(step)
        it = bench(reconciler)
        async with running(it):
            it.put("a")
            await asyncio.sleep(10.0)
            it.change("a", size=1)
            await asyncio.sleep(10.0)
            (failed, _, _), (again, _, _) = reconciler.seen[-2:]
            assert again - failed < 0.01

    virtual_clock.run(main())


def test_a_wait_that_the_server_asked_for_is_kept() -> None:
    error = Conflict("later", status=409, retry_after_s=20.0)

    async def main() -> None:
        reconciler = Recording(fails(1, error))
        it = bench(reconciler)
        async with running(it):
            it.put("a")
            await asyncio.sleep(30.0)
            (first, _, _), (second, _, _) = reconciler.seen
            assert second - first == pytest.approx(20.0, abs=0.1)

    virtual_clock.run(main())


def test_a_terminal_error_is_not_tried_again_until_something_changes() -> None:
    async def main() -> None:
        reconciler = Recording(fails(1, TerminalError("no such preset")))
        it = bench(reconciler)
        async with running(it):
            it.put("a")
            await asyncio.sleep(1000.0)
            assert reconciler.names == ["a"]
            assert it.outcomes() == {"error": 1}
            assert it.count("controller_runtime_terminal_reconcile_errors_total") == 1
            it.change("a", size=1)
            await asyncio.sleep(0.1)
            assert reconciler.names == ["a", "a"]

    virtual_clock.run(main())


def test_a_reconciler_that_forgets_to_return_harms_only_itself(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async def step(widget: Widget) -> Result:
            return cast("Result", None) if widget.metadata.name == "bad" else DONE

        reconciler = Recording(step)
        it = bench(reconciler)
        async with running(it):
            it.put("bad")
            it.put("good")
            await asyncio.sleep(1.0)
            assert "good" in reconciler.names
            assert reconciler.names.count("bad") > 3

    with caplog.at_level(logging.ERROR):
        virtual_clock.run(main())
    assert "Recording returned None: return DONE, or another Result" in caplog.text


def test_a_cancellation_that_was_not_meant_for_the_worker_does_not_cost_the_worker() -> None:
    async def main() -> None:
        async def never() -> None:
            await asyncio.get_running_loop().create_future()

        calls = 0

        async def step(_: Widget) -> Result:
            nonlocal calls
            calls += 1
            if calls == 1:
                inner = asyncio.create_task(never())
                asyncio.get_running_loop().call_later(0.1, inner.cancel)
                await inner
            return DONE

        reconciler = Recording(step)
        it = bench(reconciler)
        async with running(it):
            it.put("a")
            await asyncio.sleep(1.0)
            it.put("b")
            await asyncio.sleep(1.0)
            assert reconciler.names == ["a", "a", "b"]
            assert it.outcomes() == {"error": 1, "success": 2}

    virtual_clock.run(main())


def test_many_changes_during_a_reconcile_make_one_more_and_one_key_is_never_worked_on_twice_at_once() -> None:
    async def step(_: Widget) -> Result:
        await asyncio.sleep(5.0)
        return DONE

    async def main() -> None:
        reconciler = Recording(step)
        it = bench(reconciler, concurrency=4)
        async with running(it):
            it.put("a")
            await asyncio.sleep(1.0)
            for size in range(1, 100):
                it.change("a", size=size)
            await asyncio.sleep(30.0)
            assert [size for _, _, size in reconciler.seen] == [0, 99]

    virtual_clock.run(main())


def test_no_more_keys_are_worked_on_at_once_than_allowed_and_no_fewer() -> None:
    async def step(_: Widget) -> Result:
        await asyncio.sleep(1.0)
        return DONE

    async def main() -> None:
        reconciler = Recording(step)
        it = bench(reconciler, concurrency=3)
        async with running(it):
            for number in range(10):
                it.put(f"w{number}")
            await asyncio.sleep(0.5)
            assert it.count("controller_runtime_active_workers") == 3
            assert it.count("controller_runtime_max_concurrent_reconciles") == 3
            await asyncio.sleep(10.0)
            assert reconciler.most == 3
            assert sorted(reconciler.names) == [f"w{number}" for number in range(10)]
            assert it.count("controller_runtime_active_workers") == 0

    virtual_clock.run(main())


def test_live_events_overtake_the_first_list() -> None:
    async def step(_: Widget) -> Result:
        await asyncio.sleep(1.0)
        return DONE

    async def main() -> None:
        reconciler = Recording(step)
        it = bench(reconciler)
        for number in range(5):
            it.put(f"old{number}")
        async with running(it):
            it.put("new")
            await asyncio.sleep(10.0)
            assert reconciler.names.index("new") <= 2

    virtual_clock.run(main())


def test_every_line_logged_in_a_reconcile_has_its_controller_key_and_id(caplog: pytest.LogCaptureFixture) -> None:
    from kaito.runtime.logs import record_fields

    fields: list[dict[str, object]] = []

    async def step(_: Widget) -> Result:
        record = logging.LogRecord("x", logging.INFO, "f", 1, "m", (), None)
        fields.append(record_fields(record))
        return DONE

    async def main() -> None:
        it = bench(Recording(step))
        async with running(it):
            it.put("a")
            it.put("b")
            await asyncio.sleep(0.1)

    virtual_clock.run(main())
    assert [(each["controller"], each["key"]) for each in fields] == [("widget", "default/a"), ("widget", "default/b")]
    assert len({str(each["reconcile_id"]) for each in fields}) == 2
