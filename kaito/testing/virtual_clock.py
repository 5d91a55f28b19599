"""Virtual time for asyncio: a loop that jumps to its next timer, so that hours of waiting replay in milliseconds.

The loop runs callbacks first in, first out, on one thread, and never waits: as soon as nothing is ready, its clock
stands at the next timer. With the same seed and the same code, two runs therefore take the same steps. What could
still tell them apart, and what is done about it:

- ``random``: `run` seeds it. ``uuid.uuid4`` and ``secrets`` read the system's entropy: take them from a seeded source.
- Sets of tasks and futures (``asyncio.wait``, a TaskGroup that cancels its members) iterate by hash, which usually is
  an address: here tasks and futures are hashed by the order in which they were made.
- Sets of strings iterate by ``PYTHONHASHSEED``: sort them before acting on their order.
- Threads: refused (`NotDeterministic`). Sockets: there are none.
- ``time.time`` and ``time.monotonic`` go on showing the machine's time: read `wall` or ``loop.time()``.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import heapq
import itertools
import random
import signal
from collections.abc import Callable, Coroutine, Generator
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn, TypeVar

T = TypeVar("T")

EPOCH = datetime(2024, 1, 1, tzinfo=UTC)
DEFAULT_LIMIT_S = 86_400.0
STEPS_WITHOUT_PROGRESS = 100_000


class VirtualClockError(Exception):
    """Base of what ends a run under virtual time."""


class Deadlock(VirtualClockError):
    """Nothing is ready and no timer is set: what the tasks wait for can never happen. The text names them."""


class TimeLimitExceeded(VirtualClockError):
    """The virtual clock passed the limit of the run. The text names the tasks that were still waiting."""


class Livelock(VirtualClockError):
    """Tasks went on and on without the clock ever moving, as in ``while True: await asyncio.sleep(0)``."""


class NotDeterministic(VirtualClockError):
    """Something was asked for whose timing nobody can replay: a thread, an address lookup, a signal from outside."""


def run(main: Coroutine[Any, Any, T], *, seed: int = 0, limit_s: float = DEFAULT_LIMIT_S) -> T:
    """Runs a coroutine to its end under virtual time and returns its result, as ``asyncio.run`` does in real time.

    Args:
        main: what to run.
        seed: of the module ``random`` while it runs; its former state comes back afterwards.
        limit_s: virtual seconds after which the run is given up.

    Raises:
        Deadlock: nothing could ever happen any more.
        TimeLimitExceeded: the virtual clock passed `limit_s`.
        Livelock: tasks spun without the clock moving.
    """
    state = random.getstate()
    random.seed(seed)
    try:
        with asyncio.Runner(loop_factory=lambda: VirtualClockLoop(limit_s=limit_s)) as runner:
            return runner.run(main)
    finally:
        random.setstate(state)


def wall() -> datetime:
    """The time of day: `EPOCH` plus virtual seconds in a `VirtualClockLoop`, `EPOCH` outside loops, else real time."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return EPOCH
    return EPOCH + timedelta(seconds=loop.time()) if isinstance(loop, VirtualClockLoop) else datetime.now(UTC)


class VirtualClockLoop(asyncio.BaseEventLoop):
    """An event loop whose time is virtual: 0.0 when it is made, and at the next timer whenever nothing is ready.

    ``asyncio.sleep``, ``timeout``, ``call_later`` and all that stands on them just work. Signal handlers can be set,
    and are called by `raise_signal` only.

    Args:
        limit_s: virtual seconds after which it raises `TimeLimitExceeded`.
    """

    def __init__(self, *, limit_s: float = DEFAULT_LIMIT_S) -> None:
        super().__init__()
        self._now = 0.0
        self._limit_s = limit_s
        self._steps = 0
        self._numbers = itertools.count()
        self._signal_handlers: dict[int, Callable[[], object]] = {}
        # BaseEventLoop asks this for I/O events between two rounds of callbacks; it is where waiting would happen.
        self._selector = self
        self.set_task_factory(_numbered_task)

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._now

    def select(self, timeout: float | None) -> list[object]:
        """Called by asyncio where a real loop waits: moves the clock instead.

        Raises:
            Deadlock, TimeLimitExceeded, Livelock: see there.
        """
        if timeout is None:
            raise Deadlock(f"at {self._now:.3f} s nothing is ready and no timer is set; waiting: {_waiting(self)}")
        if timeout > 0:
            self._advance(timeout)
            return []
        self._steps += 1
        if self._steps > STEPS_WITHOUT_PROGRESS:
            self._steps = 0  # so that cancelled tasks can still clean up
            raise Livelock(
                f"{STEPS_WITHOUT_PROGRESS} rounds at {self._now:.3f} s and the clock does not move: {_waiting(self)}"
            )
        return []

    def call_at(  # type: ignore[override]  # TypeVarTuple of the base class
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        """Sets a timer; those of one moment run in the order in which they were set (a real loop promises none)."""
        timer = _NumberedTimer(when, callback, args, self, context)
        timer.number = self.next_number()
        heapq.heappush(self._scheduled, timer)  # type: ignore[attr-defined]
        timer._scheduled = True  # type: ignore[attr-defined]
        return timer

    def create_future(self) -> asyncio.Future[Any]:
        """Makes a future whose place in a set follows from when it was made."""
        return _NumberedFuture(loop=self)

    def next_number(self) -> int:
        """The hash of the next task or future."""
        return next(self._numbers)

    def run_in_executor(self, executor: object, func: Callable[..., object], *args: object) -> NoReturn:
        """Refuses: when a thread is done depends on the machine.

        Raises:
            NotDeterministic: always.
        """
        # asyncio.to_thread wraps what it was given into partial(context.run, func).
        wrapped = func.args[0] if isinstance(func, functools.partial) and func.args else func
        name = getattr(wrapped, "__qualname__", repr(wrapped))
        raise NotDeterministic(
            f"run_in_executor({name}): threads end when they like, so a run with them cannot be replayed; "
            f"call it directly, or leave this part out under virtual time"
        )

    def add_signal_handler(self, sig: int, callback: Callable[..., object], *args: object) -> None:
        """Remembers a handler; the process's own signals are left alone."""
        self._signal_handlers[sig] = lambda: callback(*args)

    def remove_signal_handler(self, sig: int) -> bool:
        """Forgets a handler; False when there was none."""
        return self._signal_handlers.pop(sig, None) is not None

    def raise_signal(self, sig: signal.Signals) -> None:
        """Calls the handler of a signal on the loop's next turn, as if the process had been sent it.

        Raises:
            NotDeterministic: nobody handles it, so that it would have ended the process.
        """
        if sig not in self._signal_handlers:
            raise NotDeterministic(f"{sig.name}: no handler is set, so it would end the process; set one first")
        self.call_soon(self._signal_handlers[sig])

    def _advance(self, timeout: float) -> None:
        # The timer's own moment, not now + timeout: the sum may round to just before it.
        due: float = self._scheduled[0].when()  # type: ignore[attr-defined]
        self._now = due if due - self._now <= timeout else self._now + timeout
        self._steps = 0
        if self._now > self._limit_s:
            limit_s, self._limit_s = self._limit_s, float("inf")  # so that cancelled tasks can still clean up
            raise TimeLimitExceeded(f"the clock passed {limit_s:g} s; waiting: {_waiting(self)}")

    def _process_events(self, event_list: list[object]) -> None:
        """No I/O, no events."""

    def _write_to_self(self) -> None:
        """Wakes a waiting loop; this one never waits."""


class _NumberedTimer(asyncio.TimerHandle):
    number = 0

    def __lt__(self, other: object) -> bool:
        if not isinstance(other, _NumberedTimer):
            return NotImplemented
        return (self.when(), self.number) < (other.when(), other.number)


class _NumberedFuture(asyncio.Future[T]):
    def __init__(self, *, loop: VirtualClockLoop) -> None:
        self._number = loop.next_number()
        super().__init__(loop=loop)

    def __hash__(self) -> int:
        return self._number


class _NumberedTask(asyncio.Task[T]):
    def __init__(self, coro: Any, *, number: int, **options: Any) -> None:
        # Before Task's own __init__, which already puts the task into a set.
        self._number = number
        super().__init__(coro, **options)

    def __hash__(self) -> int:
        return self._number


def _numbered_task(
    loop: asyncio.AbstractEventLoop,
    coro: Coroutine[Any, Any, T] | Generator[Any, None, T],
    **options: Any,
) -> asyncio.Task[T]:
    assert isinstance(loop, VirtualClockLoop)
    number = loop.next_number()
    # asyncio counts names through all loops of the process: a second run would have other ones.
    options["name"] = options.get("name") or f"task-{number}"
    return _NumberedTask(coro, number=number, loop=loop, **options)


def _waiting(loop: asyncio.AbstractEventLoop) -> str:
    tasks = [task for task in asyncio.all_tasks(loop) if not task.done()]
    return "; ".join(sorted(_describe(task) for task in tasks)) or "no task"


def _describe(task: asyncio.Task[Any]) -> str:
    name, frames = task.get_name(), task.get_stack(limit=1)
    if not frames:
        return name
    frame = frames[-1]
    return f"{name} in {frame.f_code.co_qualname} (line {frame.f_lineno})"
