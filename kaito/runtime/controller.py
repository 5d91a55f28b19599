"""Controller: watches feed a queue, workers take keys from it and reconcile."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
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
from kaito.informers.handlers import InformerEvent, Registration
from kaito.kube.object_key import ObjectKey
from kaito.kube.resource import Resource
from kaito.runtime.access import Access
from kaito.runtime.async_queue import AsyncQueue
from kaito.runtime.logs import enter_log_context, leave_log_context
from kaito.runtime.metrics import ControllerMetrics
from kaito.runtime.ratelimit import ExponentialRateLimiter, RateLimiter
from kaito.runtime.reconciler import KeyReconciler, ReconcileError, Reconciler, Result, TerminalError
from kaito.runtime.watch import AnyWatch, EventFilter
from kaito.runtime.workqueue import LOW_PRIORITY, Item

if TYPE_CHECKING:
    from kaito.runtime.manager import Manager

R = TypeVar("R", bound=Resource)

log = logging.getLogger(__name__)

# Reconciles that do nothing but read the cache, between two turns of the loop: some 2 ms.
SLICE = 32

# Nothing tells that a kind is missing; only at the start is it looked for.
MISSING_POLL_S = 0.1

# What happens in a healthy cluster; retried like any error, but no reason to wake a person.
EXPECTED_ERRORS = (Conflict, CacheNotSynced, TooManyRequests, ServiceUnavailable, TransportError)
# These say nothing about the object: once the API server is back, its key must not sit out what the outage added up to.
OUTAGE_ERRORS = (CacheNotSynced, ServiceUnavailable, TransportError)
OUTAGE_CAP_S = 5.0


class Controller(Generic[R]):
    """Reconciles the objects of one kind whenever they, or what concerns them, change.

    Args:
        kind: the class of its objects; what the queue's keys name.
        reconciler: what to do.
        name: in metrics and logs; default the kind in lower case. Unique in a manager.
        owns: kinds that it makes, with a controller owner reference to its object: their changes concern the owner.
        watches: further kinds whose changes concern its objects.
        needs: permissions beyond what watching needs.
        where: only events of its own kind that pass are looked at.
        optional: the cluster may not have its kind: it works once that is there, and readiness does not wait for it.
        concurrency: how many keys are worked on at once; one key never twice.
        rate_limiter: delays after failures; default exponential by key.
    """

    def __init__(
        self,
        kind: type[R],
        reconciler: Reconciler[R] | KeyReconciler,
        *,
        name: str | None = None,
        owns: Sequence[type[Resource]] = (),
        watches: Sequence[AnyWatch] = (),
        needs: Sequence[Access] = (),
        where: EventFilter[R] | None = None,
        optional: bool = False,
        concurrency: int = 1,
        rate_limiter: RateLimiter[ObjectKey] | None = None,
    ) -> None:
        if concurrency < 1:
            raise ValueError(f"Controller({kind.__name__}): concurrency is {concurrency}; at least 1 is needed")
        self.kind = kind
        self.reconciler = reconciler
        self.name = name or kind.resource_type.kind.lower()
        self.owns = tuple(owns)
        self.watches = tuple(watches)
        self.needs = tuple(needs)
        self.where = where
        self.optional = optional
        self.concurrency = concurrency
        self._rate_limiter = rate_limiter
        self._running: _Running[R] | None = None

    @property
    def kinds(self) -> tuple[type[Resource], ...]:
        """All kinds that it watches, its own first."""
        return (self.kind, *self.owns, *(watch.kind for watch in self.watches))

    @property
    def needed_kinds(self) -> frozenset[type[Resource]]:
        """The kinds without which it is not ready; of the others the cluster may not know."""
        watched = (watch.kind for watch in self.watches if not watch.optional)
        return frozenset((*(() if self.optional else (self.kind,)), *self.owns, *watched))

    @property
    def running(self) -> bool:
        """Whether it runs."""
        return self._running is not None

    @property
    def queue(self) -> AsyncQueue[ObjectKey]:
        """The queue, while it runs.

        Raises:
            RuntimeError: it does not run.
        """
        if self._running is None:
            raise RuntimeError(f"controller {self.name} does not run")
        return self._running.queue

    def bind(self, manager: Manager) -> None:
        """Declares its kinds and indexes to the manager's cache; `Manager.add` calls it."""
        for kind in self.kinds:
            manager.cache.informer(kind)
        for watch in self.watches:
            if watch.references is not None:
                values = _as_values(watch.references)
                manager.cache.add_index(self.kind, watch.index_name, _as_keys(values) if watch.by_key else values)

    async def run(self, manager: Manager) -> None:
        """Runs until cancelled: waits for its caches, then works. On cancellation the workers' tasks are cancelled."""
        limiter = self._rate_limiter or ExponentialRateLimiter(rng=manager.rng)
        metrics = ControllerMetrics(manager.metrics, self.name, self.concurrency)
        self._running = _Running(self, manager, limiter, metrics)
        try:
            await self._running.run()
        finally:
            self._running = None


class _Running(Generic[R]):
    """A controller at work."""

    def __init__(
        self,
        controller: Controller[R],
        manager: Manager,
        limiter: RateLimiter[ObjectKey],
        metrics: ControllerMetrics,
    ) -> None:
        self._controller = controller
        self._manager = manager
        self._limiter = limiter
        self._metrics = metrics
        self._outages: RateLimiter[ObjectKey] = ExponentialRateLimiter(cap_s=OUTAGE_CAP_S, rng=manager.rng)
        self._rng = manager.rng
        self.queue: AsyncQueue[ObjectKey] = AsyncQueue(metrics.queue)

    async def run(self) -> None:
        controller = self._controller
        registrations = list(self._subscribe())
        try:
            for kind in controller.kinds:
                await self._wait_for(kind)
            log.info("controller started", extra={"controller": controller.name, "workers": controller.concurrency})
            async with asyncio.TaskGroup() as workers:
                for number in range(controller.concurrency):
                    workers.create_task(self._work(), name=f"{controller.name} worker {number}")
        finally:
            self.queue.close()
            for registration in registrations:
                registration.remove()

    async def _wait_for(self, kind: type[Resource]) -> None:
        """Waits until a kind is synced, or found missing where it may be."""
        controller, informer = self._controller, self._manager.cache.informer(kind)
        if kind is controller.kind or kind in controller.needed_kinds:
            await informer.wait_synced()
        while not (informer.synced or informer.state.dormant):
            with suppress(TimeoutError):
                async with asyncio.timeout(MISSING_POLL_S):
                    await informer.wait_synced()

    def _subscribe(self) -> Iterable[Registration]:
        controller, cache = self._controller, self._manager.cache
        yield cache.informer(controller.kind).add_handler(self._on_own)
        for kind in controller.owns:
            yield cache.informer(kind).add_handler(self._on_owned)
        for watch in controller.watches:
            yield cache.informer(watch.kind).add_handler(self._handler_of(watch))

    def _on_own(self, event: InformerEvent[R]) -> None:
        if _passes(self._controller.where, event):
            self._enqueue(event, event.key)

    def _on_owned(self, event: InformerEvent[Resource]) -> None:
        owner_type = self._controller.kind.resource_type
        namespace = event.key.namespace if owner_type.namespaced else None
        for entry in (event.change.old, event.change.new):
            owner = entry.owner if entry is not None else None
            if owner is not None and (owner.group, owner.kind) == (owner_type.group, owner_type.kind):
                self._enqueue(event, ObjectKey(owner.name, namespace))

    def _handler_of(self, watch: AnyWatch) -> Callable[[InformerEvent[Resource]], None]:
        def handle(event: InformerEvent[Resource]) -> None:
            if not _passes(watch.where, event):
                return
            keys = {key for obj in _readable(event) for key in self._concerned(watch, obj)}
            for key in sorted(keys):
                self._enqueue(event, key)

        return handle

    def _concerned(self, watch: AnyWatch, obj: Resource) -> Iterable[ObjectKey]:
        if watch.map is not None:
            return watch.map(obj)
        informer = self._manager.cache.informer(self._controller.kind)
        values = _as_values(watch.by)(obj)
        found = {key for value in values for key, _ in informer.store.select([(watch.index_name, value)])}
        return [informer.object_key(key) for key in found]

    def _enqueue(self, event: InformerEvent[R] | InformerEvent[Resource], key: ObjectKey) -> None:
        self.queue.add(key, priority=LOW_PRIORITY if event.initial else 0)

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
            obj = await self._manager.client.get(controller.kind, key)
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


def _passes(where: EventFilter[R] | None, event: InformerEvent[R]) -> bool:
    """Whether an event is to be looked at; one that the filter cannot read is, or a mended object would go unseen."""
    try:
        return where is None or where(event)
    except ValidationError:
        return True


def _readable(event: InformerEvent[R]) -> Iterable[R]:
    """The old and the new object, as far as they are there and keep to their schema; what does not is counted."""
    for entry in (event.change.old, event.change.new):
        with suppress(ValidationError):
            if entry is not None:
                yield event.informer.decode(entry)


def _as_keys(values: Callable[[Resource], Iterable[str]]) -> Callable[[Resource], Iterable[str]]:
    """Names without a namespace are of objects in the namespace of the one that refers to them."""

    def keys(obj: Resource) -> Iterable[str]:
        own = obj.metadata.namespace
        return [name if own is None or "/" in name else f"{own}/{name}" for name in values(obj)]

    return keys


def _as_values(references: Callable[..., str | Iterable[str] | None]) -> Callable[[Resource], Iterable[str]]:
    def values(obj: Resource) -> Iterable[str]:
        found = references(obj)
        if not found:
            return ()
        return (found,) if isinstance(found, str) else tuple(found)

    return values
