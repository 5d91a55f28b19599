"""File locks between processes that say who holds them and for what; the kernel frees them with their owner."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from kaito.devcluster.progress import Progress

_POLL_INTERVAL_S: Final = 0.2


@dataclass(frozen=True, slots=True)
class LockOwner:
    """Who holds a lock.

    Attributes:
        pid: Its process, 0 when unknown.
        purpose: What it does meanwhile, in words that complete "process 7 is …".
        since_s: When it got the lock, in seconds of the epoch.
    """

    pid: int
    purpose: str
    since_s: float

    def __str__(self) -> str:
        if not self.pid:
            return "another process"
        minutes, seconds = divmod(max(0, int(time.time() - self.since_s)), 60)
        return f"process {self.pid} ({self.purpose}, for {minutes}m{seconds:02d}s)"


class FileLock:
    """An exclusive lock on a file.

    The lock belongs to the open file: it lives until every process that inherited `fileno()` has ended, and is
    never left behind by a killed one.

    Args:
        path: The lock's file; it is created, and left in place.
        purpose: What the owner does meanwhile.
    """

    def __init__(self, path: Path, purpose: str) -> None:
        self.path = path
        self._purpose = purpose
        self._fd: int | None = None

    def try_acquire(self) -> bool:
        """Takes the lock if it is free; False if somebody holds it."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return False
        self._fd = fd
        owner = LockOwner(pid=os.getpid(), purpose=self._purpose, since_s=time.time())
        os.ftruncate(fd, 0)
        os.pwrite(fd, json.dumps(asdict(owner)).encode(), 0)
        return True

    def release(self) -> None:
        """Gives this process's share of the lock back; nothing happens where it has none."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def fileno(self) -> int:
        """The open file that carries the lock, for a child process to inherit."""
        if self._fd is None:
            raise ValueError(f"{self.path}: the lock is not held")
        return self._fd

    def owner(self) -> LockOwner:
        """Who wrote itself into the lock's file last."""
        try:
            return LockOwner(**json.loads(self.path.read_text()))
        except (OSError, ValueError, TypeError):
            return LockOwner(pid=0, purpose="", since_s=0.0)

    @contextmanager
    def held(self, progress: Progress) -> Iterator[None]:
        """Waits for the lock, saying for whom, and holds it for a block.

        Raises:
            CancelledStartError: The wait was called off.
        """
        while not self.try_acquire():
            progress.update(f"waiting for {self.owner()}; end that process to take over")
            progress.pause(_POLL_INTERVAL_S)
        try:
            yield
        finally:
            self.release()
