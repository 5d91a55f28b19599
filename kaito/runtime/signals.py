"""Signals: the first SIGTERM or SIGINT stops a manager in order, the second ends the process at once."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kaito.runtime.manager import Manager

log = logging.getLogger(__name__)

SIGNALS = (signal.SIGTERM, signal.SIGINT)


async def run_until_signal(manager: Manager) -> None:
    """Runs a manager until it ends or SIGTERM or SIGINT says so; for programs, in their main thread.

    Raises:
        ValueError: this is not the main thread.
        Exception: what `Manager.run` raises.
    """
    with stopped_by_signals(manager.stop):
        await manager.run()


@contextmanager
def stopped_by_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Inside, the first SIGTERM or SIGINT calls `stop` in the running loop; the next exits with 128 plus its number.

    The second one works while a reconciler blocks the loop, which handlers of the loop itself would not. What handled
    the signals before does so again afterwards.

    Args:
        stop: called from the loop, once.

    Raises:
        ValueError: this is not the main thread.
    """
    loop = asyncio.get_running_loop()
    seen: list[int] = []

    def handle(number: int, _: FrameType | None) -> None:
        if seen:
            os._exit(128 + number)
        seen.append(number)
        loop.call_soon_threadsafe(_begin_to_stop, number, stop)

    before = {number: signal.signal(number, handle) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _begin_to_stop(number: int, stop: Callable[[], None]) -> None:
    name = signal.Signals(number).name
    log.info("stopping in order; a second signal exits at once", extra={"signal": name})
    stop()
