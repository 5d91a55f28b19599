"""Controller: its life from start to stop, standby in between, and that it can start again with nothing left over."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from kaito.kube.core_v1 import Secret
from kaito.kube.resource import Resource
from kaito.runtime import DONE, Phase, Result
from kaito.runtime.elections import BeforeWork
from kaito.testing import virtual_clock
from kaito.testing.fake_api import FakeApi, Fault, Refuse
from tests.unit.runtime.widgets import Bench, Recording, Widget, bench

fence: contextvars.ContextVar[str] = contextvars.ContextVar("fence", default="none")


@asynccontextmanager
async def cached(it: Bench) -> AsyncIterator[None]:
    """Runs the caches alone: the test is the manager."""
    caches = asyncio.create_task(it.manager.cache.run())
    try:
        yield
    finally:
        caches.cancel()
        await asyncio.wait([caches])
        assert asyncio.all_tasks() == {asyncio.current_task()}


def handlers(it: Bench, *kinds: type[Resource]) -> int:
    """How many handlers informers have that are the controller's; the cache's own are partials."""
    found = (each for kind in kinds for each in it.manager.cache.informer(kind)._handlers)
    return sum("partial" not in repr(each) for each in found)


def start(it: Bench, before_work: BeforeWork | None = None) -> asyncio.Task[None]:
    return asyncio.create_task(it.controller.run(it.manager, before_work))


async def stop(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])


def test_it_fills_its_queue_in_standby_and_works_once_it_may() -> None:
    async def main() -> None:
        reconciler, elected = Recording(), asyncio.Event()
        it = bench(reconciler)
        it.put("a")

        async def before_work() -> None:
            await elected.wait()

        async with cached(it):
            assert it.controller.phase is Phase.STOPPED
            task = start(it, before_work)
            await asyncio.sleep(0)
            assert it.controller.phase.value == "syncing"
            await asyncio.sleep(1.0)
            it.put("b")
            await asyncio.sleep(1.0)
            assert (it.controller.phase, reconciler.names) == (Phase.STANDBY, [])
            assert [each.key.name for each in it.controller.queue.snapshot().ready] == ["b", "a"]
            elected.set()
            await asyncio.sleep(0.1)
            assert (it.controller.phase, reconciler.names) == (Phase.WORKING, ["b", "a"])
            await stop(task)
            assert it.controller.phase is Phase.STOPPED

    virtual_clock.run(main())


def test_nothing_is_asked_for_leave_to_work_before_the_caches_are_synced() -> None:
    async def main() -> None:
        asked: list[float] = []
        it = bench(Recording())
        it.api.faults.add(Fault(Refuse(503), verb="watch", times=4))

        async def before_work() -> None:
            assert it.manager.cache.informer(Widget).synced
            asked.append(asyncio.get_running_loop().time())

        async with cached(it):
            task = start(it, before_work)
            await asyncio.sleep(60.0)
            await stop(task)
        assert len(asked) == 1
        assert asked[0] > 1.0

    virtual_clock.run(main())


def test_what_leave_to_work_puts_into_the_context_is_the_workers_and_their_tasks_too() -> None:
    async def main() -> None:
        seen: list[str] = []

        async def note() -> None:
            seen.append(fence.get())

        async def step(_: Widget) -> Result:
            await note()
            await asyncio.create_task(note())
            return DONE

        async def before_work() -> None:
            fence.set("held")

        it = bench(Recording(step))
        it.put("a")
        async with cached(it):
            task = start(it, before_work)
            await asyncio.sleep(1.0)
            await stop(task)
        assert seen == ["held", "held"]
        assert fence.get() == "none"

    virtual_clock.run(main())


def test_a_refusal_of_leave_to_work_comes_out_as_it_is_and_leaves_nothing() -> None:
    async def main() -> None:
        it = bench(Recording())

        async def before_work() -> None:
            raise LookupError("no lease")

        async with cached(it):
            with pytest.raises(LookupError, match="no lease"):
                await it.controller.run(it.manager, before_work)
            assert it.controller.phase is Phase.STOPPED
            assert handlers(it, Widget) == 0

    virtual_clock.run(main())


def test_with_its_intake_stopped_it_ends_what_it_does_and_nothing_else() -> None:
    async def main() -> None:
        async def step(_: Widget) -> Result:
            await asyncio.sleep(5.0)
            return Result(requeue_after=timedelta(seconds=1))

        reconciler = Recording(step)
        it = bench(reconciler)
        it.put("a")
        it.put("b")
        async with cached(it):
            task = start(it)
            await asyncio.sleep(1.0)
            it.controller.stop_intake()
            assert it.controller.phase is Phase.STOPPING
            it.put("c")
            await asyncio.sleep(1.0)
            assert not task.done()
            await it.controller.wait_idle()
            await task
            assert (reconciler.names, reconciler.active) == (["a"], set())

    virtual_clock.run(main())


def test_with_its_intake_stopped_in_standby_it_never_works() -> None:
    async def main() -> None:
        reconciler, elected, asked = Recording(), asyncio.Event(), 0

        async def before_work() -> None:
            nonlocal asked
            asked += 1
            await elected.wait()

        it = bench(reconciler)
        it.put("a")
        async with cached(it):
            task = start(it, before_work)
            await asyncio.sleep(1.0)
            it.controller.stop_intake()
            await it.controller.wait_idle()
            elected.set()
            await task
            assert (reconciler.names, asked) == ([], 1)

    virtual_clock.run(main())


def test_with_its_intake_stopped_before_it_is_synced_it_does_not_even_ask() -> None:
    async def main() -> None:
        asked = False

        async def before_work() -> None:
            nonlocal asked
            asked = True

        it = bench(reconciler := Recording())
        it.put("a")
        it.api.faults.add(Fault(Refuse(503), verb="watch", times=3))
        async with cached(it):
            task = start(it, before_work)
            await asyncio.sleep(1.0)
            assert it.controller.phase is Phase.SYNCING
            it.controller.stop_intake()
            await task
        assert (asked, reconciler.names, it.controller.phase) == (False, [], Phase.STOPPED)

    virtual_clock.run(main())


def test_it_runs_again_with_all_objects_and_nothing_is_left_of_the_run_before() -> None:
    async def main() -> None:
        reconciler = Recording()
        it = bench(reconciler, owns=[Secret], concurrency=3)
        it.put("a")
        async with cached(it):
            for run in range(1, 4):
                task = start(it)
                await asyncio.sleep(1.0)
                assert reconciler.names == ["a"] * run
                assert it.count("controller_runtime_max_concurrent_reconciles") == 3
                with pytest.raises(RuntimeError, match="controller widget runs already"):
                    await it.controller.run(it.manager)
                await stop(task)
                assert it.count("controller_runtime_max_concurrent_reconciles") == 0
                assert handlers(it, Widget, Secret) == 0
            assert it.count("controller_runtime_reconcile_total", result="success") == 3
            it.controller.stop_intake()
            await it.controller.wait_idle()
            it.controller.bind(it.manager)

    virtual_clock.run(main())


def test_a_stop_in_the_middle_of_work_leaves_its_gauges_at_nothing() -> None:
    async def main() -> None:
        async def step(_: Widget) -> Result:
            await asyncio.sleep(1000.0)
            return DONE

        it = bench(Recording(step))
        for name in "abc":
            it.put(name)
        async with cached(it):
            task = start(it)
            await asyncio.sleep(1.0)
            queue = it.manager.metrics.queues.of(it.controller.name)
            assert sum(queue.depths().values()) == 2
            assert it.count("controller_runtime_active_workers") == 1
            await stop(task)
            assert sum(queue.depths().values()) == 0
            assert it.count("controller_runtime_active_workers") == 0

    virtual_clock.run(main())


def test_it_says_which_kinds_it_waits_for_and_why_and_goes_on_waiting(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        reconciler = Recording()
        it = bench(reconciler, owns=[Secret], sync_timeout=timedelta(seconds=50))
        it.put("a")
        it.api.faults.add(Fault(Refuse(403, "Forbidden"), verb="watch", resource="secrets", times=6))
        async with cached(it):
            task = start(it)
            await asyncio.sleep(300.0)
            assert reconciler.names == ["a"]
            await stop(task)

    with caplog.at_level(logging.WARNING, "kaito.runtime"):
        virtual_clock.run(main())
    said = [record for record in caplog.records if "waits for a kind" in record.getMessage()]
    assert 1 <= len(said) <= 3
    fields = [(vars(record)["controller"], vars(record)["kind"], vars(record)["waited_s"]) for record in said]
    assert fields == [("widget", "Secret", 50.0 * number) for number in range(1, len(said) + 1)]
    assert "watch secrets" in vars(said[0])["error"]


def test_a_kind_that_the_cluster_may_lack_is_waited_for_in_silence(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        api = FakeApi()
        it = Bench(api, Recording(), optional=True, sync_timeout=timedelta(seconds=5))
        async with cached(it):
            task = start(it)
            await asyncio.sleep(30.0)
            assert it.controller.phase is Phase.SYNCING
            await stop(task)

    with caplog.at_level(logging.WARNING, "kaito.runtime"):
        virtual_clock.run(main())
    assert "waits for a kind" not in caplog.text
