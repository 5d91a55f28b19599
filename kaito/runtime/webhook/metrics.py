"""Metrics of webhooks, under controller-runtime's names, and of the certificate that they are served with."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from kaito.runtime.cells import CountFamily, DistributionFamily, Families, LevelFamily

_BUCKETS_S = tuple(10.0**exponent for exponent in range(-8, 4))


class WebhookMetrics:
    """The families of one registry.

    Args:
        registry: where they are registered; one `WebhookMetrics` per registry.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.latency = DistributionFamily(
            "controller_runtime_webhook_latency_seconds",
            "Latency of processing admission requests.",
            ["webhook"],
            _BUCKETS_S,
        )
        self.requests = CountFamily(
            "controller_runtime_webhook_requests_total",
            "Total number of admission requests by HTTP status code.",
            ["webhook", "code"],
        )
        self.in_flight = LevelFamily(
            "controller_runtime_webhook_requests_in_flight",
            "Current number of admission requests being served.",
            ["webhook"],
        )
        self.panics = CountFamily(
            "controller_runtime_webhook_panics_total", "Total number of exceptions of webhook code.", []
        )
        self.conversion_panics = CountFamily(
            "controller_runtime_conversion_webhook_panics_total", "Total number of exceptions of conversion code.", []
        )
        self.expiry = LevelFamily(
            "controller_webhook_certificate_expiry_seconds",
            "When the certificate that webhooks are served with expires, in seconds since 1970.",
            [],
        )
        self.repairs = CountFamily(
            "controller_webhook_configuration_writes_total",
            "Writes of webhook configurations: at the start, by new authorities, and to repair what others changed.",
            [],
        )
        self.panics.labels()
        self.conversion_panics.labels()
        self.repairs.labels()
        families = (self.latency, self.requests, self.in_flight, self.panics, self.conversion_panics, self.expiry)
        Families(registry, (*families, self.repairs))


class EndpointMetrics:
    """The metrics of one endpoint; they begin at 0, so that rate() works."""

    def __init__(self, metrics: WebhookMetrics, path: str) -> None:
        self._requests = metrics.requests
        self._path = path
        self._latency = metrics.latency.labels(path)
        self._in_flight = metrics.in_flight.labels(path)
        self.panics = metrics.panics.labels()
        for code in ("200", "500"):
            metrics.requests.labels(path, code)

    def began(self) -> None:
        """A request came."""
        self._in_flight.inc()

    def ended(self, code: int, seconds: float) -> None:
        """It was answered."""
        self._in_flight.dec()
        self._requests.labels(self._path, str(code)).inc()
        self._latency.observe(seconds)
