"""How far a download is: written by the threads that download, read by the metrics and by people."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Callable

from kaito.inference.wording import size

_WINDOW_S = 10.0
_KNOWN_AFTER_S = 2.0


class DownloadStopped(Exception):
    """`DownloadProgress.stop` was called."""


class DownloadProgress:
    """A model's download. All zero when there is none: a folder's, or one that is in the cache.

    Attributes:
        total_bytes: to download, without what was there before.
        done_bytes: of them.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.total_bytes = 0
        self.done_bytes = 0
        self._clock = clock
        self._stopped = False
        # When so much was done, of the last seconds.
        self._marks: deque[tuple[float, int]] = deque(maxlen=64)

    def stop(self) -> None:
        """Ends the download, if there is one, at its next piece; the next one goes on from there."""
        self._stopped = True

    def start(self, total_bytes: int) -> None:
        """A download of so many bytes begins."""
        self.total_bytes, self.done_bytes = total_bytes, 0
        self._marks.clear()
        self._marks.append((self._clock(), 0))

    def reach(self, done_bytes: int) -> bool:
        """So much is done; whether that is worth telling: a second has passed since it last was, or all is done.

        Raises:
            DownloadStopped: It is to end.
        """
        if self._stopped:
            raise DownloadStopped
        self.done_bytes = max(self.done_bytes, min(done_bytes, self.total_bytes))
        now = self._clock()
        if not self._marks or (now - self._marks[-1][0] < 1 and self.done_bytes < self.total_bytes):
            return False
        self._marks.append((now, self.done_bytes))
        while self._marks[0][0] < now - _WINDOW_S and len(self._marks) > 1:
            self._marks.popleft()
        return True

    @property
    def bytes_per_s(self) -> float:
        """Of the last seconds; 0 when there is nothing to do."""
        if not self._marks or self.done_bytes >= self.total_bytes:
            return 0.0
        since, before = self._marks[0]
        return max(0.0, self.done_bytes - before) / max(self._clock() - since, 1e-3)

    @property
    def remaining_s(self) -> float:
        """At that speed; 0 when all is there, -1 when nobody knows."""
        if self.done_bytes >= self.total_bytes:
            return 0.0
        speed = self.bytes_per_s
        return (self.total_bytes - self.done_bytes) / speed if speed else -1.0

    def __str__(self) -> str:
        # Of the first moments it would be any number.
        is_known = self._marks and self._clock() - self._marks[0][0] >= _KNOWN_AFTER_S
        left = f", {self.remaining_s:.0f} s left" if is_known and self.remaining_s > 0 else ""
        return f"{size(self.done_bytes)} of {size(self.total_bytes)}, {size(self.bytes_per_s)}/s{left}"


class TransferReport:
    """Tells now and then how far a pull or push is, also while nothing comes: call it with what is done, and of what.

    Args:
        say: told in lines.
        waiting: what is going on before it is known how much there is.
        every_s: between two lines about bytes.
        quiet_s: without any line, before it is told that this still waits.
    """

    def __init__(
        self, say: Callable[[str], None], waiting: str, *, every_s: float = 3.0, quiet_s: float = 10.0
    ) -> None:
        self._say, self._waiting, self._every_s, self._quiet_s = say, waiting, every_s, quiet_s
        self._progress = DownloadProgress()
        self._is_begun = False
        self._said_s = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        if not self._is_begun or self._progress.total_bytes != total:
            self._progress.start(total)
            self._is_begun = True
        self._progress.reach(done)

    def say(self, line: str) -> None:
        """Tells something else, such as that something is tried again."""
        self._said_s = time.monotonic()
        self._say(line)

    @contextlib.asynccontextmanager
    async def told(self) -> AsyncIterator[None]:
        """Tells, until the context is left."""
        task = asyncio.create_task(self._tell())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _tell(self) -> None:
        while True:
            await asyncio.sleep(self._every_s)
            if self._is_begun and self._progress.done_bytes < self._progress.total_bytes:
                self.say(str(self._progress))
            elif time.monotonic() - self._said_s >= self._quiet_s:
                self.say(self._waiting)
