"""Metrics under controller-runtime's and client-go's names, so that existing dashboards and alerts work unchanged."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from kaito.runtime.cells import Count, CountFamily, DistributionFamily, Families, Family, LevelFamily
from kaito.runtime.queue_metrics import QueueFamilies

RECONCILE_BUCKETS_S = (
    *(0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0),
    *(1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5, 6, 7, 8, 9, 10, 15, 20, 25, 30, 40, 50, 60),
)
# A first event may wait for seconds of throttling, and for hours of an outage.
EVENT_BUCKETS_S = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0),
    *(10.0, 30.0, 60.0, 300.0, 900.0, 3600.0),
)


class RuntimeMetrics:
    """The metric families of one registry; children are made per controller, and begin at 0 so that rate() works.

    Args:
        registry: where they are registered; one `RuntimeMetrics` per registry.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        families: list[Family] = []

        def counter(name: str, text: str, *labels: str) -> CountFamily:
            families.append(made := CountFamily(name, text, ("controller", *labels)))
            return made

        def gauge(name: str, text: str, *labels: str) -> LevelFamily:
            families.append(made := LevelFamily(name, text, ("controller", *labels)))
            return made

        def histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> DistributionFamily:
            families.append(made := DistributionFamily(name, text, ("controller", *labels), buckets))
            return made

        self.reconcile = counter("controller_runtime_reconcile_total", "Reconciliations per controller.", "result")
        self.errors = counter("controller_runtime_reconcile_errors_total", "Reconciliation errors per controller.")
        self.terminal = counter(
            "controller_runtime_terminal_reconcile_errors_total", "Terminal reconciliation errors per controller."
        )
        self.panics = counter("controller_runtime_reconcile_panics_total", "Unexpected exceptions per controller.")
        self.timeouts = counter(
            "controller_runtime_reconcile_timeouts_total", "Reconciliations that took longer than they may."
        )
        self.hot_loops = counter(
            "controller_hot_loops_total", "Keys that were reconciled again and again by their own doing, per window."
        )
        self.map_errors = counter(
            "controller_map_errors_total", "Maps from a watched object to keys that failed; each is retried.", "kind"
        )
        self.filtered = counter("controller_events_filtered_total", "Events that a filter held back.", "kind")
        self.event_to_reconcile = histogram(
            "controller_event_to_reconcile_seconds",
            "From the first event that a reconcile handles to its successful end; without those of first lists.",
            EVENT_BUCKETS_S,
        )
        self.seconds = histogram(
            "controller_runtime_reconcile_time_seconds", "Length of time per reconciliation.", RECONCILE_BUCKETS_S
        )
        self.max_concurrent = gauge(
            "controller_runtime_max_concurrent_reconciles", "Maximum number of concurrent reconciles per controller."
        )
        self.active = gauge("controller_runtime_active_workers", "Number of currently used workers per controller.")
        self.unchanged_applies = counter(
            "controller_applies_unchanged_total",
            "Applies that came back with the resourceVersion that the object had; each is a needless write.",
        )
        Families(registry, families)
        self.queues = QueueFamilies(registry)


class ControllerMetrics:
    """The metrics of one controller."""

    def __init__(self, metrics: RuntimeMetrics, controller: str, concurrency: int) -> None:
        self.success = metrics.reconcile.labels(controller, "success")
        self.error = metrics.reconcile.labels(controller, "error")
        self.requeue_after = metrics.reconcile.labels(controller, "requeue_after")
        self.requeue = metrics.reconcile.labels(controller, "requeue")
        self.errors = metrics.errors.labels(controller)
        self.terminal = metrics.terminal.labels(controller)
        self.panics = metrics.panics.labels(controller)
        self.timeouts = metrics.timeouts.labels(controller)
        self.hot_loops = metrics.hot_loops.labels(controller)
        self.event_to_reconcile = metrics.event_to_reconcile.labels(controller)
        self.seconds = metrics.seconds.labels(controller)
        self.active = metrics.active.labels(controller)
        self._max_concurrent = metrics.max_concurrent.labels(controller)
        self._max_concurrent.set(concurrency)
        self.queue = metrics.queues.of(controller)
        self._metrics = metrics
        self._controller = controller

    def map_errors(self, kind: str) -> Count:
        """Of the maps of watches of a kind."""
        return self._metrics.map_errors.labels(self._controller, kind)

    def filtered(self, kind: str) -> Count:
        """Of the filters of watches of a kind."""
        return self._metrics.filtered.labels(self._controller, kind)

    def stopped(self) -> None:
        """The controller does not run any more: its gauges are back at 0; counters stay, as counters do."""
        self._max_concurrent.set(0)
        self.active.set(0)
