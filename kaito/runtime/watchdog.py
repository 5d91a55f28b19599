"""Watchdog: notices from a thread of its own that the event loop is blocked, and says where, and by which key."""

from __future__ import annotations

import asyncio
import logging
import sys
import sysconfig
import threading
import time
import traceback
from collections.abc import Iterator
from types import FrameType

from prometheus_client import CollectorRegistry

from kaito.kube.object_key import ObjectKey
from kaito.runtime.cells import CountFamily, DistributionFamily, Families
from kaito.runtime.workqueue import Item

log = logging.getLogger(__name__)

BLOCKED_AFTER_S = 5.0
INTERVAL_S = 0.25
LAG_BUCKETS_S = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

_RUNTIME = "kaito.runtime."
_STDLIB = sysconfig.get_path("stdlib")
_INSTALLED = ("/site-packages/", "/dist-packages/")


class WatchdogMetrics:
    """How well the event loop turns.

    Args:
        registry: where they are registered.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        blocked = CountFamily(
            "controller_loop_blocked_total", "How often something blocked the event loop for too long.", ()
        )
        lag = DistributionFamily(
            "controller_loop_lag_seconds", "How late the event loop ran what was due.", (), LAG_BUCKETS_S
        )
        Families(registry, [blocked, lag])
        self.blocked = blocked.labels()
        self.lag = lag.labels()


class Watchdog:
    """Has the event loop give a sign of life at short intervals, and looks at it from another thread.

    A process that was stopped as a whole (SIGSTOP, a suspended machine) is not taken for blocked. Code that holds the
    interpreter's lock holds the watchdog up as well; it is told of when it lets go.

    Args:
        metrics: where it counts.
        blocked_after_s: seconds without a sign after which the loop is blocked.
        interval_s: seconds between signs, and between looks at them; default short enough to tell.
    """

    def __init__(
        self,
        metrics: WatchdogMetrics,
        *,
        blocked_after_s: float = BLOCKED_AFTER_S,
        interval_s: float | None = None,
    ) -> None:
        self._metrics = metrics
        self._blocked_after_s = blocked_after_s
        self._interval_s = interval_s or min(INTERVAL_S, blocked_after_s / 10)
        self._timer: asyncio.TimerHandle | None = None
        self._thread_id = 0
        self._sign_at = 0.0
        self._looked_at = 0.0
        self._blocked_since: float | None = None
        self._place = ""

    # In the loop's thread.

    def begin(self) -> None:
        """Begins to give signs; called in the running loop."""
        self._thread_id = threading.get_ident()
        self._looked_at = time.monotonic()
        self._give_sign(asyncio.get_running_loop(), None)

    def end(self) -> None:
        """Gives no signs any more. Does nothing if it did not begin."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_sign(self, loop: asyncio.AbstractEventLoop, due: float | None) -> None:
        self._sign_at = time.monotonic()
        now = loop.time()
        if due is not None:
            self._metrics.lag.observe(max(0.0, now - due))
        due = now + self._interval_s
        self._timer = loop.call_at(due, self._give_sign, loop, due)

    # In the other thread.

    async def run(self, stopping: asyncio.Event) -> None:
        """Looks at the signs until told to stop; in the other thread's loop."""
        while not stopping.is_set():
            self.look()
            try:
                async with asyncio.timeout(self._interval_s):
                    await stopping.wait()
            except TimeoutError:
                continue

    def look(self) -> None:
        """Looks once: logs that the loop is blocked, or that it turns again."""
        now = time.monotonic()
        asleep_s, self._looked_at = now - self._looked_at, now
        if self._blocked_since is None:
            # Late itself, it lets the loop have its turn first: what was late is the process, or the machine.
            if self.silent_s() >= self._blocked_after_s and asleep_s < self._blocked_after_s / 2:
                self._tell_blocked()
        elif self._sign_at > self._blocked_since:
            blocked_s = self._sign_at - self._blocked_since
            self._blocked_since = None
            log.warning("event loop turns again", extra={"blocked_s": round(blocked_s, 1), "at": self._place})

    def silent_s(self) -> float:
        """Seconds since the loop's last sign."""
        return time.monotonic() - self._sign_at

    def fault(self) -> str | None:
        """Why the loop is not well, in a sentence; None: it is."""
        since = self._blocked_since
        # A sign since then counts at once, not only at the next look.
        if since is None or self._sign_at > since:
            return None
        return f"event loop blocked for {self.silent_s():.0f} s in {self._place}"

    def _tell_blocked(self) -> None:
        self._blocked_since = self._sign_at
        self._metrics.blocked.inc()
        frame = sys._current_frames().get(self._thread_id)
        frames = list(_outermost_first(frame))
        self._place = place(frames)
        log.error(
            "event loop blocked: nothing else runs; await, or use asyncio.to_thread",
            extra={
                "blocked_s": round(self.silent_s(), 1),
                "at": self._place,
                **_work(frames),
                "stack": "".join(traceback.format_stack(frame)) if frame is not None else "",
            },
        )


def place(frames: list[FrameType]) -> str:
    """Where the user's code is: its first line that the runtime called, as ``file:line in function``, and the last."""
    if not frames:
        return "an unknown place"
    ours = [_module(frame).startswith(_RUNTIME) for frame in frames]
    pairs = zip(frames[1:], ours, ours[1:], strict=False)
    called = (each for each, before, now in pairs if before and not now and not _is_stdlib(each))
    # Where the runtime called nobody, the innermost line that is not the standard library's says more than the last.
    others = (frame for frame in reversed(frames) if not _is_stdlib(frame))
    last = frames[-1]
    first = next(called, None) or next(others, last)
    return _described(first) if first is last else f"{_described(first)}, at {_described(last)}"


def _work(frames: list[FrameType]) -> dict[str, str]:
    """Controller and key, as far as the runtime's own frames name them."""
    found: dict[str, str] = {}
    for frame in frames:
        if not _module(frame).startswith(_RUNTIME):
            continue
        for value in (frame.f_locals.get("item"), frame.f_locals.get("key")):
            key = value.key if isinstance(value, Item) else value
            if isinstance(key, ObjectKey):
                found["key"] = str(key)
        controller = frame.f_locals.get("controller") or getattr(frame.f_locals.get("self"), "_controller", None)
        if isinstance(name := getattr(controller, "name", None), str):
            found["controller"] = name
    return found


def _outermost_first(frame: FrameType | None) -> Iterator[FrameType]:
    if frame is not None:
        yield from _outermost_first(frame.f_back)
        yield frame


def _is_stdlib(frame: FrameType) -> bool:
    # What is installed may lie below it.
    name = frame.f_code.co_filename
    return name.startswith((_STDLIB, "<frozen")) and not any(each in name for each in _INSTALLED)


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))


def _described(frame: FrameType) -> str:
    return f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_qualname}"
