"""Workers: take keys from a controller's queue and reconcile them; a reconcile that takes too long loses its worker."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Awaitable
from inspect import isawaitable
from types import CoroutineType
from typing import TYPE_CHECKING, Generic, TypeVar

from pydantic import ValidationError

from kaito.client.errors import NotFound
from kaito.client.transport import Request
from kaito.kube.object_key import ObjectKey
from kaito.kube.resource import Resource
from kaito.runtime.async_queue import AsyncQueue, clock_of
from kaito.runtime.cancellation import CancelReason, current_work
from kaito.runtime.logs import ReconcileFields, enter_log_context, leave_log_context
from kaito.runtime.metrics import ControllerMetrics
from kaito.runtime.outcomes import Outcomes
from kaito.runtime.reconciler import (
    NoException,
    ReconcileTimeout,
    Result,
    StrayCancellation,
    TerminalError,
    is_about_the_process,
)
from kaito.runtime.workqueue import Item

if TYPE_CHECKING:
    from kaito.runtime.controller import Controller
    from kaito.runtime.manager import Manager

R = TypeVar("R", bound=Resource)

log = logging.getLogger(__name__)

# Reconciles that do nothing but read the cache, between two turns of the loop: some 2 ms.
SLICE = 32


class _Worker:
    """One worker, and what it is at.

    Attributes:
        task: its task.
        item: what it works on; None: nothing.
        began_at: since when; a time of `clock_of` the loop.
        dirty_since: when the first event came that this reconcile handles; None: there was none.
        timed_out: whether it was cancelled since it took too long: another worker has its place.
        wrote: the last write of the reconcile in progress.
    """

    __slots__ = ("_workers", "began_at", "dirty_since", "item", "task", "timed_out", "wrote")

    def __init__(self, workers: Workers[R]) -> None:
        self._workers = workers
        self.task: asyncio.Task[None]
        self.item: Item[ObjectKey] | None = None
        self.began_at = 0.0
        self.dirty_since: float | None = None
        self.timed_out = False
        self.wrote: Request | None = None

    @property
    def cancel_reason(self) -> CancelReason | None:
        """See `kaito.runtime.cancellation.cancel_reason`."""
        if self.is_stopped:
            return self._workers.reason or CancelReason.SHUTDOWN
        return CancelReason.TIMEOUT if self.timed_out else None

    @property
    def is_stopped(self) -> bool:
        """Whether it was cancelled by anything but its timeout."""
        return self.task.cancelling() > self.timed_out


class Workers(Generic[R]):
    """The workers of one run of a controller.

    Args:
        controller: whose reconciler they call, and how many there are.
        manager: whose client reads the objects.
        queue: where keys come from; closing it ends the workers.
        dirty: since when keys have had events that no reconcile has handled; taken from here, and put back by failures.
        metrics: told of each outcome.

    Attributes:
        reason: why reconciles are cancelled, if they are, but for those that time out.
    """

    def __init__(
        self,
        controller: Controller[R],
        manager: Manager,
        queue: AsyncQueue[ObjectKey],
        dirty: dict[ObjectKey, float],
        metrics: ControllerMetrics,
    ) -> None:
        self._controller = controller
        self._client = manager.client
        self._rng = manager.rng
        self._queue = queue
        self._dirty = dirty
        self._metrics = metrics
        self._outcomes = Outcomes(controller, queue, dirty, metrics, manager.rng)
        timeout = controller.reconcile_timeout
        self._timeout_s = timeout.total_seconds() if timeout is not None else None
        self._timer: asyncio.TimerHandle | None = None
        self._workers: dict[asyncio.Task[None], _Worker] = {}
        self._ended: asyncio.Future[None]
        self._context: contextvars.Context
        self._stopping = False
        self.reason: CancelReason | None = None

    async def run(self) -> None:
        """Works until the queue is closed and what was begun has ended.

        On cancellation what is being worked on is cancelled and waited for; another cancellation is passed on to it.

        Raises:
            Exception: what a reconcile raised, if the controller's `on_error` says so.
        """
        loop = asyncio.get_running_loop()
        self._now = clock_of(loop)
        self._ended = loop.create_future()
        self._context = contextvars.copy_context()
        for _ in range(self._controller.concurrency):
            self._start_worker()
        try:
            await self._ended
        finally:
            await self._stop()

    def close(self) -> None:
        """Forgets what it knows of keys."""
        self._outcomes.close()

    def stuck(self) -> list[tuple[ObjectKey, float]]:
        """Keys whose reconcile timed out and has not ended yet, and for how many seconds it has run."""
        now = self._now()
        late = (worker for worker in self._workers.values() if worker.timed_out)
        return [(worker.item.key, now - worker.began_at) for worker in late if worker.item is not None]

    async def _stop(self) -> None:
        self._stopping = True
        # Or a worker whose reconcile ignored its cancellation would take the next key.
        self._queue.close()
        if self._timer is not None:
            self._timer.cancel()
        cancelled: asyncio.CancelledError | None = None
        while self._workers:
            for task in self._workers:
                task.cancel()
            try:
                await asyncio.wait(self._workers)
            except asyncio.CancelledError as error:
                cancelled = error
        if cancelled is not None:
            raise cancelled

    def _start_worker(self) -> None:
        worker = _Worker(self)
        context = self._context.copy()
        context.run(current_work.set, worker)
        name = f"{self._controller.name} worker"
        task = asyncio.get_running_loop().create_task(self._work(worker), name=name, context=context)
        worker.task = task
        self._workers[task] = worker
        task.add_done_callback(self._worker_ended)

    def _worker_ended(self, task: asyncio.Task[None]) -> None:
        worker = self._workers.pop(task)
        error = None if task.cancelled() else task.exception()
        if self._ended.done():
            return
        if error is not None:
            self._ended.set_exception(error)
        elif task.cancelled() and not self._stopping and not worker.timed_out:
            # A reconciler cancelled its own task: that costs it its worker, and nobody else a place.
            self._start_worker()
        elif not self._workers:
            self._ended.set_result(None)

    async def _work(self, worker: _Worker) -> None:
        taken = 0
        # Workers that never wait take their turns one after the other, within one turn of the loop.
        turn = max(1, SLICE // self._controller.concurrency)
        while not worker.timed_out:
            taken += 1
            if taken % turn == 0:
                # Neither a queue with something in it nor a cached read suspends: a full queue would hold the loop.
                await asyncio.sleep(0)
            if (item := await self._queue.get()) is None:
                return
            worker.item, worker.wrote = item, None
            worker.dirty_since = self._dirty.pop(item.key, None)
            worker.began_at = self._now()
            if self._timer is None and self._timeout_s is not None:
                self._set_timer(worker.began_at + self._timeout_s)
            self._metrics.active.inc()
            try:
                await self._reconcile(worker, item)
            finally:
                worker.item = None
                if not worker.timed_out:
                    self._metrics.active.dec()
                self._metrics.seconds.observe(self._now() - worker.began_at)
                self._queue.done(item.key)

    async def _reconcile(self, worker: _Worker, item: Item[ObjectKey]) -> None:
        """One reconcile; what follows from its outcome is `Outcomes`'."""
        context = enter_log_context(ReconcileFields(self._controller.name, item.key, self._rng.getrandbits(128)))
        try:
            result = await self._call(item.key)
        except asyncio.CancelledError as error:
            if self._stopping and worker.is_stopped:
                log.info("reconcile cancelled", extra={"reason": str(worker.cancel_reason)})
                raise
            self._outcomes.failed(item, worker.dirty_since, self._of_cancellation(worker, error))
            if worker.is_stopped:
                # It cancelled its own task, which ends; another takes its place.
                raise
        except Exception as error:
            self._outcomes.failed(item, worker.dirty_since, error)
        except BaseException as error:
            if is_about_the_process(error):
                raise
            self._outcomes.failed(item, worker.dirty_since, NoException(error))
        else:
            if worker.timed_out:
                self._outcomes.failed(item, worker.dirty_since, self._timeout())
            else:
                self._outcomes.succeeded(item, worker.dirty_since, result, worker.wrote, self._now())
        finally:
            leave_log_context(context)

    def _of_cancellation(self, worker: _Worker, cancellation: asyncio.CancelledError) -> Exception:
        if worker.timed_out:
            return self._timeout()
        stray = StrayCancellation("something that the reconcile waited for was cancelled, but not the reconcile")
        stray.__cause__ = cancellation
        return stray

    def _timeout(self) -> ReconcileTimeout:
        return ReconcileTimeout(f"it did not end within {self._timeout_s:g} s and was cancelled")

    async def _call(self, key: ObjectKey) -> Result:
        kind = self._controller.kind
        reconciler = self._controller.reconciler
        if not hasattr(reconciler, "reconcile"):
            called = reconciler.reconcile_key(key)
            try:
                return _checked(await _awaitable(called, reconciler), reconciler)
            except ValidationError as error:
                raise TerminalError(f"{kind.__name__} {key}: what it needs cannot be read: {error}") from error
        try:
            obj = await self._client.get(kind, key)
        except NotFound:
            return Result()
        except ValidationError as error:
            raise TerminalError(f"{kind.__name__} {key} cannot be read: {error}") from error
        return _checked(await _awaitable(reconciler.reconcile(obj), reconciler), reconciler)

    def _set_timer(self, due: float) -> None:
        wait_s = max(0.0, due - self._now())
        self._timer = asyncio.get_running_loop().call_later(wait_s, self._look_for_timeouts, context=self._context)

    def _look_for_timeouts(self) -> None:
        """One timer for all workers: a timer for each reconcile would cost each of them."""
        self._timer = None
        assert self._timeout_s is not None
        now, next_due = self._now(), None
        for worker in list(self._workers.values()):
            if worker.item is None or worker.timed_out:
                continue
            due = worker.began_at + self._timeout_s
            if due <= now:
                self._time_out(worker, worker.item.key)
            elif next_due is None or due < next_due:
                next_due = due
        if next_due is not None:
            self._set_timer(next_due)

    def _time_out(self, worker: _Worker, key: ObjectKey) -> None:
        """Frees the worker's place at once; its key is free when its task has really ended."""
        worker.timed_out = True
        self._metrics.timeouts.inc()
        self._metrics.active.dec()
        fields = {"controller": self._controller.name, "key": str(key), "timeout_s": self._timeout_s}
        log.warning("reconcile timed out and is cancelled", extra=fields)
        worker.task.cancel()
        if not self._stopping:
            self._start_worker()


def _awaitable(called: Awaitable[object], reconciler: object) -> Awaitable[object]:
    if type(called) is not CoroutineType and not isawaitable(called):
        raise TypeError(f"{type(reconciler).__name__} returned {called!r} at once: declare its method with async def")
    return called


def _checked(result: object, reconciler: object) -> Result:
    if not isinstance(result, Result):
        raise TypeError(f"{type(reconciler).__name__} returned {result!r}: return DONE, or another Result")
    return result
