"""Child processes under measurement: told what to do on stdin, answering in JSON lines, looked at through /proc."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

_END_TIMEOUT_S = 10.0
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_LOG_TAIL_LINES = 20


class ChildFailed(Exception):
    """A child ended, or said nothing for too long; has the tail of what it logged."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A process at a moment.

    Attributes:
        cpu_s: user and system time so far, of all its threads.
        rss: resident bytes.
        peak_rss: the most since the peak was reset.
    """

    cpu_s: float
    rss: int
    peak_rss: int


class Child:
    """A process under measurement; made by `child`."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: IO[bytes]) -> None:
        self._name = name
        self._process = process
        self._log = log

    def sample(self) -> Sample:
        """What it has used so far."""
        return sample(self._process.pid)

    def reset_peak(self) -> None:
        """Makes its resident size of now its peak."""
        Path(f"/proc/{self._process.pid}/clear_refs").write_text("5")

    def tell(self, command: str) -> None:
        """Sends it a line."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{command}\n".encode())

    def send(self, number: signal.Signals) -> None:
        """Sends it a signal."""
        self._process.send_signal(number)

    async def ended(self) -> int:
        """Waits until it has ended; returns its exit code."""
        return await self._process.wait()

    async def expect(self, event: str, timeout_s: float) -> dict[str, Any]:
        """Waits for its next line, which must be of this event.

        Raises:
            ChildFailed: it ended, said something else, or nothing in time.
        """
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(timeout_s):
                line = await self._process.stdout.readline()
        except TimeoutError:
            raise self._failure(f"no {event!r} within {timeout_s:g} s") from None
        if not line:
            raise self._failure(f"ended before {event!r}")
        said: dict[str, Any] = json.loads(line)
        if said["event"] != event:
            raise self._failure(f"said {said} where {event!r} was expected")
        return said

    def _failure(self, what: str) -> ChildFailed:
        self._log.seek(0)
        tail = "\n".join(self._log.read().decode(errors="replace").splitlines()[-_LOG_TAIL_LINES:])
        return ChildFailed(f"{self._name}: {what}; the end of its log:\n{tail or '(empty)'}")


@asynccontextmanager
async def child(name: str, argv: Sequence[str], env: Mapping[str, str]) -> AsyncIterator[Child]:
    """Starts a child that ends when its stdin does, and so with us in any case."""
    with tempfile.TemporaryFile() as log:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            env={**os.environ, **env},
        )
        try:
            yield Child(name, process, log)
        finally:
            await _end(process)


def sample(pid: int) -> Sample:
    """What a process has used so far."""
    # The second field is the name in parentheses, which may contain anything.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    cpu_s = (int(fields[11]) + int(fields[12])) / _TICKS_PER_S
    sizes = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return Sample(cpu_s, _kib(sizes["VmRSS"]), _kib(sizes["VmHWM"]))


def say(event: str, **fields: float) -> None:
    """As a child: tells the parent something."""
    print(json.dumps({"event": event, **fields}), flush=True)


async def stdin_lines() -> asyncio.StreamReader:
    """As a child: what the parent tells, to be read line by line in the running loop."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    return reader


def _kib(text: str) -> int:
    return int(text.split()[0]) * 1024


async def _end(process: asyncio.subprocess.Process) -> None:
    assert process.stdin is not None
    process.stdin.close()
    try:
        async with asyncio.timeout(_END_TIMEOUT_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
