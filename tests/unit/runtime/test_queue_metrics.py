"""Metrics of queues: client-go's names and meanings, read at the moment at which they are scraped."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client import CollectorRegistry

from kaito.runtime.async_queue import AsyncQueue
from kaito.runtime.queue_metrics import EXCEEDED, MAX_PRIORITIES, QueueFamilies
from kaito.runtime.workqueue import LOW_PRIORITY
from kaito.testing import virtual_clock


class Scraped:
    """A registry with the families of queues, as Prometheus sees it."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.families = QueueFamilies(self.registry)

    def queue(self, controller: str = "q") -> AsyncQueue[str]:
        return AsyncQueue(self.families.of(controller))

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"workqueue_{name}", {"name": "q", "controller": "q", **labels})

    def depths(self) -> dict[str, float]:
        (depth,) = [family for family in self.registry.collect() if family.name == "workqueue_depth"]
        return {sample.labels["priority"]: sample.value for sample in depth.samples}


@pytest.fixture
def scraped() -> Scraped:
    return Scraped()


def test_adds_and_retries_count_as_client_go_counts(scraped: Scraped) -> None:
    async def main() -> None:
        queue = scraped.queue()
        assert scraped.value("adds_total") == 0
        queue.add("a")
        queue.add("a")
        assert scraped.value("adds_total") == 1
        queue.add_after("b", 5.0)
        queue.add_after("c", 0.0)
        assert scraped.value("retries_total") == 2
        assert scraped.value("adds_total") == 2
        await asyncio.sleep(6.0)
        assert scraped.value("adds_total") == 3
        await queue.get()
        queue.add("a")
        queue.add("a")
        assert scraped.value("adds_total") == 4

    virtual_clock.run(main())


def test_a_key_that_is_added_while_it_is_processed_is_in_the_depth_and_waits_from_then(scraped: Scraped) -> None:
    async def main() -> None:
        queue = scraped.queue()
        queue.add("a")
        await queue.get()
        assert scraped.value("depth", priority="0") == 0
        queue.add("a")
        assert scraped.value("depth", priority="0") == 1
        await asyncio.sleep(3.0)
        queue.done("a")
        assert scraped.value("depth", priority="0") == 1
        await queue.get()
        assert scraped.value("depth", priority="0") == 0
        assert scraped.value("queue_duration_seconds_count") == 2
        assert scraped.value("queue_duration_seconds_sum") == 3.0
        assert scraped.value("work_duration_seconds_sum") == 3.0

    virtual_clock.run(main())


def test_depth_is_told_by_priority_and_goes_back_to_zero(scraped: Scraped) -> None:
    async def main() -> None:
        assert scraped.depths() == {}
        queue = scraped.queue()
        assert scraped.depths() == {"0": 0}
        queue.add("a")
        queue.add("b", priority=LOW_PRIORITY)
        queue.add_after("later", 5.0)
        assert scraped.depths() == {"0": 1, "-100": 1}
        queue.add("b")
        assert scraped.depths() == {"0": 2, "-100": 0}
        queue.close()
        assert scraped.depths() == {"0": 0, "-100": 0}

    virtual_clock.run(main())


def test_the_twenty_sixth_priority_and_all_later_ones_share_a_label(scraped: Scraped) -> None:
    async def main() -> None:
        queue = scraped.queue()
        for priority in range(MAX_PRIORITIES + 10):
            queue.add(f"{priority}", priority=priority)
        depths = scraped.depths()
        assert len(depths) == MAX_PRIORITIES + 1
        assert depths[EXCEEDED] == 10
        assert depths["24"] == 1

    virtual_clock.run(main())


def test_work_in_progress_is_as_old_as_it_is_when_scraped(scraped: Scraped) -> None:
    async def main() -> None:
        queue = scraped.queue()
        assert scraped.value("unfinished_work_seconds") == 0
        assert scraped.value("longest_running_processor_seconds") == 0
        queue.add("a")
        queue.add("b")
        await queue.get()
        await asyncio.sleep(10.0)
        await queue.get()
        await asyncio.sleep(1.0)
        assert scraped.value("unfinished_work_seconds") == 12.0
        assert scraped.value("longest_running_processor_seconds") == 11.0
        queue.close()
        assert scraped.value("longest_running_processor_seconds") == 11.0
        queue.done("a")
        queue.done("b")
        assert scraped.value("unfinished_work_seconds") == 0
        assert scraped.value("work_duration_seconds_count") == 2

    virtual_clock.run(main())


def test_counts_of_a_controller_that_is_started_again_go_on(scraped: Scraped) -> None:
    async def main() -> None:
        for started in (1, 2):
            queue = scraped.queue()
            queue.add("a")
            queue.add_after("b", 5.0)
            assert scraped.value("adds_total") == started
            assert scraped.value("retries_total") == started
            queue.close()
        assert scraped.depths() == {"0": 0}

    virtual_clock.run(main())
