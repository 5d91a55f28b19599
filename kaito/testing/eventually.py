"""eventually(): wait for what a control loop will bring about, instead of sleeping and hoping."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import TypeVar, cast, overload

T = TypeVar("T")
_Errors = tuple[type[Exception], ...]


@overload
async def eventually(
    probe: Callable[[], Awaitable[T]],
    *,
    timeout_s: float = ...,
    interval_s: float = ...,
    message: str = ...,
    retry_on: _Errors = ...,
) -> T: ...
@overload
async def eventually(
    probe: Callable[[], T],
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
    last = _Outcome()
    while True:
        await last.ask(probe, started_s + timeout_s, (AssertionError, *retry_on))
        if last.value:
            return last.value
        if loop.time() + interval_s > started_s + timeout_s:
            raise AssertionError(last.complaint(message, loop.time() - started_s)) from last.error
        await asyncio.sleep(interval_s)


class _Outcome:
    """What the probe came to last."""

    def __init__(self) -> None:
        self.value: object = None
        self.error: Exception | None = None

    async def ask(self, probe: Callable[[], object], deadline_s: float, retry_on: _Errors) -> None:
        self.error = None
        try:
            answer = probe()
            self.value = await _in_time(answer, deadline_s, self) if inspect.isawaitable(answer) else answer
        except retry_on as error:
            self.value, self.error = None, error

    def complaint(self, message: str, waited_s: float) -> str:
        what = message or "the probe did not hold"
        last = f"the last value was {self.value!r}"
        if self.error is not None:
            last = f"the last attempt raised {type(self.error).__name__}: {self.error}"
        return f"{what}: not within {waited_s:.2f} s; {last}"


async def _in_time(answer: Awaitable[object], deadline_s: float, last: _Outcome) -> object:
    async with asyncio.timeout_at(deadline_s) as limit:
        return await answer
    return None
