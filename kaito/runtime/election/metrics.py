"""Metrics of leader election, under client-go's names where it has them."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from kaito.runtime.cells import CountFamily, Families, LevelFamily


class ElectionMetrics:
    """The metric families of elections in one registry; changed by one thread, the electors' own.

    Args:
        registry: where they are registered; None: nowhere.
    """

    def __init__(self, registry: CollectorRegistry | None) -> None:
        self.status = LevelFamily(
            "leader_election_master_status", "Whether this process leads (1) or stands by (0), per lease.", ("name",)
        )
        self.slow_path = CountFamily(
            "leader_election_slowpath_total",
            "How often a leader had to read its lease, rather than just renew it.",
            ("name",),
        )
        self.transitions = CountFamily(
            "controller_leader_transitions_total", "How often another holder was seen in the lease.", ("name",)
        )
        self.failures = CountFamily(
            "controller_lease_requests_failed_total", "Requests about the lease that came to nothing.", ("name",)
        )
        if registry is not None:
            Families(registry, [self.status, self.slow_path, self.transitions, self.failures])


class LeaseMetrics:
    """The metrics of one Lease.

    Args:
        metrics: the families.
        name: of the Lease.
    """

    def __init__(self, metrics: ElectionMetrics, name: str) -> None:
        self.status = metrics.status.labels(name)
        self.slow_path = metrics.slow_path.labels(name)
        self.transitions = metrics.transitions.labels(name)
        self.failures = metrics.failures.labels(name)
