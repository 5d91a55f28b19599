"""Error policy: what follows from each sort of error, who decides, and how seldom a repeated failure is said."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, cast

import pytest

from kaito.client import CacheNotSynced, Conflict, Forbidden, LeadershipLost, TransportError
from kaito.client.errors import ServiceUnavailable, TooManyRequests
from kaito.runtime import DONE, ErrorAction, ReconcileError, Result, TerminalError, default_error_policy
from kaito.runtime.error_policy import EXPECTED_UNTIL, FailureLog, level_of
from kaito.testing import virtual_clock
from tests.unit.runtime.widgets import Recording, Step, Widget, bench, fails, running

ACTIONS: list[tuple[Exception, ErrorAction]] = [
    (Conflict("changed", status=409), ErrorAction.EXPECTED),
    (TooManyRequests("slow down", status=429), ErrorAction.EXPECTED),
    (ServiceUnavailable("away", status=503), ErrorAction.EXPECTED),
    (TransportError("refused", sent=False), ErrorAction.EXPECTED),
    (CacheNotSynced("behind"), ErrorAction.EXPECTED),
    (LeadershipLost("another leads"), ErrorAction.EXPECTED),
    (Forbidden("no", status=403), ErrorAction.RETRY),
    (ReconcileError("not yet"), ErrorAction.RETRY),
    (TerminalError("never"), ErrorAction.TERMINAL),
    (KeyError("oops"), ErrorAction.BUG),
]


@pytest.mark.parametrize(("error", "action"), ACTIONS)
def test_by_default_an_error_is_what_its_class_says(error: Exception, action: ErrorAction) -> None:
    assert default_error_policy(error) is action


def test_the_1st_2nd_4th_8th_time_is_worth_a_line_and_what_should_pass_becomes_a_warning_in_time() -> None:
    levels = [level_of(ErrorAction.EXPECTED, times) for times in range(1, 17)]
    assert [times for times, level in enumerate(levels, 1) if level > logging.DEBUG] == [1, 2, 4, 8, 16]
    assert [levels[times - 1] for times in (1, 4, EXPECTED_UNTIL, 16)] == [20, 20, 30, 30]
    assert level_of(ErrorAction.RETRY, 1) == logging.WARNING
    assert level_of(ErrorAction.BUG, 2) == level_of(ErrorAction.TERMINAL, 4) == logging.ERROR


def test_classes_of_errors_are_counted_apart_so_that_none_hides_behind_another() -> None:
    book: FailureLog[str] = FailureLog()
    for _ in range(5):
        book.failed("a", Conflict("x", status=409), ErrorAction.EXPECTED)
    assert book.failed("a", KeyError("x"), ErrorAction.BUG) == logging.ERROR
    assert (book.failures("a"), book.failures("b"), book.failing()) == (6, 0, ("a",))
    book.succeeded("a")
    assert (book.failures("a"), len(book)) == (0, 0)
    assert book.failed("a", Conflict("x", status=409), ErrorAction.EXPECTED) == logging.INFO


def test_a_key_that_fails_for_long_makes_a_few_lines_with_the_count(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        it = bench(Recording(fails(30, ReconcileError("not yet"))))
        async with running(it):
            it.put("a")
            await asyncio.sleep(6_000.0)
            assert it.outcomes() == {"error": 30, "success": 1}

    with caplog.at_level(logging.INFO, "kaito.runtime"):
        virtual_clock.run(main())
    said = [vars(record) for record in caplog.records if record.getMessage() == "reconcile failed"]
    assert [fields["failures"] for fields in said] == [1, 2, 4, 8, 16]
    assert {fields["error"] for fields in said} == {"not yet"}
    assert said[0]["retry_in_s"] < 0.01 < 1.0 < said[4]["retry_in_s"]


def test_conflicts_are_no_errors_in_the_log_and_no_panics(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        it = bench(Recording(fails(3, Conflict("changed", status=409))))
        async with running(it):
            it.put("a")
            await asyncio.sleep(1.0)
            assert it.count("controller_runtime_reconcile_errors_total") == 3
            assert it.count("controller_runtime_reconcile_panics_total") == 0

    with caplog.at_level(logging.INFO, "kaito.runtime"):
        virtual_clock.run(main())
    assert not [record for record in caplog.records if record.levelno > logging.INFO]
    assert "reconcile to be tried again" in caplog.text


def by_key(error: Exception) -> Step:
    """Fails for "bad", always."""

    async def step(widget: Widget) -> Result:
        if widget.metadata.name == "bad":
            raise error
        return DONE

    return step


def test_a_policy_of_ones_own_decides_what_is_terminal_and_what_expected(caplog: pytest.LogCaptureFixture) -> None:
    def policy(error: Exception) -> ErrorAction:
        return ErrorAction.TERMINAL if isinstance(error, ZeroDivisionError) else ErrorAction.EXPECTED

    async def main() -> None:
        for error, runs in ((ZeroDivisionError("x"), 1), (KeyError("x"), 8)):
            reconciler = Recording(by_key(error))
            it = bench(reconciler, on_error=policy)
            async with running(it):
                it.put("bad")
                await asyncio.sleep(1.0)
                assert reconciler.names.count("bad") == runs
                terminal = it.count("controller_runtime_terminal_reconcile_errors_total")
                assert terminal == (1 if runs == 1 else 0)

    with caplog.at_level(logging.INFO, "kaito.runtime"):
        virtual_clock.run(main())
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == [
        "reconcile failed for good"
    ]


def test_a_policy_may_end_the_controller_with_the_error() -> None:
    error = MemoryError("enough")

    async def main() -> None:
        it = bench(Recording(by_key(error)), on_error=lambda _: ErrorAction.RAISE)
        it.put("bad")
        caches = asyncio.create_task(it.manager.cache.run())
        with pytest.raises(MemoryError) as caught:
            await it.controller.run(it.manager)
        assert caught.value is error
        assert it.count("controller_runtime_reconcile_errors_total") == 1
        caches.cancel()
        await asyncio.wait([caches])
        assert asyncio.all_tasks() == {asyncio.current_task()}

    virtual_clock.run(main())


def test_a_policy_that_raises_or_returns_nonsense_is_a_bug_that_harms_its_key_only(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def raises(_: Exception) -> ErrorAction:
        raise LookupError("no such rule")

    def forgets(_: Exception) -> ErrorAction:
        return cast("ErrorAction", None)

    async def main() -> None:
        for policy in (raises, forgets):
            reconciler = Recording(by_key(KeyError("x")))
            it = bench(reconciler, on_error=policy)
            async with running(it):
                it.put("bad")
                it.put("good")
                await asyncio.sleep(1.0)
                assert reconciler.names.count("bad") > 3
                assert reconciler.names.count("good") == 1
                assert it.count("controller_runtime_reconcile_panics_total") > 3

    virtual_clock.run(main())
    assert "no such rule" in caplog.text
    assert "raised by on_error, which was asked about KeyError('x')" in caplog.text
    assert "on_error returned None for KeyError('x'): return an ErrorAction" in caplog.text


def test_a_terminal_error_keeps_the_count_of_failures_and_a_requeue_resets_it() -> None:
    errors: list[Exception | None] = [ReconcileError("x")] * 6 + [TerminalError("y"), ReconcileError("x"), None]

    async def step(_: Widget) -> Result:
        error = errors.pop(0)
        if error is not None:
            raise error
        return DONE

    async def main() -> None:
        reconciler = Recording(step)
        it = bench(reconciler)
        async with running(it):
            it.put("a")
            await asyncio.sleep(10.0)
            assert len(errors) == 2
            it.change("a", size=1)
            await asyncio.sleep(10.0)
            (failed, _, _), (again, _, _) = reconciler.seen[-2:]
            assert again - failed >= 0.005 * 2**6  # the seventh failure of the limiter, not its first

    virtual_clock.run(main())


def test_a_rate_limiter_of_ones_own_forgets_its_keys_when_the_controller_stops() -> None:
    from kaito.runtime import ExponentialRateLimiter

    async def main() -> None:
        limiter: Any = ExponentialRateLimiter()
        it = bench(Recording(by_key(KeyError("x"))), rate_limiter=limiter)
        async with running(it):
            it.put("bad")
            await asyncio.sleep(1.0)
            assert limiter._failures
        assert not limiter._failures

    virtual_clock.run(main())
