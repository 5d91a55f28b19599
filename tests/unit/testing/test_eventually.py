"""eventually(): what it waits for, what it reports, what it lets through."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable

import pytest

from kaito.testing import eventually


def sequence(*outcomes: object) -> Callable[[], object]:
    """A probe with one outcome after the other; exceptions are raised, the last one stays."""
    left = list(outcomes)

    def probe() -> object:
        outcome = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return probe


def asynchronous(probe: Callable[[], object]) -> Callable[[], object]:
    async def wrapped() -> object:
        await asyncio.sleep(0)
        return probe()

    return wrapped


@pytest.mark.parametrize("wrap", [lambda probe: probe, asynchronous], ids=["sync", "async"])
async def test_it_returns_the_first_true_value(wrap: Callable[[Callable[[], object]], Callable[[], object]]) -> None:
    probe = wrap(sequence(None, 0, "", AssertionError("not yet"), ["found"]))
    assert await eventually(probe, interval_s=0.001) == ["found"]


async def test_listed_errors_mean_not_yet_and_others_are_raised() -> None:
    assert await eventually(sequence(KeyError("a"), 1), interval_s=0.001, retry_on=(KeyError,)) == 1
    with pytest.raises(ValueError, match="broken"):
        await eventually(sequence(KeyError("a"), ValueError("broken")), interval_s=0.001, retry_on=(KeyError,))


async def test_a_timeout_has_the_message_the_time_and_the_last_value() -> None:
    with pytest.raises(AssertionError) as caught:
        await eventually(dict, timeout_s=0.05, interval_s=0.01, message="the node is Ready")
    assert re.fullmatch(r"the node is Ready: not within 0\.0\d s; the last value was \{\}", str(caught.value))


async def test_a_timeout_has_the_last_error_as_its_cause() -> None:
    reason = AssertionError("phase is Pending")
    with pytest.raises(AssertionError, match="the last attempt raised AssertionError: phase is Pending") as caught:
        await eventually(sequence(reason), timeout_s=0.02, interval_s=0.01)
    assert caught.value.__cause__ is reason


async def test_a_probe_that_hangs_is_cancelled_at_the_deadline() -> None:
    ended = asyncio.Event()

    async def probe() -> bool:
        try:
            return await asyncio.Event().wait()
        finally:
            ended.set()

    with pytest.raises(AssertionError, match="still waiting"):
        await eventually(probe, timeout_s=0.02)
    assert ended.is_set()


async def test_an_attempt_cut_off_at_the_deadline_does_not_hide_what_the_one_before_it_came_to() -> None:
    outcomes = sequence(AssertionError("phase is Pending"), None)

    async def probe() -> object:
        return outcomes() or await asyncio.Event().wait()

    with pytest.raises(AssertionError, match="phase is Pending"):
        await eventually(probe, timeout_s=0.05, interval_s=0.01)


async def test_a_timeout_of_the_probes_own_is_not_taken_for_ours() -> None:
    with pytest.raises(TimeoutError, match="the server took too long"):
        await eventually(sequence(TimeoutError("the server took too long")))


async def test_the_probe_is_asked_once_even_without_time() -> None:
    assert await eventually(lambda: "at once", timeout_s=0) == "at once"


async def test_cancelling_it_cancels_the_probe() -> None:
    ended = asyncio.Event()

    async def probe() -> bool:
        try:
            return await asyncio.Event().wait()
        finally:
            ended.set()

    task = asyncio.create_task(eventually(probe))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()
