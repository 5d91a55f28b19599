"""What ageing costs live events and brings keys of low priority, simulated: ``python -m benchmarks.reconcile.ageing``.

One worker that takes 10 ms a key, 20,000 keys of low priority at the start, live events for five minutes.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterator
from typing import NamedTuple, Protocol

from kaito.runtime import LOW_PRIORITY, WorkQueue

WORK_S = 0.01
LIVE_S = 300.0
WAVE = 20_000
RATES = (20, 80, 120)


class Order(Protocol):
    """Decides which key is next."""

    def add(self, key: int, now: float, priority: int) -> None:
        """Makes a key ready."""
        ...

    def take(self, now: float) -> tuple[int, float] | None:
        """Hands out a key, which is done at once; returns it and how long it waited, or None if there is none."""
        ...


class Share:
    """Ours: one hand-out of so many goes to the oldest key."""

    def __init__(self, max_overtakes: int) -> None:
        self._queue: WorkQueue[int] = WorkQueue(max_overtakes)

    def add(self, key: int, now: float, priority: int) -> None:
        """See `Order.add`."""
        self._queue.add(key, now, priority=priority)

    def take(self, now: float) -> tuple[int, float] | None:
        """See `Order.take`."""
        item = self._queue.pop(now)
        if item is None:
            return None
        self._queue.done(item.key, now)
        return item.key, item.waited_s


class Bonus:
    """The other way: each second of waiting is worth some points of priority."""

    def __init__(self, points_per_s: float) -> None:
        self._points_per_s = points_per_s
        self._heap: list[tuple[float, float, int]] = []

    def add(self, key: int, now: float, priority: int) -> None:
        """See `Order.add`."""
        heapq.heappush(self._heap, (now - priority / self._points_per_s, now, key))

    def take(self, now: float) -> tuple[int, float] | None:
        """See `Order.take`."""
        if not self._heap:
            return None
        _, since, key = heapq.heappop(self._heap)
        return key, now - since


class Outcome(NamedTuple):
    """How long live keys waited (median, 99th percentile), how much of the wave was done meanwhile."""

    p50_ms: float
    p99_ms: float
    wave_done: int


def simulate(order: Order, live_per_s: float) -> Outcome:
    """Lets the time pass, and then ends what is left of the live keys."""
    live = list(_arrivals(live_per_s))
    for key in range(WAVE):
        order.add(-1 - key, 0.0, LOW_PRIORITY)
    now, come, wave_done = 0.0, 0, 0
    waits: list[float] = []
    while len(waits) < len(live):
        while come < len(live) and live[come] <= now:
            order.add(come, live[come], 0)
            come += 1
        taken = order.take(now)
        if taken is None:
            now = live[come]
            continue
        key, waited_s = taken
        if key >= 0:
            waits.append(waited_s)
        elif now <= LIVE_S:
            wave_done += 1
        now += WORK_S
    waits.sort()
    return Outcome(waits[len(waits) // 2] * 1e3, waits[len(waits) * 99 // 100] * 1e3, wave_done)


def _arrivals(per_s: float) -> Iterator[float]:
    rng, now = random.Random(1), 0.0
    while (now := now + rng.expovariate(per_s)) < LIVE_S:
        yield now


def main() -> None:
    """Prints a table."""
    print(f"{'live/s':>6}  {'ageing':<28}{'live p50 ms':>12}{'live p99 ms':>12}{'of the wave':>12}")
    for rate in RATES:
        orders: dict[str, Order] = {
            "none": Share(1 << 30),
            "1 hand-out in 10": Share(9),
            "10 points a second": Bonus(10.0),
            "1 point a second": Bonus(1.0),
        }
        for name, order in orders.items():
            outcome = simulate(order, rate)
            print(f"{rate:>6}  {name:<28}{outcome.p50_ms:>12.0f}{outcome.p99_ms:>12.0f}{outcome.wave_done:>12}")


if __name__ == "__main__":
    main()
