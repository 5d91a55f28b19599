"""InformerMetrics: what the caches of a process hold and how fresh they are, read at scrape time."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from kaito.informers.informer import Informer
    from kaito.kube.resource import Resource

# A float holds integers exactly up to 2**53.
_EXACT = 10**15
_PREFIX = "controller_informer_"
_GAUGES = {
    "objects": "Objects in the cache.",
    "bytes": "Bytes of JSON in the cache.",
    "last_event_age_seconds": "Time since the last event or bookmark.",
    "resource_version": "Newest resourceVersion reflected, last 15 digits.",
    "synced": "1 once the first list is in.",
    "handler_backlog": "Objects that slow handlers have yet to hear of.",
}
_COUNTERS = {
    "handler_errors": "Event handlers that raised.",
    "decode_errors": "Reads of objects that break their class's schema.",
    "transform_errors": "Transforms that raised; their objects are kept whole.",
    "unreadable_objects": "Events and list items that were no object of the kind.",
}
_LABELLED = {
    "lists": ("mode", "Lists begun, by mode: stream, whole or pages."),
    "watch_restarts": ("reason", "Lists and watches that ended, by reason."),
    "watch_events": ("type", "Events of watches, those of streaming lists included."),
}


class InformerMetrics(Collector):
    """Collects ``controller_informer_*``; costs nothing between scrapes.

    Informers of one kind are told apart by no label: their figures are added up, ages and versions are those of the one
    that is behind.

    Args:
        informers: returns the informers of the moment.
    """

    def __init__(self, informers: Callable[[], list[Informer[Resource]]]) -> None:
        self._informers = informers

    def describe(self) -> Iterable[Metric]:
        """Nothing is collected at registration, before a loop runs."""
        return []

    def collect(self) -> Iterable[Metric]:
        """Yields one sample per kind and metric."""
        gauges = {name: GaugeMetricFamily(_PREFIX + name, text, labels=["kind"]) for name, text in _GAUGES.items()}
        counters = {
            name: CounterMetricFamily(_PREFIX + name, text, labels=["kind"]) for name, text in _COUNTERS.items()
        }
        labelled = {
            name: CounterMetricFamily(_PREFIX + name, text, labels=["kind", label])
            for name, (label, text) in _LABELLED.items()
        }
        for kind, informers in _by_kind(self._informers()).items():
            for name, value in _gauges_of(informers).items():
                gauges[name].add_metric([kind], value)
            for name, value in _counters_of(informers).items():
                counters[name].add_metric([kind], value)
            for name, counted in _labelled_of(informers).items():
                for label, value in counted.items():
                    labelled[name].add_metric([kind, label], value)
        yield from (*gauges.values(), *counters.values(), *labelled.values())


def _by_kind(informers: Iterable[Informer[Resource]]) -> dict[str, list[Informer[Resource]]]:
    kinds: dict[str, list[Informer[Resource]]] = {}
    for informer in informers:
        kinds.setdefault(informer.kind.resource_type.group_kind, []).append(informer)
    return kinds


def _gauges_of(informers: list[Informer[Resource]]) -> dict[str, float]:
    values: dict[str, float] = {
        "objects": sum(len(informer.store) for informer in informers),
        "bytes": sum(informer.store.bytes for informer in informers),
        "resource_version": min(informer.store.resource_version for informer in informers) % _EXACT,
        "synced": all(informer.synced for informer in informers),
        "handler_backlog": sum(informer.backlog for informer in informers),
    }
    now = _loop_time()
    times = [informer.last_progress_at for informer in informers if informer.last_progress_at is not None]
    if times and now is not None:
        values["last_event_age_seconds"] = now - min(times)
    return values


def _counters_of(informers: list[Informer[Resource]]) -> dict[str, float]:
    parts = [part for informer in informers for part in informer.parts]
    return {
        "handler_errors": sum(informer.handler_errors for informer in informers),
        "decode_errors": sum(informer.decode_errors for informer in informers),
        "transform_errors": sum(part.transform_errors for part in parts),
        "unreadable_objects": sum(part.reflector.unreadable for part in parts),
    }


def _labelled_of(informers: list[Informer[Resource]]) -> dict[str, Counter[str]]:
    reflectors = [part.reflector for informer in informers for part in informer.parts]
    return {
        "lists": _total(reflector.lists for reflector in reflectors),
        "watch_restarts": _total(reflector.restarts for reflector in reflectors),
        "watch_events": _total(reflector.events for reflector in reflectors),
    }


def _total(counters: Iterable[Counter[str]]) -> Counter[str]:
    summed: Counter[str] = Counter()
    for counter in counters:
        summed.update(counter)
    return summed


def _loop_time() -> float | None:
    try:
        return asyncio.get_running_loop().time()
    except RuntimeError:
        return None
