"""Cells: metric values that the event loop's thread alone changes, and families of them for a registry.

prometheus_client's own counters take a lock, since any thread may change them; a dozen of them around each reconcile
were a fifth of what a no-op reconcile cost (0001 in docs/decisions). These are plain numbers, read when rendered.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import accumulate
from typing import Generic, Protocol, TypeAlias, TypeVar

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector, CollectorRegistry
from prometheus_client.utils import floatToGoString


class Count:
    """A number that grows."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0

    def inc(self, by: float = 1) -> None:
        """Adds to it."""
        self.value += by


class Level:
    """A number that goes up and down."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0

    def set(self, value: float) -> None:
        """Sets it."""
        self.value = value

    def inc(self, by: float = 1) -> None:
        """Adds to it."""
        self.value += by

    def dec(self, by: float = 1) -> None:
        """Takes from it."""
        self.value -= by


class Distribution:
    """How often values fell into buckets.

    Args:
        bounds: upper bounds of the buckets, ascending; one more without a bound is added.
    """

    __slots__ = ("_bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Counts a value."""
        self.counts[bisect_left(self._bounds, value)] += 1
        self.sum += value

    def buckets(self) -> list[tuple[str, float]]:
        """Bounds as text, each with how many values were not above it."""
        names = [*map(floatToGoString, self._bounds), "+Inf"]
        return list(zip(names, map(float, accumulate(self.counts)), strict=True))


C = TypeVar("C")

Reading: TypeAlias = tuple[Sequence[str], float]
"""Label values, and the value that they have at the moment."""
ReadMetric: TypeAlias = CounterMetricFamily | GaugeMetricFamily


class Family(Protocol):
    """A metric with its children, as a registry wants it."""

    def collect(self) -> Metric:
        """The metric of the moment."""
        ...


class _Children(Generic[C]):
    def __init__(self, name: str, text: str, labels: Sequence[str], make: Callable[[], C]) -> None:
        self.name = name
        self.text = text
        self.label_names = tuple(labels)
        self.children: dict[tuple[str, ...], C] = {}
        self._make = make

    def labels(self, *values: str) -> C:
        """The child with these label values, made if it is new.

        Raises:
            ValueError: there are more or fewer values than labels.
        """
        if len(values) != len(self.label_names):
            raise ValueError(f"metric {self.name} has the labels {self.label_names}; given: {values}")
        child = self.children.get(values)
        if child is None:
            child = self.children[values] = self._make()
        return child


class CountFamily(_Children[Count]):
    """Counts by label values."""

    def __init__(self, name: str, text: str, labels: Sequence[str]) -> None:
        super().__init__(name, text, labels, Count)

    def collect(self) -> Metric:
        """See `Family.collect`."""
        family = CounterMetricFamily(self.name, self.text, labels=self.label_names)
        for values, cell in self.children.items():
            family.add_metric(values, cell.value)
        return family


class LevelFamily(_Children[Level]):
    """Levels by label values."""

    def __init__(self, name: str, text: str, labels: Sequence[str]) -> None:
        super().__init__(name, text, labels, Level)

    def collect(self) -> Metric:
        """See `Family.collect`."""
        family = GaugeMetricFamily(self.name, self.text, labels=self.label_names)
        for values, cell in self.children.items():
            family.add_metric(values, cell.value)
        return family


class DistributionFamily(_Children[Distribution]):
    """Distributions by label values, all with the same bounds."""

    def __init__(self, name: str, text: str, labels: Sequence[str], bounds: Sequence[float]) -> None:
        super().__init__(name, text, labels, partial(Distribution, tuple(bounds)))

    def collect(self) -> Metric:
        """See `Family.collect`."""
        family = HistogramMetricFamily(self.name, self.text, labels=self.label_names)
        for values, cell in self.children.items():
            family.add_metric(values, cell.buckets(), cell.sum)
        return family


class _Read:
    def __init__(self, new: Callable[[], ReadMetric], read: Callable[[], Iterable[Reading]]) -> None:
        self._new = new
        self._read = read

    def collect(self) -> Metric:
        """See `Family.collect`."""
        family = self._new()
        for values, value in self._read():
            family.add_metric(values, value)
        return family


class ReadCounts(_Read):
    """Counts that somebody else keeps, read when they are scraped.

    Args:
        read: the counts of the moment.
    """

    def __init__(self, name: str, text: str, labels: Sequence[str], read: Callable[[], Iterable[Reading]]) -> None:
        super().__init__(partial(CounterMetricFamily, name, text, labels=labels), read)


class ReadLevels(_Read):
    """Levels that somebody else keeps, read when they are scraped.

    Args:
        read: the levels of the moment.
    """

    def __init__(self, name: str, text: str, labels: Sequence[str], read: Callable[[], Iterable[Reading]]) -> None:
        super().__init__(partial(GaugeMetricFamily, name, text, labels=labels), read)


class Families(Collector):
    """Some families, registered together.

    Args:
        registry: where.
        families: which.
    """

    def __init__(self, registry: CollectorRegistry, families: Sequence[Family]) -> None:
        self._families = families
        registry.register(self)

    def describe(self) -> Iterable[Metric]:
        """The same: by it the registry refuses names that are taken."""
        return self.collect()

    def collect(self) -> Iterable[Metric]:
        """The families of the moment."""
        return [family.collect() for family in self._families]
