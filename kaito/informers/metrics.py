"""InformerMetrics: what the caches of a process hold and how fresh they are, read at scrape time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from kaito.informers.informer import Informer
    from kaito.kube.resource import Resource


class InformerMetrics(Collector):
    """Collects ``controller_informer_*``; costs nothing between scrapes.

    Args:
        informers: returns the informers of the moment.
    """

    def __init__(self, informers: Callable[[], list[Informer[Resource]]]) -> None:
        self._informers = informers

    def describe(self) -> Iterable[Metric]:
        """Nothing is collected at registration, before a loop runs."""
        return []

    def collect(self) -> Iterable[Metric]:
        """Yields one sample per informer and metric."""
        objects = GaugeMetricFamily("controller_informer_objects", "Objects in the cache.", labels=["kind"])
        size = GaugeMetricFamily("controller_informer_bytes", "Bytes of JSON in the cache.", labels=["kind"])
        age = GaugeMetricFamily(
            "controller_informer_last_event_age_seconds", "Time since the last event or bookmark.", labels=["kind"]
        )
        version = GaugeMetricFamily(
            "controller_informer_resource_version", "Newest resourceVersion reflected, last 15 digits.", labels=["kind"]
        )
        synced = GaugeMetricFamily("controller_informer_synced", "1 once the first list is in.", labels=["kind"])
        failures = CounterMetricFamily(
            "controller_informer_handler_errors", "Event handlers that raised.", labels=["kind"]
        )
        invalid = CounterMetricFamily(
            "controller_informer_decode_errors", "Reads of objects that break their class's schema.", labels=["kind"]
        )
        now = _loop_time()
        for informer in self._informers():
            kind = [informer.kind.resource_type.group_kind]
            objects.add_metric(kind, len(informer.store))
            size.add_metric(kind, informer.store.bytes)
            # A float holds integers exactly up to 2**53.
            version.add_metric(kind, informer.store.resource_version % 10**15)
            synced.add_metric(kind, informer.synced)
            failures.add_metric(kind, informer.handler_errors)
            invalid.add_metric(kind, informer.decode_errors)
            if informer.last_progress_at is not None and now is not None:
                age.add_metric(kind, now - informer.last_progress_at)
        yield from (objects, size, age, version, synced, failures, invalid)


def _loop_time() -> float | None:
    try:
        return asyncio.get_running_loop().time()
    except RuntimeError:
        return None
