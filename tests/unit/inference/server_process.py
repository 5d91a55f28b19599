"""The server as its users start it: a process of its own, on a port that the system chooses."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import aiohttp

_READY_S = 100.0


class ServerProcess:
    """A child process and what it logs; `started` makes one."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[str] = []
        self.url = ""
        self._came = asyncio.Condition()
        self._reading = asyncio.create_task(self._read())

    async def logged(self, message: str) -> dict[str, Any]:
        """Waits for a line with that message; gives it."""
        async with asyncio.timeout(_READY_S), self._came:
            while True:
                for line in self.lines:
                    if line.startswith("{") and (entry := json.loads(line))["msg"] == message:
                        assert isinstance(entry, dict)
                        return entry
                assert not self._reading.done(), f"ended before it logged {message!r}: {self.lines}"
                await self._came.wait()

    def send(self, number: signal.Signals) -> None:
        """Sends a signal."""
        self.process.send_signal(number)

    async def ended(self) -> int:
        """Waits for its end; gives the exit status."""
        async with asyncio.timeout(_READY_S):
            status = await self.process.wait()
            await self._reading
        return status

    async def close(self) -> None:
        """Ends it, whatever it does."""
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
        await self.ended()

    async def _read(self) -> None:
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            async with self._came:
                self.lines.append(line.decode().rstrip("\n"))
                self._came.notify_all()
        async with self._came:
            self._came.notify_all()


@contextlib.asynccontextmanager
async def started(
    arguments: Sequence[object], environment: Mapping[str, str] | None = None
) -> AsyncIterator[ServerProcess]:
    """A server that listens already, though its model may be loading still; killed in the end if it still runs."""
    process = ServerProcess(
        await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "kaito.inference", "--host", "127.0.0.1", "--port", "0", "--threads", "1"),
            *("--log-format", "json", "--log-level", "debug", *map(str, arguments)),
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, **(environment or {})},
        )
    )
    try:
        process.url = f"http://127.0.0.1:{(await process.logged('listening'))['port']}"
        yield process
    finally:
        await process.close()


async def metric(session: aiohttp.ClientSession, url: str, name: str) -> float:
    """The sum of a metric's samples."""
    async with session.get(f"{url}/metrics") as answer:
        text = await answer.text()
    found = [line for line in text.splitlines() if line.startswith((f"{name} ", f"{name}{{"))]
    assert found, f"no {name} in {text}"
    return sum(float(line.rsplit(" ", 1)[1]) for line in found)
