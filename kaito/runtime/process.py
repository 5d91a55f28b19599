"""Process: runs a manager as all that a process does, and ends it though something in it ignores its end."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
from collections.abc import Coroutine
from typing import Any

from kaito.runtime.groups import where

log = logging.getLogger(__name__)

LEFT_S = 5.0


def run_process(main: Coroutine[Any, Any, None], *, left_s: float = LEFT_S) -> None:
    """`asyncio.run` for a program: what goes on after `main` has ended holds the process up no longer than `left_s`.

    `asyncio.run` cancels such tasks, and then waits for them, and for threads of `asyncio.to_thread`, without a limit:
    a reconciler that ignores its cancellation would keep a process that serves nothing any more, and its Leases. Those
    that are left are logged, and the process exits with code 1.

    Args:
        main: what is run.
        left_s: seconds that tasks and threads which are left then have.

    Raises:
        Exception: what `main` raised.
    """
    timer: threading.Timer | None = None

    async def bounded() -> None:
        nonlocal timer
        try:
            await main
        finally:
            timer = threading.Timer(left_s, _exit, (asyncio.get_running_loop(), sys.exception(), left_s))
            timer.daemon = True
            timer.start()

    try:
        asyncio.run(bounded())
    finally:
        if timer is not None:
            timer.cancel()
            timer.join()


def _exit(loop: asyncio.AbstractEventLoop, error: BaseException | None, waited_s: float) -> None:
    try:
        _tell(loop, error, waited_s)
    finally:
        os._exit(1)


def _tell(loop: asyncio.AbstractEventLoop, error: BaseException | None, waited_s: float) -> None:
    left = [f"task {task.get_name()} at {where(task)}" for task in asyncio.all_tasks(loop)]
    left += [f"thread {thread.name}" for thread in threading.enumerate() if thread.name.startswith("asyncio_")]
    fields = {"left": "; ".join(sorted(left)), "waited_s": waited_s, "error": str(error or "")}
    log.error("something does not end although the manager has: the process exits", extra=fields)
    logging.shutdown()
