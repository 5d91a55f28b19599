"""Group: tasks that a manager starts and stops together; a failure tells whose it is, a hanging one is abandoned."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from functools import partial
from types import FrameType
from typing import Any

from kaito.runtime.reconciler import NoException, is_about_the_process

log = logging.getLogger(__name__)

# So long before it is given up, a task is cancelled again.
LAST_CALL_S = 1.0

OnFailure = Callable[[str, Exception], None]


class Group:
    """Named tasks of one stage.

    Args:
        on_failure: told the name and the error of a member that failed, unless it was being stopped.
    """

    def __init__(self, on_failure: OnFailure) -> None:
        self._on_failure = on_failure
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._tasks

    def start(self, name: str, run: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Runs a member in a task of its own. One that has ended leaves the group by itself."""
        task = asyncio.get_running_loop().create_task(self._supervise(name, run), name=name)
        self._tasks[name] = task
        task.add_done_callback(partial(self._leave, name))
        return task

    async def stop(self, timeout_s: float, names: Iterable[str] | None = None) -> None:
        """Cancels members and waits until they have ended; those that do not in time are logged and left behind.

        Args:
            timeout_s: seconds, for all of them together.
            names: which; default all.
        """
        chosen = self._tasks.keys() if names is None else names
        tasks = [self._tasks[name] for name in list(chosen) if name in self._tasks]
        for task in await end(tasks, timeout_s):
            log.error(
                "did not end when cancelled, and is left behind",
                extra={"what": task.get_name(), "waited_s": timeout_s, "where": where(task)},
            )

    def _leave(self, name: str, task: asyncio.Task[None]) -> None:
        # Another of its name may have come while it was left behind.
        if self._tasks.get(name) is task:
            del self._tasks[name]

    async def _supervise(self, name: str, run: Awaitable[None]) -> None:
        try:
            await run
        except asyncio.CancelledError:
            if _is_cancelled():
                raise
            # Something that it waited for was cancelled, not the member itself.
            self._on_failure(name, RuntimeError("what it waited for was cancelled"))
        except BaseException as error:
            if is_about_the_process(error):
                raise
            if _is_cancelled():
                log.exception("failed while it was stopped", extra={"what": name})
            else:
                self._on_failure(name, error if isinstance(error, Exception) else NoException(error))


async def end(tasks: Iterable[asyncio.Task[None]], timeout_s: float) -> list[asyncio.Task[None]]:
    """Cancels tasks and waits; returns those that had not ended in time.

    Each is cancelled a second time shortly before the end: one may have swallowed the first, but often it cleans up,
    which must not be cut short.
    """
    pending = {task for task in tasks if not task.done()}
    last_s = min(LAST_CALL_S, timeout_s / 2)
    for wait_s in (timeout_s - last_s, last_s):
        if pending:
            for task in pending:
                task.cancel()
            _, pending = await asyncio.wait(pending, timeout=wait_s)
    return sorted(pending, key=lambda task: task.get_name())


def where(task: asyncio.Task[Any]) -> str:
    """The innermost line at which a task waits, as ``file:line in function``; empty if it cannot be told."""
    coroutine: object = task.get_coro()
    frame: FrameType | None = None
    while coroutine is not None:
        frame = getattr(coroutine, "cr_frame", None) or frame
        coroutine = getattr(coroutine, "cr_await", None)
    return "" if frame is None else f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_qualname}"


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
