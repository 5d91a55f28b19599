"""WebhookDoor: one address before several managers, as a Service is: it leads to those that say they are ready."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Coroutine
from contextlib import suppress
from types import TracebackType
from typing import Self

from kaito.devcluster.ports import free_port
from tests.operating.manager_process import ManagerProcess

POLL_S = 0.05


class WebhookDoor:
    """Forwards connections; entering opens it.

    Attributes:
        port: where it listens, on loopback.
        behind: managers, each with the port of its webhook.
    """

    def __init__(self) -> None:
        self.port = free_port()
        self.behind: dict[ManagerProcess, int] = {}
        self._ready: list[int] = []
        self._turns = itertools.count()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self._start(self._look())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _look(self) -> None:
        while True:
            self._ready = [port for manager, port in tuple(self.behind.items()) if await _is_ready(manager)]
            await asyncio.sleep(POLL_S)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._ready:
            writer.close()
            return
        port = self._ready[next(self._turns) % len(self._ready)]
        try:
            inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            writer.close()
            return
        self._start(_pump(reader, inner_writer))
        self._start(_pump(inner_reader, writer))

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _is_ready(manager: ManagerProcess) -> bool:
    if not manager.running:
        return False
    try:
        status, _ = await manager.get("/readyz")
    except (OSError, AssertionError):
        return False
    return status == 200


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
    finally:
        writer.close()
