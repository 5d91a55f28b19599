"""Renewer: where electors run: a thread, event loop and connections of their own, which no work can hold up."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Protocol, TypeAlias

from kaito.client.client import Client

log = logging.getLogger(__name__)

STOP_TIMEOUT_S = 5.0

Elect: TypeAlias = Callable[[Client], Coroutine[Any, Any, None]]
"""Runs an elector with the client that is for electors only."""


class Renewer(Protocol):
    """Runs electors."""

    async def run(self) -> None:
        """Runs until cancelled, electors included.

        Raises:
            ExceptionGroup: what electors raised.
        """
        ...

    async def start(self, elect: Elect, name: str) -> None:
        """Runs an elector; waits for `run` to have begun."""
        ...

    def call(self, function: Callable[[], None]) -> None:
        """Calls something where the electors run, soon. Does nothing if they do not run any more."""
        ...


class LoopRenewer:
    """A renewer in the event loop of its caller. Under virtual time, which has no threads, and inside `ThreadRenewer`.

    Args:
        client: for electors.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._begun = asyncio.Event()
        self._tasks = asyncio.TaskGroup()

    async def run(self) -> None:
        """See `Renewer.run`."""
        async with self._tasks:
            self._begun.set()
            await asyncio.get_running_loop().create_future()

    async def start(self, elect: Elect, name: str) -> None:
        """See `Renewer.start`."""
        await self._begun.wait()
        self.spawn(elect, name)

    def spawn(self, elect: Elect, name: str) -> None:
        """Runs an elector, once `run` has begun."""
        self._tasks.create_task(elect(self._client), name=name)

    def call(self, function: Callable[[], None]) -> None:
        """See `Renewer.call`."""
        function()


class ThreadRenewer:
    """A renewer in a thread of its own.

    Python's threads share one lock. From Python code that never ends the renewer gets its turn every 5 ms; one long
    call into C that keeps the lock (a regular expression over megabytes) holds it up too, and then the fence holds.

    Args:
        make_client: called in the thread; its connections are for electors alone, and closed with them.
        name: of the thread.
    """

    def __init__(self, make_client: Callable[[], Client], name: str) -> None:
        self._make_client = make_client
        self._name = name
        self._begun = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._inner: LoopRenewer | None = None
        self._serving: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """See `Renewer.run`. Cancelled, it waits some seconds at most for the thread to end."""
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        failure: list[BaseException] = []

        def work() -> None:
            try:
                asyncio.run(self._serve(lambda: loop.call_soon_threadsafe(self._begun.set)))
            except asyncio.CancelledError:
                pass
            except BaseException as error:
                failure.append(error)
            self._loop = None
            with suppress(RuntimeError):  # that loop was closed: nobody waits any more
                loop.call_soon_threadsafe(ended.set)

        # As a daemon, it keeps no process from ending.
        threading.Thread(target=work, name=self._name, daemon=True).start()
        try:
            await ended.wait()
        except asyncio.CancelledError:
            self.call(self._cancel)
            with suppress(TimeoutError):
                async with asyncio.timeout(STOP_TIMEOUT_S):
                    await ended.wait()
            raise
        if failure:
            raise failure[0]

    async def start(self, elect: Elect, name: str) -> None:
        """See `Renewer.start`."""
        await self._begun.wait()
        inner = self._inner
        if inner is not None:
            self.call(lambda: inner.spawn(elect, name))

    def call(self, function: Callable[[], None]) -> None:
        """See `Renewer.call`."""
        if (loop := self._loop) is not None:
            with suppress(RuntimeError):  # it was closed meanwhile
                loop.call_soon_threadsafe(function)

    def _cancel(self) -> None:
        if self._serving is not None:
            self._serving.cancel()

    async def _serve(self, begun: Callable[[], object]) -> None:
        self._loop, self._serving = asyncio.get_running_loop(), asyncio.current_task()
        async with self._make_client() as client:
            self._inner = LoopRenewer(client)
            # Called on this loop's next turn, when the renewer is up.
            self._loop.call_soon(begun)
            await self._inner.run()
