"""eventually(): wait for what a control loop will bring about, instead of sleeping and hoping."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import TypeVar, overload

T = TypeVar("T")
_Errors = tuple[type[Exception], ...]


@overload
async def eventually(
    probe: Callable[[], Awaitable[T | None]],
    *,
    timeout_s: float = ...,
    interval_s: float = ...,
    message: str = ...,
    retry_on: _Errors = ...,
) -> T: ...


@overload
async def eventually(
    probe: Callable[[], T | None],
    *,
    timeout_s: float = ...,
    interval_s: float = ...,
    message: str = ...,
    retry_on: _Errors = ...,
) -> T: ...


async def eventually(
    probe: Callable[[], object],
    *,
    timeout_s: float = 10.0,
    interval_s: float = 0.05,
    message: str = "",
    retry_on: _Errors = (),
) -> object:
    """Calls a probe until it returns something true, and returns that.

    The probe may be a plain or an async function, may assert, and may raise what `retry_on` lists: both count as
    "not yet". Any other exception is raised at once. Time is the event loop's. An async probe that hangs is
    cancelled at the deadline.

    Args:
        probe: What to ask, without arguments.
        timeout_s: Seconds until it is given up; the probe is called at least once.
        interval_s: Seconds between two calls.
        message: What was waited for, for the error.
        retry_on: Exceptions that mean "not yet" besides AssertionError.

    Raises:
        AssertionError: The time is up; has the seconds waited and the last value or error.
    """
    loop = asyncio.get_running_loop()
    started_s = loop.time()
    deadline_s = started_s + timeout_s
    last = "the first attempt was still waiting"
    while True:
        value, error = await _ask(probe, deadline_s, (AssertionError, *retry_on))
        if value:
            return value
        last = _describe(value, error, last)
        if loop.time() + interval_s > deadline_s:
            what = message or "the probe did not hold"
            raise AssertionError(f"{what}: not within {loop.time() - started_s:.2f} s; {last}") from error
        await asyncio.sleep(interval_s)


async def _ask(probe: Callable[[], object], deadline_s: float, retry_on: _Errors) -> tuple[object, Exception | None]:
    limit = asyncio.timeout_at(deadline_s)
    try:
        answer = probe()
        if inspect.isawaitable(answer):
            async with limit:
                answer = await answer
    except retry_on as error:
        return None, error
    except TimeoutError:
        if limit.expired():
            return None, _CutOff("cut off by the deadline")
        raise
    return answer, None


def _describe(value: object, error: Exception | None, before: str) -> str:
    if isinstance(error, _CutOff):
        return before  # what an earlier attempt came to says more
    if error is not None:
        return f"the last attempt raised {type(error).__name__}: {error}"
    return f"the last value was {value!r}"


class _CutOff(Exception):
    """The deadline came while the probe was waiting."""
