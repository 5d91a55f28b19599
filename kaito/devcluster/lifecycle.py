"""Started: what starts and stops in blocking calls, used from a loop that goes on meanwhile."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self

from kaito.devcluster.progress import Progress


class Started(ABC):
    """An asynchronous context in which something runs; cancelled while it starts, it calls that off and leaves nothing.

    Args:
        progress: Where a start shows how far it is, and is called off.
    """

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress or Progress()

    @abstractmethod
    def start(self) -> None:
        """Returns when it can be used; on any error nothing is left."""

    @abstractmethod
    def stop(self) -> None:
        """Returns when it is gone; harmless if it does not run."""

    async def __aenter__(self) -> Self:
        starting = asyncio.ensure_future(asyncio.to_thread(self.start))
        try:
            await asyncio.shield(starting)
        except asyncio.CancelledError:
            self._progress.cancel()
            await asyncio.wait([starting])
            if starting.exception() is None:
                await asyncio.to_thread(self.stop)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await asyncio.shield(asyncio.to_thread(self.stop))
