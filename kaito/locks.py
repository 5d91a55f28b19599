"""File locks between processes that say who holds them and for what; the kernel frees them with their owner."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Protocol

_POLL_INTERVAL_S: Final = 0.2


class Waiting(Protocol):
    """Who waits for a lock: tells people, and sleeps."""

    def update(self, text: str, /) -> None:
        """Offers the present state, which is told now and then."""

    def pause(self, seconds: float, /) -> None:
        """Sleeps, unless the wait is called off, which it raises an error for."""


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
        path: The lock's file; it is created, and left in place unless `remove` is called.
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
        except OSError as error:
            os.close(fd)
            if isinstance(error, BlockingIOError):
                return False
            raise
        if not self._is_named(fd):
            os.close(fd)
            return self.try_acquire()
        self._fd = fd
        owner = LockOwner(pid=os.getpid(), purpose=self._purpose, since_s=time.time())
        os.ftruncate(fd, 0)
        os.pwrite(fd, json.dumps(asdict(owner)).encode(), 0)
        return True

    async def acquire(self, waits_for: Callable[[str], None]) -> None:
        """Waits for the lock; the event loop goes on.

        Args:
            waits_for: is told once who holds it, if somebody does.
        """
        told = False
        while True:
            if self.try_acquire():
                return
            if not told:
                told = True
                waits_for(str(self.owner()))
            await asyncio.sleep(_POLL_INTERVAL_S)

    def release(self) -> None:
        """Gives this process's share of the lock back; nothing happens where it has none."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def remove(self) -> None:
        """Gives the lock back and takes its file away; who waits for it meanwhile makes a new one."""
        if self._fd is not None:
            self.path.unlink(missing_ok=True)
            self.release()

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
    def held(self, progress: Waiting) -> Iterator[None]:
        """Waits for the lock, saying for whom, and holds it for a block.

        Args:
            progress: What raises when the wait is called off.
        """
        while not self.try_acquire():
            progress.update(f"waiting for {self.owner()}; end that process to take over")
            progress.pause(_POLL_INTERVAL_S)
        try:
            yield
        finally:
            self.release()

    def _is_named(self, fd: int) -> bool:
        """Whether the file is still the one of that name: its last owner may have removed it."""
        try:
            return os.path.samestat(os.fstat(fd), self.path.stat())
        except FileNotFoundError:
            return False
