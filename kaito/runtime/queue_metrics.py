"""Metrics of work queues under client-go's names, as controller-runtime labels them."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from kaito.runtime.cells import CountFamily, DistributionFamily, Families, LevelFamily

QUEUE_BUCKETS_S = tuple(10.0**exponent for exponent in range(-8, 4))
_LABELS = ("controller", "name")


class QueueFamilies:
    """The metric families of all work queues of one registry; both labels are the controller's name.

    Args:
        registry: where they are registered; one `QueueFamilies` per registry.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.depth = LevelFamily("workqueue_depth", "Current depth of workqueue.", (*_LABELS, "priority"))
        self.adds = CountFamily("workqueue_adds_total", "Total number of adds handled by workqueue.", _LABELS)
        self.retries = CountFamily("workqueue_retries_total", "Total number of retries handled by workqueue.", _LABELS)
        self.queued = DistributionFamily(
            "workqueue_queue_duration_seconds",
            "How long in seconds an item stays in workqueue before being requested.",
            _LABELS,
            QUEUE_BUCKETS_S,
        )
        self.worked = DistributionFamily(
            "workqueue_work_duration_seconds",
            "How long in seconds processing an item from workqueue takes.",
            _LABELS,
            QUEUE_BUCKETS_S,
        )
        Families(registry, [self.depth, self.adds, self.retries, self.queued, self.worked])


class QueueMetrics:
    """The metrics of one work queue.

    Args:
        families: of its registry.
        controller: whose queue it is.
    """

    def __init__(self, families: QueueFamilies, controller: str) -> None:
        self._depth = families.depth.labels(controller, controller, "")
        self._adds = families.adds.labels(controller, controller)
        self._retries = families.retries.labels(controller, controller)
        self._queued = families.queued.labels(controller, controller)
        self._worked = families.worked.labels(controller, controller)

    def added(self, keys: int, depth: int) -> None:
        """Keys were added that were not in the queue."""
        self._adds.inc(keys)
        self._depth.set(depth)

    def delayed(self) -> None:
        """A key was added with a delay."""
        self._retries.inc()

    def handed_out(self, waited_s: float, depth: int) -> None:
        """A worker got a key."""
        self._queued.observe(waited_s)
        self._depth.set(depth)

    def done(self, worked_s: float, depth: int) -> None:
        """A worker gave a key back."""
        self._worked.observe(worked_s)
        self._depth.set(depth)
