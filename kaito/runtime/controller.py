"""Controller: watches feed a queue, workers take keys from it and reconcile; here is how one is declared and run."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Generic, TypeVar

from kaito.kube.object_key import ObjectKey
from kaito.kube.resource import Resource
from kaito.runtime.access import Access
from kaito.runtime.arguments import Arguments
from kaito.runtime.async_queue import AsyncQueue
from kaito.runtime.cancellation import CancelReason
from kaito.runtime.channel import AnyChannel, Channel
from kaito.runtime.elections import BeforeWork
from kaito.runtime.error_policy import ErrorPolicy, default_error_policy
from kaito.runtime.ratelimit import RateLimiter
from kaito.runtime.reconciler import KeyReconciler, Reconciler
from kaito.runtime.running import Phase, Running
from kaito.runtime.watch import AnyOwned, AnyWatch, EventFilter, Owned, Watch, as_keys, as_values
from kaito.runtime.workqueue import LOW_PRIORITY

if TYPE_CHECKING:
    from kaito.runtime.manager import Manager

R = TypeVar("R", bound=Resource)

SYNC_TIMEOUT = timedelta(minutes=2)
RECONCILE_TIMEOUT = timedelta(minutes=10)


class Controller(Generic[R]):
    """Reconciles the objects of one kind whenever they, or what concerns them, change.

    Args:
        kind: the class of its objects; what the queue's keys name.
        reconciler: what to do.
        name: in metrics and logs; default the kind in lower case. Unique in a manager.
        owns: kinds that it makes, with a controller owner reference to its object: their changes concern the owner; or
            `Owned`, which has a filter.
        watches: further kinds whose changes concern its objects.
        channels: events from elsewhere that concern them.
        needs: permissions beyond what watching needs.
        where: only events of its own kind that pass are looked at.
        optional: the cluster may not have its kind: it works once that is there, and readiness does not wait for it.
        concurrency: how many keys are worked on at once; one key never twice.
        rate_limiter: delays after failures; default exponential by key.
        reconcile_timeout: a reconcile that takes longer is cancelled and tried again like a failed one. Its place is
            free at once; its key stays taken until its task has really ended (see `stuck`). None: no limit. Default 10
            minutes.
        on_error: what follows from an Exception that a reconcile raised; default `default_error_policy`.
        sync_timeout: after this time, and each time it has passed again, a warning names the kinds that are not synced
            yet and why; it goes on waiting, since a restart would not help. Default 2 minutes.

    Raises:
        ValueError: an argument is out of its range.
        TypeError: an argument is of another type; the reconciler has neither ``reconcile`` nor ``reconcile_key``.
    """

    def __init__(
        self,
        kind: type[R],
        reconciler: Reconciler[R] | KeyReconciler,
        *,
        name: str | None = None,
        owns: Sequence[type[Resource] | AnyOwned] = (),
        watches: Sequence[AnyWatch] = (),
        channels: Sequence[AnyChannel] = (),
        needs: Sequence[Access] = (),
        where: EventFilter[R] | None = None,
        optional: bool = False,
        concurrency: int = 1,
        rate_limiter: RateLimiter[ObjectKey] | None = None,
        reconcile_timeout: timedelta | None = RECONCILE_TIMEOUT,
        on_error: ErrorPolicy = default_error_policy,
        sync_timeout: timedelta = SYNC_TIMEOUT,
    ) -> None:
        check = Arguments(f"Controller({getattr(kind, '__name__', kind)})")
        check.kinds("kind", (kind,))
        check.reconciler(reconciler)
        check.kinds("owns", owns, also=Owned)
        check.items("watches", watches, Watch, "Watch(Secret, map=…)")
        check.items("channels", channels, Channel, "Channel(…)")
        check.items("needs", needs, Access, 'Access(Secret, "get")')
        check.at_least_one("concurrency", concurrency)
        check.time("reconcile_timeout", reconcile_timeout)
        check.time("sync_timeout", sync_timeout)
        self.kind = kind
        self.reconciler = reconciler
        self.name = name or kind.resource_type.kind.lower()
        self.owned = tuple(each if isinstance(each, Owned) else Owned(each) for each in owns)
        self.owns: tuple[type[Resource], ...] = tuple(each.kind for each in self.owned)
        self.watches = tuple(watches)
        self.channels = tuple(channels)
        self.needs = tuple(needs)
        self.where = where
        self.optional = optional
        self.concurrency = concurrency
        self.rate_limiter = rate_limiter
        self.reconcile_timeout = reconcile_timeout
        self.on_error = on_error
        self.sync_timeout = sync_timeout
        self._running: Running[R] | None = None

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
        """Whether it runs: `phase` is any but stopped."""
        return self._running is not None

    @property
    def phase(self) -> Phase:
        """Where it is."""
        return self._running.phase if self._running is not None else Phase.STOPPED

    @property
    def queue(self) -> AsyncQueue[ObjectKey]:
        """The queue, while it runs.

        Raises:
            RuntimeError: it does not run.
        """
        return self._now_running().queue

    def enqueue(self, key: ObjectKey, *, priority: int = 0) -> None:
        """Has a key reconciled, as an event of it would.

        Raises:
            RuntimeError: it does not run.
            TypeError: that is no ObjectKey.
        """
        if not isinstance(key, ObjectKey):
            raise TypeError(f"controller {self.name}: {key!r} is no ObjectKey; give ObjectKey(name, namespace)")
        self.queue.add(key, priority=priority)

    async def enqueue_all(self, *, priority: int = LOW_PRIORITY) -> None:
        """Has all objects of its kind that are in the cache reconciled, behind what live events ask for.

        For when something changed that none of them tells of, such as a configuration. The loop is not held up. A
        cancellation leaves those that were added.

        Raises:
            RuntimeError: it does not run.
        """
        await self._now_running().sources.enqueue_all(priority)

    def stuck(self) -> list[tuple[ObjectKey, float]]:
        """Keys whose reconcile was cancelled since it timed out, and goes on: they get no other until it ends.

        Returns:
            Each with the seconds since it began.
        """
        return self._running.workers.stuck() if self._running is not None else []

    def bind(self, manager: Manager) -> None:
        """Declares its kinds and indexes to the manager's cache; `Manager.add` calls it. Can be done again."""
        cache = manager.cache
        for kind in self.kinds:
            cache.informer(kind)
        for watch in self.watches:
            if watch.references is not None and not cache.informer(self.kind).store.has_index(watch.index_name):
                values = as_values(watch.references)
                cache.add_index(self.kind, watch.index_name, as_keys(values) if watch.by_key else values)

    async def run(self, manager: Manager, before_work: BeforeWork | None = None) -> None:
        """Runs until it is cancelled, or until its work in progress has ended after `stop_intake`. It can run again.

        From the start on its queue fills. Once its kinds are synced it awaits `before_work`, then starts its workers,
        all in the calling task: context variables that `before_work` sets are the workers' too.

        On cancellation the workers' tasks are cancelled and waited for. However it ends, handlers are removed, what was
        queued is dropped (the next run begins with all objects), and its gauges are 0.

        Args:
            manager: what it was added to.
            before_work: what must come first, such as being elected; not called if the intake was stopped before.

        Raises:
            RuntimeError: it runs already.
            Exception: what `before_work` raised.
        """
        if self._running is not None:
            raise RuntimeError(f"controller {self.name} runs already; stop it first")
        self._running = Running(self, manager)
        try:
            await self._running.run(before_work)
        finally:
            self._running = None

    def stop_intake(self, reason: CancelReason = CancelReason.SHUTDOWN) -> None:
        """Takes in and hands out nothing any more; what is being worked on goes on. No effect while it does not run.

        A run that waits (for a kind, or for leave to work) goes on waiting until it is cancelled.

        Args:
            reason: what reconciles are told (`cancel_reason`) that are cancelled from now on.
        """
        if self._running is not None:
            self._running.stop_intake(reason)

    async def wait_idle(self) -> None:
        """Waits, without a limit, until no key is being worked on, by tasks that timed out included."""
        if self._running is not None:
            await self._running.queue.wait_idle()

    def _now_running(self) -> Running[R]:
        if self._running is None:
            raise RuntimeError(f"controller {self.name} does not run")
        return self._running
