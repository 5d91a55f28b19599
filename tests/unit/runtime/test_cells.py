"""Cells: whatever is counted, the text that Prometheus scrapes is that of prometheus_client's own metrics."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from kaito.runtime.cells import CountFamily, DistributionFamily, Families, LevelFamily, ReadCounts, ReadLevels

BOUNDS = (0.005, 0.1, 1.0, 2.5, 10.0)
LABELS = st.sampled_from(["a", 'b"\\\n', ""])
# At bounds, between them, beyond them; in quarters, so that sums come out the same in any order of addition.
VALUES = st.one_of(st.sampled_from(BOUNDS), st.integers(0, 80).map(lambda quarters: quarters / 4))


def lines(registry: CollectorRegistry) -> list[str]:
    """What is scraped, without the times at which prometheus_client's own children were made."""
    return [line for line in generate_latest(registry).decode().splitlines() if "_created" not in line]


@settings(max_examples=50)
@given(st.lists(st.tuples(st.sampled_from(["count", "level", "distribution"]), LABELS, VALUES), max_size=30))
def test_what_is_scraped_is_what_prometheus_clients_own_metrics_would_say(
    operations: list[tuple[str, str, float]],
) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    count, level = CountFamily("things_total", "Things.", ["who"]), LevelFamily("depth", "Depth.", ["who"])
    spread = DistributionFamily("seconds", "Time.", ["who"], BOUNDS)
    Families(ours, [count, level, spread])
    their_count, their_level = (
        Counter("things_total", "Things.", ["who"], registry=theirs),
        Gauge("depth", "Depth.", ["who"], registry=theirs),
    )
    their_spread = Histogram("seconds", "Time.", ["who"], buckets=BOUNDS, registry=theirs)
    for kind, who, value in operations:
        match kind:
            case "count":
                count.labels(who).inc(value)
                their_count.labels(who).inc(value)
            case "level":
                level.labels(who).set(value)
                level.labels(who).dec(1)
                their_level.labels(who).set(value)
                their_level.labels(who).dec(1)
            case _:
                spread.labels(who).observe(value)
                their_spread.labels(who).observe(value)
    assert lines(ours) == lines(theirs)


def test_children_are_shared_by_their_label_values_and_begin_at_zero() -> None:
    registry = CollectorRegistry()
    family = CountFamily("things_total", "Things.", ["who"])
    Families(registry, [family])
    assert family.labels("a") is family.labels("a")
    assert registry.get_sample_value("things_total", {"who": "a"}) == 0
    family.labels("a").inc()
    assert registry.get_sample_value("things_total", {"who": "a"}) == 1


def test_what_somebody_else_keeps_is_read_when_it_is_scraped() -> None:
    registry, kept = CollectorRegistry(), {"a": 1.0}
    names = ReadCounts("reads_total", "Reads.", ["who"], lambda: [((who,), value) for who, value in kept.items()])
    sizes = ReadLevels("size", "Size.", [], lambda: [((), len(kept))])
    Families(registry, [names, sizes])
    kept |= {"a": 5.0, "b": 2.0}
    assert [line for line in lines(registry) if not line.startswith("#")] == [
        'reads_total{who="a"} 5.0',
        'reads_total{who="b"} 2.0',
        "size 2.0",
    ]


def test_wrong_labels_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"metric things_total has the labels \('who',\); given: \('a', 'b'\)"):
        CountFamily("things_total", "Things.", ["who"]).labels("a", "b")


def test_names_that_are_taken_are_refused_by_the_registry() -> None:
    registry = CollectorRegistry()
    Counter("things_total", "Things.", registry=registry)
    with pytest.raises(ValueError, match="Duplicated timeseries"):
        Families(registry, [CountFamily("things_total", "Things.", [])])
