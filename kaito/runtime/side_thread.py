"""SideThread: a thread with an event loop of its own, for what must go on while the main loop is blocked."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")

log = logging.getLogger(__name__)

START_TIMEOUT_S = 10.0
JOIN_POLL_S = 0.01


class Unanswered(Exception):
    """The main loop did not answer in time: it is blocked, or has ended."""


class MainLoop:
    """The manager's event loop, as another thread's sees it. Made in the main loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()

    async def ask(self, question: Callable[[], T], timeout_s: float) -> T:
        """Calls a function in the main loop and waits for what it returns; what it raises, this raises.

        Raises:
            Unanswered: the main loop did not come to it in time; it will not be called any more.
        """

        async def call() -> T:
            return question()

        return await self.wait_for(call, timeout_s)

    async def wait_for(self, question: Callable[[], Coroutine[Any, Any, T]], timeout_s: float) -> T:
        """The same for a coroutine function, whose coroutine is cancelled if it takes too long."""
        answer: Future[T] = Future()
        try:
            self._loop.call_soon_threadsafe(_answer, answer, question)
        except RuntimeError as error:
            raise Unanswered("the event loop has ended") from error
        try:
            async with asyncio.timeout(timeout_s):
                return await asyncio.wrap_future(answer)
        except TimeoutError as error:
            if answer.done() and not answer.cancelled():
                raise
            raise Unanswered(f"the event loop has not answered for {timeout_s} s") from error


def _answer(answer: Future[T], question: Callable[[], Coroutine[Any, Any, T]]) -> None:
    """Runs in the main loop. A caller that has gone away cancels the answer, and by that the task."""
    if answer.cancelled():
        return
    task = asyncio.get_running_loop().create_task(question(), name="answer to a probe")

    def passed_on(done: asyncio.Task[T]) -> None:
        if answer.cancelled() or not answer.set_running_or_notify_cancel():
            return
        if done.cancelled():
            answer.set_exception(Unanswered("the event loop is ending"))
        elif (error := done.exception()) is not None:
            answer.set_exception(error)
        else:
            answer.set_result(done.result())

    task.add_done_callback(passed_on)
    loop = asyncio.get_running_loop()

    def given_up(_: Future[T]) -> None:
        if answer.cancelled():
            loop.call_soon_threadsafe(task.cancel)

    answer.add_done_callback(given_up)


class SideThread:
    """Runs a coroutine in a thread with an event loop; not a daemon, so whoever starts it stops it.

    Args:
        name: of the thread.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None

    def start(self, enter: Callable[[], Awaitable[None]], stay: Callable[[asyncio.Event], Awaitable[None]]) -> None:
        """Starts the thread and waits, blocking, until `enter` has been done there.

        Args:
            enter: done first; what it raises is raised here, and the thread has ended then.
            stay: runs until the event that it is given is set.
        """
        entered: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, args=(enter, stay, entered), name=self._name)
        self._thread.start()
        try:
            entered.result(START_TIMEOUT_S)
        except BaseException:
            self._thread.join()
            self._thread = None
            raise

    async def stop(self) -> None:
        """Ends the thread and waits for that without holding the loop up. Does nothing if there is none."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        if self._loop is not None and self._stopping is not None:
            try:
                self._loop.call_soon_threadsafe(self._stopping.set)
            except RuntimeError:
                log.debug("the thread has ended by itself", extra={"thread": self._name})
        # Usually it takes less than a millisecond: not worth a turn of the loop, whose clock may be a virtual one.
        thread.join(JOIN_POLL_S)
        while thread.is_alive():  # noqa: ASYNC110 - a virtual clock's loop cannot be woken by a thread
            await asyncio.sleep(JOIN_POLL_S)
        thread.join()

    def _run(
        self,
        enter: Callable[[], Awaitable[None]],
        stay: Callable[[asyncio.Event], Awaitable[None]],
        entered: Future[None],
    ) -> None:
        async def main() -> None:
            self._loop = asyncio.get_running_loop()
            self._stopping = asyncio.Event()
            try:
                await enter()
            except BaseException as error:
                entered.set_exception(error)
                return
            entered.set_result(None)
            try:
                await stay(self._stopping)
            except Exception:
                log.exception("a thread failed", extra={"thread": self._name})

        asyncio.run(main())
