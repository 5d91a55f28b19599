"""Workers: reconciles that take too long, that are cancelled for whatever reason, and that return nonsense."""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Any, cast

import pytest

from kaito.client import LeadershipLost
from kaito.kube.object_key import ObjectKey
from kaito.runtime import (
    DONE,
    LOW_PRIORITY,
    CancelReason,
    Controller,
    ErrorAction,
    ReconcileTimeout,
    Result,
    StrayCancellation,
    cancel_reason,
    default_error_policy,
    reconcile_id,
)
from kaito.testing import virtual_clock
from tests.unit.runtime.widgets import Bench, Recording, Step, Widget, bench, fails, running

TEN_S = timedelta(seconds=10)
A = ObjectKey("a", "default")


class Errors:
    """The usual policy, and what it was asked about."""

    def __init__(self) -> None:
        self.seen: list[Exception] = []

    def __call__(self, error: Exception) -> ErrorAction:
        self.seen.append(error)
        return default_error_policy(error)


@asynccontextmanager
async def working(it: Bench) -> AsyncIterator[asyncio.Task[None]]:
    """Runs caches and the controller without a manager's grace."""
    caches = asyncio.create_task(it.manager.cache.run())
    task = asyncio.create_task(it.controller.run(it.manager))
    await asyncio.sleep(1.0)
    try:
        yield task
    finally:
        for each in (task, caches):
            each.cancel()
            await asyncio.wait([each])
        assert asyncio.all_tasks() == {asyncio.current_task()}


async def for_ever() -> None:
    await asyncio.get_running_loop().create_future()


def first(step: Step, then: Step | None = None) -> Step:
    """Does one thing in the first reconcile of "a", and another (nothing) in all others."""
    done = False

    async def either(widget: Widget) -> Result:
        nonlocal done
        if widget.metadata.name == "a" and not done:
            done = True
            return await step(widget)
        return await then(widget) if then is not None else DONE

    return either


async def hang(_: Widget) -> Result:
    await for_ever()
    return DONE


def test_a_reconcile_that_takes_too_long_is_cancelled_counted_and_tried_again() -> None:
    async def main() -> None:
        errors = Errors()
        reconciler = Recording(first(hang))
        it = bench(reconciler, reconcile_timeout=TEN_S, on_error=errors)
        async with running(it):
            assert it.count("controller_runtime_reconcile_timeouts_total") == 0
            it.put("a")
            await asyncio.sleep(9.9)
            it.put("b")
            assert reconciler.names == ["a"]
            await asyncio.sleep(1.0)
            assert reconciler.names == ["a", "b", "a"]
            assert it.count("controller_runtime_reconcile_timeouts_total") == 1
            assert it.count("controller_runtime_active_workers") == 0
            assert it.outcomes() == {"error": 1, "success": 2}
            assert [type(error) for error in errors.seen] == [ReconcileTimeout]
            assert str(errors.seen[0]) == "it did not end within 10 s and was cancelled"

    virtual_clock.run(main())


def test_one_that_ignores_its_cancellation_frees_its_place_but_keeps_its_key_and_is_reported() -> None:
    async def stubborn(_: Widget) -> Result:
        for _number in range(10):
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(10.0)
        return Result(requeue_after=timedelta(days=1))

    async def main() -> None:
        reconciler = Recording(first(stubborn))
        it = bench(reconciler, reconcile_timeout=TEN_S)
        async with running(it):
            it.put("a")
            await asyncio.sleep(5.0)
            assert it.controller.stuck() == []
            it.change("a", size=1)
            it.put("b")
            await asyncio.sleep(25.0)
            assert reconciler.names == ["a", "b"]
            ((key, seconds),) = it.controller.stuck()
            assert (key, round(seconds)) == (A, 30)
            assert it.count("controller_runtime_active_workers") == 0
            assert it.count("controller_runtime_reconcile_timeouts_total") == 1
            await asyncio.sleep(75.0)
            assert reconciler.names == ["a", "b", "a"]
            assert it.controller.stuck() == []
            assert it.outcomes() == {"error": 1, "success": 2}

    virtual_clock.run(main())


def test_what_it_raises_after_its_time_is_what_counts() -> None:
    async def clean_up(_: Widget) -> Result:
        try:
            await for_ever()
        except asyncio.CancelledError:
            raise KeyError("found when cleaning up") from None
        return DONE

    async def main() -> None:
        errors = Errors()
        it = bench(Recording(first(clean_up)), reconcile_timeout=TEN_S, on_error=errors)
        async with running(it):
            it.put("a")
            await asyncio.sleep(20.0)
            assert [type(error) for error in errors.seen] == [KeyError]
            assert it.count("controller_runtime_reconcile_timeouts_total") == 1

    virtual_clock.run(main())


def test_each_of_many_that_hang_is_timed_out_in_its_own_time_and_without_a_limit_none_is() -> None:
    async def main() -> None:
        ended: list[float] = []

        async def step(_: Widget) -> Result:
            try:
                await for_ever()
            except asyncio.CancelledError:
                ended.append(asyncio.get_running_loop().time())
                raise
            return DONE

        it = bench(Recording(step), reconcile_timeout=TEN_S, concurrency=3)
        async with running(it):
            for number in range(3):
                it.put(f"w{number}")
                await asyncio.sleep(2.0)
            await asyncio.sleep(8.9)
            assert ended == pytest.approx([11.0, 13.0, 15.0], abs=0.1)
        unlimited = bench(Recording(hang), reconcile_timeout=None)
        async with working(unlimited):
            unlimited.put("a")
            await asyncio.sleep(10_000.0)
            assert unlimited.count("controller_runtime_active_workers") == 1

    virtual_clock.run(main())


def test_a_reconciler_can_tell_why_it_is_cancelled() -> None:
    async def main() -> None:
        reasons: list[CancelReason | None] = []

        async def inner() -> None:
            try:
                await for_ever()
            except asyncio.CancelledError:
                reasons.append(cancel_reason())
                raise

        async def step(_: Widget) -> Result:
            assert cancel_reason() is None
            await asyncio.create_task(inner())
            return DONE

        for reason in (None, CancelReason.LEADERSHIP_LOST):
            it = bench(Recording(step), reconcile_timeout=TEN_S)
            async with working(it):
                it.put("a")
                await asyncio.sleep(15.0)
                if reason is not None:
                    it.controller.stop_intake(reason)
        timeout, shutdown = CancelReason.TIMEOUT, CancelReason.SHUTDOWN
        assert reasons == [timeout, shutdown, timeout, CancelReason.LEADERSHIP_LOST]
        assert cancel_reason() is None

    virtual_clock.run(main())


class Losing:
    """Elections that are won at once and lost after a while."""

    def gate(self, _: Controller[Any]) -> None:
        return None

    async def run(self) -> None:
        await asyncio.sleep(5.0)
        raise LeadershipLost("another leads")

    async def release(self, _: str) -> None:
        return None

    def fault(self) -> None:
        return None


def test_a_reconciler_can_tell_that_it_is_cancelled_since_another_may_lead() -> None:
    async def main() -> None:
        reasons: list[CancelReason | None] = []

        async def step(_: Widget) -> Result:
            try:
                await for_ever()
            finally:
                reasons.append(cancel_reason())
            return DONE

        it = bench(Recording(step), leader_election=Losing())
        it.put("a")
        with pytest.raises(LeadershipLost):
            await it.manager.run()
        assert reasons == [CancelReason.LEADERSHIP_LOST]

    virtual_clock.run(main())


def test_something_inside_that_was_cancelled_is_a_failure_of_its_own_sort() -> None:
    async def main() -> None:
        async def step(_: Widget) -> Result:
            found = asyncio.create_task(for_ever())
            asyncio.get_running_loop().call_later(0.1, found.cancel)
            try:
                await found
            except asyncio.CancelledError:
                assert cancel_reason() is None
                raise
            return DONE

        errors = Errors()
        reconciler = Recording(first(step))
        it = bench(reconciler, on_error=errors)
        async with running(it):
            it.put("a")
            await asyncio.sleep(1.0)
            assert reconciler.names == ["a", "a"]
            assert [type(error) for error in errors.seen] == [StrayCancellation]
            assert isinstance(errors.seen[0].__cause__, asyncio.CancelledError)

    virtual_clock.run(main())


def test_a_reconciler_that_cancels_its_own_task_costs_nobody_a_worker() -> None:
    async def suicide(_: Widget) -> Result:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)
        return DONE

    async def main() -> None:
        reconciler = Recording(first(suicide))
        it = bench(reconciler)
        async with running(it):
            it.put("a")
            await asyncio.sleep(1.0)
            it.put("b")
            await asyncio.sleep(1.0)
            assert reconciler.names[-1] == "b"

    virtual_clock.run(main())


def test_one_that_ignores_it_holds_the_end_up_until_it_ends_and_further_cancellations_reach_it() -> None:
    async def main() -> None:
        swallowed = 0

        async def step(_: Widget) -> Result:
            nonlocal swallowed
            while swallowed < 3:
                try:
                    await for_ever()
                except asyncio.CancelledError:
                    swallowed += 1
            return DONE

        it = bench(Recording(step))
        async with working(it) as task:
            it.put("a")
            await asyncio.sleep(1.0)
            for number in range(1, 4):
                task.cancel()
                await asyncio.sleep(1.0)
                assert (swallowed, task.done()) == (number, number == 3)
            assert task.cancelled()

    virtual_clock.run(main())


def test_what_is_raised_and_no_exception_harms_its_own_key_only(caplog: pytest.LogCaptureFixture) -> None:
    class Panic(BaseException):
        """As libraries written in Rust raise."""

    async def step(widget: Widget) -> Result:
        if widget.metadata.name == "bad":
            raise Panic("at the disco")
        return DONE

    async def main() -> None:
        reconciler = Recording(step)
        it = bench(reconciler)
        async with running(it):
            it.put("bad")
            await asyncio.sleep(1.0)
            it.put("good")
            await asyncio.sleep(1.0)
            assert "good" in reconciler.names
            assert reconciler.names.count("bad") > 3
            assert it.count("controller_runtime_reconcile_panics_total") == reconciler.names.count("bad")

    virtual_clock.run(main())
    assert "Panic('at the disco'), which is no Exception, was raised" in caplog.text


@pytest.mark.parametrize("answer", [math.nan, -1.0, math.inf, None, ValueError("no delay")])
def test_a_rate_limiter_that_is_wrong_costs_neither_the_worker_nor_the_loop(
    answer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    class Wrong:
        def delay_s(self, _: ObjectKey) -> float:
            if isinstance(answer, Exception):
                raise answer
            return cast("float", answer)

        def forget(self, _: ObjectKey) -> None: ...

        def failures(self, _: ObjectKey) -> int:
            return 0

    async def main() -> None:
        reconciler = Recording(fails(5, RuntimeError("oops")))
        it = bench(reconciler, rate_limiter=Wrong())
        async with running(it):
            it.put("a")
            await asyncio.sleep(10.0)
            times = [time for time, _, _ in reconciler.seen]
            assert len(times) == 6
            assert all(later > before for before, later in itertools.pairwise(times))

    virtual_clock.run(main())
    assert "rate limiter failed" in caplog.text

    virtual_clock.run(main())


NONSENSE: list[tuple[Any, str]] = [
    (None, "Recording returned None: return DONE, or another Result"),
    ("done", "Recording returned 'done': return DONE"),
    (True, "Recording returned True"),
    (timedelta(seconds=1), "Recording returned datetime.timedelta(seconds=1)"),
]


@pytest.mark.parametrize(("answer", "message"), NONSENSE)
def test_nonsense_that_a_reconciler_returns_harms_its_own_key_only(
    answer: Any, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def step(widget: Widget) -> Result:
        return cast("Result", answer) if widget.metadata.name == "bad" else DONE

    async def main() -> None:
        reconciler = Recording(step)
        it = bench(reconciler)
        async with running(it):
            it.put("bad")
            it.put("good")
            await asyncio.sleep(1.0)
            assert reconciler.names.count("good") == 1
            assert reconciler.names.count("bad") > 3

    virtual_clock.run(main())
    assert any(message in str(vars(record).get("error")) for record in caplog.records)


def test_a_method_that_is_not_async_is_named(caplog: pytest.LogCaptureFixture) -> None:
    class Plain:
        def reconcile(self, _: Widget) -> Result:
            return DONE

    async def main() -> None:
        it = bench(Plain())
        async with running(it):
            it.put("a")
            await asyncio.sleep(1.0)
            assert "success" not in it.outcomes()

    virtual_clock.run(main())
    assert "declare its method with async def" in str(vars(caplog.records[-1]).get("error", caplog.text))


RESULTS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"requeue_after": 30}, TypeError, r"requeue_after is 30; give a timedelta, such as timedelta\(seconds=30\)"),
    (
        {"requeue_after": timedelta(seconds=-1)},
        ValueError,
        "requeue_after is -1 day, 23:59:59; give a time",
    ),
    ({"priority": "high"}, TypeError, "priority is 'high'; give an int"),
    ({"priority": True}, TypeError, "priority is True; give an int"),
    ({"jitter": 1.5}, ValueError, r"jitter is 1\.5; give a share from 0 to 1"),
    ({"jitter": "some"}, ValueError, "jitter is 'some'; give a share"),
]


@pytest.mark.parametrize(("arguments", "error", "message"), RESULTS)
def test_a_result_that_cannot_be_meant_is_refused_where_it_is_made(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=f"Result: {message}"):
        Result(**arguments)


def test_times_and_reconcilers_that_cannot_be_meant_are_refused_when_they_are_declared() -> None:
    for argument in ("reconcile_timeout", "sync_timeout"):
        with pytest.raises(ValueError, match=rf"Controller\(Widget\): {argument} is 0:00:00; give a time above 0"):
            bench(Recording(), **{argument: timedelta()})
    with pytest.raises(TypeError, match=r"Controller\(Widget\): 7 has neither reconcile\(obj\) nor reconcile_key"):
        Controller(Widget, cast("Any", 7))


def test_requeues_inherit_the_keys_priority_unless_told_otherwise() -> None:
    async def main() -> None:
        async def step(widget: Widget) -> Result:
            own = None if widget.metadata.name == "a" else 7
            return Result(requeue_after=timedelta(seconds=5), priority=own)

        it = bench(Recording(step))
        for name in ("a", "b"):
            it.put(name)
        async with running(it):
            it.controller.enqueue(A, priority=3)
            await asyncio.sleep(1.0)
            delayed = it.controller.queue.snapshot().delayed
            assert {each.key.name: each.priority for each in delayed} == {"a": 3, "b": 7}

    virtual_clock.run(main())


def test_a_share_of_chance_spreads_what_would_come_back_together() -> None:
    async def main() -> None:
        async def step(_: Widget) -> Result:
            return Result(requeue_after=timedelta(seconds=100), jitter=0.5)

        reconciler = Recording(step)
        it = bench(reconciler)
        for number in range(20):
            it.put(f"w{number}")
        async with running(it):
            await asyncio.sleep(155.0)
            times = [time for time, _, _ in reconciler.seen[20:40]]
            assert all(100.0 <= time <= 151.5 for time in times)
            assert max(times) - min(times) > 25.0

    virtual_clock.run(main())


def test_keys_are_enqueued_by_hand_one_or_all_and_all_without_holding_the_loop() -> None:
    async def main() -> None:
        reconciler = Recording()
        it = bench(reconciler)
        for number in range(1200):
            it.put(f"w{number}")
        with pytest.raises(RuntimeError, match="controller widget does not run"):
            it.controller.enqueue(A)
        with pytest.raises(RuntimeError, match="controller widget does not run"):
            await it.controller.enqueue_all()
        async with running(it):
            reconciler.seen.clear()
            turns = 0

            async def count_turns() -> None:
                nonlocal turns
                while True:
                    turns += 1
                    await asyncio.sleep(0)

            counting = asyncio.create_task(count_turns())
            await it.controller.enqueue_all()
            counting.cancel()
            assert turns >= 2
            assert {each.priority for each in it.controller.queue.snapshot().ready} == {LOW_PRIORITY}
            await asyncio.sleep(1.0)
            assert sorted(reconciler.names) == sorted(f"w{number}" for number in range(1200))
            with pytest.raises(TypeError, match="'a' is no ObjectKey"):
                it.controller.enqueue(cast("ObjectKey", "a"))

    virtual_clock.run(main())


def test_the_id_of_a_reconcile_is_at_hand_in_it_and_in_what_it_starts() -> None:
    async def main() -> None:
        seen: list[str | None] = []

        async def note() -> None:
            seen.append(reconcile_id())

        async def step(_: Widget) -> Result:
            await note()
            await asyncio.create_task(note())
            return DONE

        it = bench(Recording(step))
        async with running(it):
            it.put("a")
            await asyncio.sleep(0.1)
            it.change("a", size=1)
            await asyncio.sleep(0.1)
        assert None not in seen
        assert seen[0] == seen[1] != seen[2] == seen[3]
        assert reconcile_id() is None

    virtual_clock.run(main())


def test_the_time_from_event_to_reconcile_runs_from_the_first_event_to_the_success_that_handles_it() -> None:
    outcomes = ["fail", "fail", "ok", "ok"]

    async def step(_: Widget) -> Result:
        await asyncio.sleep(1.0)
        if outcomes.pop(0) == "fail":
            raise RuntimeError("on purpose")
        return DONE

    async def main() -> None:
        it = bench(Recording(step))
        name = "controller_event_to_reconcile_seconds"
        async with running(it):
            assert it.count(f"{name}_count") == 0
            it.put("a")
            await asyncio.sleep(1.5)
            it.change("a", size=1)  # while the second try runs
            await asyncio.sleep(10.0)
            assert outcomes == ["ok"]
            assert it.count(f"{name}_count") == 1
            assert it.count(f"{name}_sum") == pytest.approx(3.0, abs=0.1)
            it.change("a", size=2)
            await asyncio.sleep(10.0)
            assert it.count(f"{name}_sum") == pytest.approx(4.0, abs=0.1)
        outcomes[:] = ["ok"]
        again = bench(Recording(step))
        again.put("a")
        async with running(again):
            await asyncio.sleep(2.0)
            assert outcomes == []
            assert again.count(f"{name}_count") == 0  # there from the start: no event

    with_logs = logging.getLogger("kaito.runtime")
    with_logs.setLevel(logging.CRITICAL)
    try:
        virtual_clock.run(main())
    finally:
        with_logs.setLevel(logging.NOTSET)
