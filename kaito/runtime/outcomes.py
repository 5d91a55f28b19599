"""Outcomes: what follows from how a reconcile ended; each metric beside its branch."""

from __future__ import annotations

import logging
import math
import random
from typing import TYPE_CHECKING, Generic, TypeVar, assert_never

from kaito.client.transport import Request
from kaito.kube.object_key import ObjectKey
from kaito.kube.resource import Resource
from kaito.runtime.async_queue import AsyncQueue
from kaito.runtime.error_policy import OUTAGE_ERRORS, ErrorAction, FailureLog, is_power_of_two
from kaito.runtime.hot_loop import SOON_S, HotLoops
from kaito.runtime.metrics import ControllerMetrics
from kaito.runtime.ratelimit import ExponentialRateLimiter, RateLimiter
from kaito.runtime.reconciler import Result
from kaito.runtime.workqueue import Item

if TYPE_CHECKING:
    from kaito.runtime.controller import Controller

R = TypeVar("R", bound=Resource)

log = logging.getLogger(__name__)

OUTAGE_CAP_S = 5.0


class Outcomes(Generic[R]):
    """Draws the consequences: retries, requeues, counts, log lines.

    Args:
        controller: whose `on_error` decides about errors, and whose rate limiter about delays.
        queue: where keys that are to come back go.
        dirty: since when keys have had events that no reconcile has handled; a failure leaves them unhandled.
        metrics: told of each outcome.
        rng: source of jitter.
    """

    def __init__(
        self,
        controller: Controller[R],
        queue: AsyncQueue[ObjectKey],
        dirty: dict[ObjectKey, float],
        metrics: ControllerMetrics,
        rng: random.Random,
    ) -> None:
        self._policy = controller.on_error
        self._queue = queue
        self._dirty = dirty
        self._metrics = metrics
        self._rng = rng
        self._limiter = controller.rate_limiter or ExponentialRateLimiter(rng=rng)
        self._outages: RateLimiter[ObjectKey] = ExponentialRateLimiter(cap_s=OUTAGE_CAP_S, rng=rng)
        self._limiter_faults = 0
        self._failures: FailureLog[ObjectKey] = FailureLog()
        self._hot_loops = HotLoops(controller.name, metrics.hot_loops)

    def close(self) -> None:
        """Forgets the failures of all keys, in a rate limiter of the controller's own too."""
        for key in self._failures.failing():
            self._limiter.forget(key)

    def succeeded(
        self, item: Item[ObjectKey], dirty_since: float | None, result: Result, wrote: Request | None, now: float
    ) -> None:
        """A reconcile returned."""
        self._limiter.forget(item.key)
        self._outages.forget(item.key)
        self._failures.succeeded(item.key)
        if dirty_since is not None:
            self._metrics.event_to_reconcile.observe(now - dirty_since)
        if result.requeue_after is None:
            self._metrics.success.inc()
            if wrote is not None:
                self._hot_loops.count(item.key, now, wrote)
            return
        self._metrics.requeue_after.inc()
        after_s = result.requeue_after.total_seconds()
        if result.jitter:
            after_s *= 1 + result.jitter * self._rng.random()
        if wrote is not None or after_s < SOON_S:
            self._hot_loops.count(item.key, now, wrote)
        self._queue.add_after(item.key, after_s, priority=item.priority if result.priority is None else result.priority)

    def failed(self, item: Item[ObjectKey], dirty_since: float | None, error: Exception) -> None:
        """A reconcile raised, or took too long.

        Raises:
            Exception: the error, if the policy says so.
        """
        self._metrics.error.inc()
        self._metrics.errors.inc()
        action, error = self._judge(error)
        level = self._failures.failed(item.key, error, action)
        match action:
            case ErrorAction.RAISE:
                raise error
            case ErrorAction.TERMINAL:
                self._metrics.terminal.inc()
                log.log(level, "reconcile failed for good", extra=self._fields(item.key, error))
                return
            case ErrorAction.BUG:
                self._metrics.panics.inc()
                message = "reconcile failed unexpectedly"
            case ErrorAction.RETRY:
                message = "reconcile failed"
            case ErrorAction.EXPECTED:
                message = "reconcile to be tried again"
            case _:
                assert_never(action)
        wait_s = self._retry(item, dirty_since, error)
        fields = {**self._fields(item.key, error), "retry_in_s": round(wait_s, 3)}
        log.log(level, message, extra=fields, exc_info=error if action is ErrorAction.BUG else None)

    def _retry(self, item: Item[ObjectKey], dirty_since: float | None, error: Exception) -> float:
        if dirty_since is not None:
            # Earlier than that of any event that came meanwhile.
            self._dirty[item.key] = dirty_since
        limiter = self._outages if isinstance(error, OUTAGE_ERRORS) else self._limiter
        asked_s = getattr(error, "retry_after_s", None)
        wait_s = max(self._delay_s(item.key, limiter), asked_s if isinstance(asked_s, (int, float)) else 0.0)
        self._queue.add_after(item.key, wait_s, priority=item.priority)
        return wait_s

    def _delay_s(self, key: ObjectKey, limiter: RateLimiter[ObjectKey]) -> float:
        """What a limiter says; it may be a controller's own, and wrong: that costs neither worker nor loop."""
        try:
            delay_s = limiter.delay_s(key)
            if 0 <= delay_s < math.inf:
                return delay_s
            why = f"it returned {delay_s!r}; return seconds, 0 or more"
        except Exception as error:
            why = f"it raised {error!r}"
        self._limiter_faults += 1
        if is_power_of_two(self._limiter_faults):
            log.error("rate limiter failed", extra={"error": f"{type(limiter).__name__}.delay_s: {why}"})
        return self._outages.delay_s(key)

    def _fields(self, key: ObjectKey, error: Exception) -> dict[str, object]:
        return {"error": str(error) or repr(error), "failures": self._failures.failures(key)}

    def _judge(self, error: Exception) -> tuple[ErrorAction, Exception]:
        try:
            action: object = self._policy(error)
        except Exception as broken:
            broken.add_note(f"raised by on_error, which was asked about {error!r}")
            return ErrorAction.BUG, broken
        if isinstance(action, ErrorAction):
            return action, error
        return ErrorAction.BUG, TypeError(f"on_error returned {action!r} for {error!r}: return an ErrorAction")
