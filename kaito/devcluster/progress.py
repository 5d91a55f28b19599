"""Progress of long steps on standard error: one living line on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from typing import Final, TextIO

from kaito.devcluster.errors import CancelledStartError

_TERMINAL_INTERVAL_S: Final = 0.5
_LOG_INTERVAL_S: Final = 15.0


class Progress:
    """Says what is going on, and lets its owner call the work off from another thread.

    Args:
        stream: Where the lines go; standard error, as it is now, by default.
        silent: Write nothing at all.
        log_interval_s: Seconds between two lines of one step where the stream is no terminal.
        clock: Monotonic seconds, injected by tests.
    """

    def __init__(
        self,
        stream: TextIO | None = None,
        *,
        silent: bool = False,
        log_interval_s: float = _LOG_INTERVAL_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = None if silent else stream or sys.stderr
        self._clock = clock
        self._on_terminal = self._stream is not None and self._stream.isatty()
        self._interval_s = _TERMINAL_INTERVAL_S if self._on_terminal else log_interval_s
        self._next_update_s = 0.0
        self._living_width = 0
        self._cancelled = threading.Event()

    def say(self, text: str) -> None:
        """Writes a line that stays."""
        self._write(text, stays=True)
        self._next_update_s = self._clock() + self._interval_s

    def update(self, text: str) -> None:
        """Offers the present state of a step; it is written when the last line is old enough."""
        now = self._clock()
        if now >= self._next_update_s:
            self._next_update_s = now + self._interval_s
            self._write(text, stays=not self._on_terminal)

    def cancel(self) -> None:
        """Makes every waiting step of the work end with CancelledStartError; safe from any thread."""
        self._cancelled.set()

    def pause(self, seconds: float) -> None:
        """Sleeps, unless and until the work is called off.

        Raises:
            CancelledStartError: `cancel` was called.
        """
        if self._cancelled.wait(seconds):
            raise CancelledStartError("the start was given up by its caller")

    def _write(self, text: str, *, stays: bool) -> None:
        if self._stream is None:
            return
        blank = " " * max(0, self._living_width - len(text))
        start = "\r" if self._living_width else ""
        self._stream.write(f"{start}{text}{blank}" + ("\n" if stays else ""))
        self._stream.flush()
        self._living_width = 0 if stays else len(text)
