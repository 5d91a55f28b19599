"""Workers: take keys from a controller's queue, reconcile them, and draw what follows from each outcome."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Generic, TypeVar
from uuid import UUID

from pydantic import ValidationError

from kaito.client.errors import (
    CacheNotSynced,
    Conflict,
    KubeError,
    NotFound,
    ServiceUnavailable,
    TooManyRequests,
    TransportError,
)
from kaito.kube.object_key import ObjectKey
from kaito.kube.resource import Resource
from kaito.runtime.async_queue import AsyncQueue
from kaito.runtime.logs import enter_log_context, leave_log_context
from kaito.runtime.metrics import ControllerMetrics
from kaito.runtime.ratelimit import ExponentialRateLimiter, RateLimiter
from kaito.runtime.reconciler import ReconcileError, Result, TerminalError
from kaito.runtime.workqueue import Item

if TYPE_CHECKING:
    from kaito.runtime.controller import Controller
    from kaito.runtime.manager import Manager

R = TypeVar("R", bound=Resource)

log = logging.getLogger(__name__)

# Reconciles that do nothing but read the cache, between two turns of the loop: some 2 ms.
SLICE = 32

# What happens in a healthy cluster; retried like any error, but no reason to wake a person.
EXPECTED_ERRORS = (Conflict, CacheNotSynced, TooManyRequests, ServiceUnavailable, TransportError)
# These say nothing about the object: once the API server is back, its key must not sit out what the outage added up to.
OUTAGE_ERRORS = (CacheNotSynced, ServiceUnavailable, TransportError)
OUTAGE_CAP_S = 5.0


class Workers(Generic[R]):
    """The workers of one run of a controller.

    Args:
        controller: whose reconciler they call, and how many there are.
        manager: whose client reads the objects.
        queue: where keys come from; closing it ends the workers.
        metrics: told of each outcome.
    """

    def __init__(
        self,
        controller: Controller[R],
        manager: Manager,
        queue: AsyncQueue[ObjectKey],
        metrics: ControllerMetrics,
    ) -> None:
        self._controller = controller
        self._client = manager.client
        self._rng = manager.rng
        self.queue = queue
        self._metrics = metrics
        self._limiter = controller.rate_limiter or ExponentialRateLimiter(rng=manager.rng)
        self._outages: RateLimiter[ObjectKey] = ExponentialRateLimiter(cap_s=OUTAGE_CAP_S, rng=manager.rng)

    async def run(self) -> None:
        """Works until the queue is closed. Cancellation cancels what is being worked on, and waits for its end."""
        controller = self._controller
        async with asyncio.TaskGroup() as workers:
            for number in range(controller.concurrency):
                workers.create_task(self._work(), name=f"{controller.name} worker {number}")

    def close(self) -> None:
        """Forgets all keys."""

    async def _work(self) -> None:
        taken = 0
        # Workers that never wait take their turns one after the other, within one turn of the loop.
        turn = max(1, SLICE // self._controller.concurrency)
        while (item := await self.queue.get()) is not None:
            taken += 1
            if taken % turn == 0:
                # Neither a queue with something in it nor a cached read suspends: a full queue would hold the loop.
                await asyncio.sleep(0)
            self._metrics.active.inc()
            began = time.perf_counter()
            try:
                await self._reconcile(item)
            finally:
                self._metrics.active.dec()
                self._metrics.seconds.observe(time.perf_counter() - began)
                self.queue.done(item.key)

    async def _reconcile(self, item: Item[ObjectKey]) -> None:
        """One reconcile and what follows from its outcome; each metric beside its branch."""
        context = enter_log_context(_LogFields(self._controller.name, item.key, self._rng.getrandbits(128)))
        try:
            result = await self._call(item.key)
        except TerminalError as error:
            self._metrics.terminal.inc()
            self._count_error()
            log.error("reconcile failed for good", extra={"error": str(error)})
        except asyncio.CancelledError as error:
            if _is_cancelled():
                raise
            # Something that the reconciler waited for was cancelled, not the worker, which must live on.
            self._count_error()
            self._retry(item, error)
        except Exception as error:
            self._count_error()
            self._retry(item, error)
        else:
            self._finish(item, result)
        finally:
            leave_log_context(context)

    async def _call(self, key: ObjectKey) -> Result:
        controller = self._controller
        reconciler = controller.reconciler
        if not hasattr(reconciler, "reconcile"):
            try:
                return _checked(await reconciler.reconcile_key(key), reconciler)
            except ValidationError as error:
                raise TerminalError(
                    f"{controller.kind.__name__} {key}: what it needs cannot be read: {error}"
                ) from error
        try:
            obj = await self._client.get(controller.kind, key)
        except NotFound:
            return Result()
        except ValidationError as error:
            raise TerminalError(f"{controller.kind.__name__} {key} cannot be read: {error}") from error
        return _checked(await reconciler.reconcile(obj), reconciler)

    def _finish(self, item: Item[ObjectKey], result: Result) -> None:
        self._limiter.forget(item.key)
        self._outages.forget(item.key)
        if result.requeue_after is None:
            self._metrics.success.inc()
            return
        self._metrics.requeue_after.inc()
        priority = item.priority if result.priority is None else result.priority
        self.queue.add_after(item.key, result.requeue_after.total_seconds(), priority=priority)

    def _count_error(self) -> None:
        self._metrics.error.inc()
        self._metrics.errors.inc()

    def _retry(self, item: Item[ObjectKey], error: BaseException) -> None:
        limiter = self._outages if isinstance(error, OUTAGE_ERRORS) else self._limiter
        delay_s = limiter.delay_s(item.key)
        asked_s = getattr(error, "retry_after_s", None) or 0.0
        failures = limiter.failures(item.key)
        self.queue.add_after(item.key, max(delay_s, asked_s), priority=item.priority)
        fields = {"error": str(error), "failures": failures, "retry_in_s": round(max(delay_s, asked_s), 3)}
        if isinstance(error, EXPECTED_ERRORS):
            log.info("reconcile to be tried again", extra=fields)
            return
        if isinstance(error, (KubeError, ReconcileError)):
            log.warning("reconcile failed", extra=fields)
            return
        self._metrics.panics.inc()
        log.error("reconcile failed unexpectedly", extra=fields, exc_info=error)


class _LogFields(Mapping[str, object]):
    """What the records of one reconcile say of it; texts are made when there is a record."""

    __slots__ = ("_bits", "_controller", "_key")

    def __init__(self, controller: str, key: ObjectKey, bits: int) -> None:
        self._controller = controller
        self._key = key
        self._bits = bits

    def _fields(self) -> dict[str, object]:
        reconcile_id = UUID(int=self._bits, version=4)
        return {"controller": self._controller, "key": str(self._key), "reconcile_id": reconcile_id}

    def __getitem__(self, name: str) -> object:
        return self._fields()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields())

    def __len__(self) -> int:
        return len(self._fields())


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _checked(result: object, reconciler: object) -> Result:
    if not isinstance(result, Result):
        raise TypeError(f"{type(reconciler).__name__} returned {result!r}: return DONE, or another Result")
    return result
