"""How far a download is: written by the threads that download, read by the metrics and by people."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from kaito.inference.wording import size

_WINDOW_S = 10.0


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
        left = f", {self.remaining_s:.0f} s left" if self.remaining_s > 0 else ""
        return f"{size(self.done_bytes)} of {size(self.total_bytes)}, {size(self.bytes_per_s)}/s{left}"
