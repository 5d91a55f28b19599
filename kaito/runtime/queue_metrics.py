"""Metrics of work queues under client-go's names, as controller-runtime labels them; most are read when scraped."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from prometheus_client import CollectorRegistry

from kaito.runtime.cells import DistributionFamily, Families, Family, ReadCounts, Reading, ReadLevels

QUEUE_BUCKETS_S = tuple(10.0**exponent for exponent in range(-8, 4))
MAX_PRIORITIES = 25
EXCEEDED = "exceeded_cardinality_limit"
"""The priority under which all keys are counted whose priority is not one of the first `MAX_PRIORITIES`."""

_LABELS = ("controller", "name")


class Watched(Protocol):
    """What a queue tells of itself."""

    @property
    def adds(self) -> int:
        """How many adds were news so far."""
        ...

    @property
    def retries(self) -> int:
        """How many adds with a delay there were so far."""
        ...

    def depths(self) -> Mapping[int, int]:
        """How many keys are waiting, by priority."""
        ...

    def seconds_in_work(self) -> Sequence[float]:
        """For how long workers have had each of their keys."""
        ...


class QueueFamilies:
    """The metric families of all work queues of one registry; both labels are the controller's name.

    Args:
        registry: where they are registered; one `QueueFamilies` per registry.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._queues: dict[str, QueueMetrics] = {}
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
        read = self._read
        adds = read(lambda queue: queue.adds)
        retries = read(lambda queue: queue.retries)
        unfinished = read(lambda queue: sum(queue.seconds_in_work()))
        longest = read(lambda queue: max(queue.seconds_in_work(), default=0.0))
        families: list[Family] = [
            ReadLevels("workqueue_depth", "Current depth of workqueue.", (*_LABELS, "priority"), self._depths),
            ReadCounts("workqueue_adds_total", "Total number of adds handled by workqueue.", _LABELS, adds),
            ReadCounts("workqueue_retries_total", "Total number of retries handled by workqueue.", _LABELS, retries),
            ReadLevels(
                "workqueue_unfinished_work_seconds",
                "How many seconds of work has been done that is in progress and hasn't been observed by work_duration.",
                _LABELS,
                unfinished,
            ),
            ReadLevels(
                "workqueue_longest_running_processor_seconds",
                "How many seconds has the longest running processor for workqueue been running.",
                _LABELS,
                longest,
            ),
        ]
        Families(registry, [*families, self.queued, self.worked])

    def of(self, controller: str) -> QueueMetrics:
        """The metrics of a controller's queue; the same for all its queues, when it is stopped and started."""
        metrics = self._queues.get(controller)
        if metrics is None:
            metrics = self._queues[controller] = QueueMetrics(self, controller)
        return metrics

    def _read(self, value: Callable[[QueueMetrics], float]) -> Callable[[], Iterable[Reading]]:
        return lambda: [((name, name), value(queue)) for name, queue in self._queues.items()]

    def _depths(self) -> Iterable[Reading]:
        for name, queue in self._queues.items():
            for priority, keys in queue.depths().items():
                yield (name, name, priority), keys


class QueueMetrics:
    """The metrics of one controller's work queue; made by `QueueFamilies.of`.

    Attributes:
        queued: told of the seconds that a key waited.
        worked: told of the seconds that a worker had a key.
    """

    def __init__(self, families: QueueFamilies, controller: str) -> None:
        self.queued = families.queued.labels(controller, controller)
        self.worked = families.worked.labels(controller, controller)
        self._queue: Watched | None = None
        self._earlier_adds = 0
        self._earlier_retries = 0
        self._priorities = {0: "0"}

    def watch(self, queue: Watched) -> None:
        """Takes figures from this queue from now on; its counts go on from those of the one before."""
        self._earlier_adds, self._earlier_retries = self.adds, self.retries
        self._queue = queue

    @property
    def adds(self) -> int:
        """See `Watched.adds`; of all its queues."""
        return self._earlier_adds + (self._queue.adds if self._queue is not None else 0)

    @property
    def retries(self) -> int:
        """See `Watched.retries`; of all its queues."""
        return self._earlier_retries + (self._queue.retries if self._queue is not None else 0)

    def depths(self) -> dict[str, int]:
        """How many keys are waiting, by the text of their priority; 0 for one that was seen earlier."""
        depths = dict.fromkeys(self._priorities.values(), 0)
        for priority, keys in (self._queue.depths() if self._queue is not None else {}).items():
            text = self._text(priority)
            depths[text] = depths.get(text, 0) + keys
        return depths

    def seconds_in_work(self) -> Sequence[float]:
        """See `Watched.seconds_in_work`."""
        return self._queue.seconds_in_work() if self._queue is not None else ()

    def _text(self, priority: int) -> str:
        text = self._priorities.get(priority)
        if text is not None:
            return text
        if len(self._priorities) >= MAX_PRIORITIES:
            return EXCEEDED
        return self._priorities.setdefault(priority, str(priority))
