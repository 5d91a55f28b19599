"""Controller: what makes a key be worked on, what follows from each outcome, and what one fault may not harm."""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, cast

import pytest

from kaito.client import Conflict, TransportError
from kaito.kube.core_v1 import ConfigMap, Node, Secret
from kaito.kube.model import KubeModel
from kaito.kube.object_key import ObjectKey
from kaito.kube.resource import Resource
from kaito.runtime import DONE, Controller, Manager, Result, TerminalError, Watch
from kaito.runtime.reconciler import KeyReconciler, Reconciler
from kaito.testing import virtual_clock
from kaito.testing.fake_api import FakeApi, Fault, Refuse

Step = Callable[["Widget"], Awaitable[Result]]
BASE = "/apis/example.com/v1/namespaces/default/widgets"


class WidgetSpec(KubeModel):
    """What a widget wants."""

    size: int = 0
    secrets: tuple[str, ...] = ()


class Widget(Resource, group="example.com", version="v1"):
    """A custom resource."""

    spec: WidgetSpec = WidgetSpec()


class Recording:
    """A reconciler that writes down what it is given, and does what it is told."""

    def __init__(self, step: Step | None = None) -> None:
        self.step = step
        self.seen: list[tuple[float, str, int]] = []
        self.active: set[str] = set()
        self.most = 0

    @property
    def names(self) -> list[str]:
        return [name for _, name, _ in self.seen]

    async def reconcile(self, widget: Widget) -> Result:
        name = widget.metadata.name
        assert name not in self.active, f"{name} is worked on twice at once"
        self.seen.append((asyncio.get_running_loop().time(), name, widget.spec.size))
        self.active.add(name)
        self.most = max(self.most, len(self.active))
        try:
            return await self.step(widget) if self.step else DONE
        finally:
            self.active.discard(name)


class Bench:
    """A manager with one controller of Widgets on a fake API server."""

    def __init__(self, api: FakeApi, reconciler: Any, **options: Any) -> None:
        self.api = api
        self.manager = Manager("tests", None, transport=api.transport(), metrics="0", health="0", rng=random.Random(1))
        self.controller = Controller(Widget, cast("Reconciler[Widget] | KeyReconciler", reconciler), **options)
        self.manager.add(self.controller)

    def put(self, name: str, namespace: str = "default", **spec: Any) -> dict[str, Any]:
        path = BASE.replace("default", namespace)
        return self.api.call("POST", path, {"metadata": {"name": name}, "spec": spec})

    def change(self, name: str, **spec: Any) -> None:
        self.api.call("PATCH", f"{BASE}/{name}", {"spec": spec}, content_type="application/merge-patch+json")

    def other(self, plural: str, name: str, namespace: str = "default", **more: Any) -> None:
        self.api.call("POST", f"/api/v1/namespaces/{namespace}/{plural}", {"metadata": {"name": name, **more}})

    def count(self, name: str, **labels: str) -> float:
        value = self.manager.registry.get_sample_value(name, {"controller": "widget", **labels})
        assert value is not None, name
        return value

    def outcomes(self) -> dict[str, float]:
        results = ("success", "error", "requeue_after", "requeue")
        return {
            result: count
            for result in results
            if (count := self.count("controller_runtime_reconcile_total", result=result))
        }


@asynccontextmanager
async def running(it: Bench) -> AsyncIterator[Bench]:
    task = asyncio.create_task(it.manager.run())
    await asyncio.sleep(1.0)
    try:
        yield it
    finally:
        it.manager.stop()
        await task
        assert asyncio.all_tasks() == {asyncio.current_task()}


def bench(reconciler: Any, **options: Any) -> Bench:
    api = FakeApi()
    api.register(Widget)
    return Bench(api, reconciler, **options)


def fails(times: int, error: BaseException) -> Step:
    left = times

    async def step(_: Widget) -> Result:
        nonlocal left
        left -= 1
        if left >= 0:
            raise error
        return DONE

    return step


def test_objects_that_were_there_that_come_and_that_change_are_reconciled() -> None:
    async def main() -> None:
        reconciler = Recording()
        it = bench(reconciler)
        it.put("before", size=1)
        async with running(it):
            it.put("after", size=2)
            await asyncio.sleep(0.1)
            it.change("before", size=3)
            await asyncio.sleep(0.1)
            assert [(name, size) for _, name, size in reconciler.seen] == [("before", 1), ("after", 2), ("before", 3)]

    virtual_clock.run(main())


def test_nothing_is_reconciled_before_every_kind_that_is_watched_is_in_the_cache() -> None:
    async def main() -> None:
        reconciler = Recording()
        it = bench(reconciler, owns=[Secret])
        it.put("a")
        it.api.faults.add(Fault(Refuse(403, "Forbidden"), verb="watch", resource="secrets", times=3))
        async with running(it):
            assert reconciler.seen == []
            await asyncio.sleep(20.0)
            assert reconciler.names == ["a"]

    virtual_clock.run(main())


def test_a_deleted_object_is_not_reconciled_but_its_key_is() -> None:
    class Keys:
        def __init__(self) -> None:
            self.seen: list[ObjectKey] = []

        async def reconcile_key(self, key: ObjectKey) -> Result:
            self.seen.append(key)
            return DONE

    async def main() -> None:
        objects, keys = Recording(), Keys()
        it = bench(objects)
        it.manager.add(Controller(Widget, cast("KeyReconciler", keys), name="keys"))
        it.put("a")
        async with running(it):
            it.api.call("DELETE", f"{BASE}/a")
            await asyncio.sleep(0.1)
            assert objects.names == ["a"]
            assert keys.seen == [ObjectKey("a", "default")] * 2

    virtual_clock.run(main())


def test_changes_of_owned_objects_concern_their_owner_and_nobody_else() -> None:
    async def main() -> None:
        reconciler = Recording()
        it = bench(reconciler, owns=[Secret])
        uid = it.put("a")["metadata"]["uid"]
        it.put("b")
        reference = {"apiVersion": "example.com/v1", "kind": "Widget", "name": "a", "uid": uid}
        async with running(it):
            reconciler.seen.clear()
            it.other("secrets", "owned", ownerReferences=[{**reference, "controller": True}])
            it.other("secrets", "not-controlled", ownerReferences=[reference])
            it.other(
                "secrets", "foreign", ownerReferences=[{**reference, "apiVersion": "other/v1", "controller": True}]
            )
            it.other("secrets", "free")
            await asyncio.sleep(0.1)
            assert reconciler.names == ["a"]
            it.api.call("DELETE", "/api/v1/namespaces/default/secrets/owned")
            await asyncio.sleep(0.1)
            assert reconciler.names == ["a", "a"]

    virtual_clock.run(main())


def test_an_object_that_changes_its_owner_concerns_both() -> None:
    async def main() -> None:
        reconciler = Recording()
        it = bench(reconciler, owns=[Secret])
        references = [
            [
                {
                    "apiVersion": "example.com/v1",
                    "kind": "Widget",
                    "name": name,
                    "uid": it.put(name)["metadata"]["uid"],
                    "controller": True,
                }
            ]
            for name in ("a", "b")
        ]
        it.other("secrets", "s", ownerReferences=references[0])
        async with running(it):
            reconciler.seen.clear()
            body = {"metadata": {"ownerReferences": references[1]}}
            path = "/api/v1/namespaces/default/secrets/s"
            it.api.call("PATCH", path, body, content_type="application/merge-patch+json")
            await asyncio.sleep(0.1)
            assert sorted(reconciler.names) == ["a", "b"]

    virtual_clock.run(main())


def test_references_are_an_index_and_a_map_in_one_by_name_in_the_same_namespace() -> None:
    async def main() -> None:
        reconciler = Recording()
        it = bench(reconciler, watches=[Watch(Secret, references=lambda widget: widget.spec.secrets)])
        it.api.call("POST", "/api/v1/namespaces", {"metadata": {"name": "other"}})
        it.put("one", secrets=["s", "s"])
        it.put("two", secrets=["other/s"])
        it.put("none")
        async with running(it):
            reconciler.seen.clear()
            it.other("secrets", "s")
            await asyncio.sleep(0.1)
            assert reconciler.names == ["one"]
            it.other("secrets", "s", namespace="other")
            await asyncio.sleep(0.1)
            assert reconciler.names == ["one", "two"]
            it.change("none", secrets=["s"])
            await asyncio.sleep(0.1)
            reconciler.seen.clear()
            it.api.call("DELETE", "/api/v1/namespaces/default/secrets/s")
            await asyncio.sleep(0.1)
            assert sorted(reconciler.names) == ["none", "one"]

    virtual_clock.run(main())


def test_references_by_another_property_and_to_cluster_scoped_objects() -> None:
    async def main() -> None:
        reconciler = Recording()
        watches = [
            Watch(Node, references=lambda widget: widget.spec.secrets),
            Watch(
                ConfigMap, references=lambda widget: str(widget.spec.size), by=lambda obj: obj.metadata.labels.values()
            ),
        ]
        it = bench(reconciler, watches=watches)
        it.put("a", size=7, secrets=["n"])
        async with running(it):
            reconciler.seen.clear()
            it.api.call("POST", "/api/v1/nodes", {"metadata": {"name": "n"}})
            await asyncio.sleep(0.1)
            assert reconciler.names == ["a"]
            it.other("configmaps", "x", labels={"for": "7", "or": "8"})
            it.other("configmaps", "y", labels={"for": "8"})
            await asyncio.sleep(0.1)
            assert reconciler.names == ["a", "a"]

    virtual_clock.run(main())


def test_a_map_is_asked_for_the_old_and_the_new_state() -> None:
    async def main() -> None:
        reconciler = Recording()
        watch = Watch(ConfigMap, map=lambda obj: [ObjectKey(obj.metadata.labels["for"], "default")])
        it = bench(reconciler, watches=[watch])
        for name in ("a", "b"):
            it.put(name)
        it.other("configmaps", "x", labels={"for": "a"})
        async with running(it):
            reconciler.seen.clear()
            body = {"metadata": {"labels": {"for": "b"}}}
            path = "/api/v1/namespaces/default/configmaps/x"
            it.api.call("PATCH", path, body, content_type="application/merge-patch+json")
            await asyncio.sleep(0.1)
            assert reconciler.names == ["a", "b"]

    virtual_clock.run(main())


def test_a_watched_object_that_breaks_its_schema_costs_no_event_when_it_is_mended_or_broken() -> None:
    async def main() -> None:
        reconciler = Recording()
        watch = Watch(
            ConfigMap,
            map=lambda obj: [ObjectKey(obj.data["for"], "default")],
            where=lambda event: event.new is not None and event.new.data != (event.old.data if event.old else None),
        )
        it = bench(reconciler, watches=[watch])
        it.put("a")
        path = "/api/v1/namespaces/default/configmaps"
        it.api.call("POST", path, {"metadata": {"name": "x"}, "data": {"for": "a", "bad": {}}})
        async with running(it):
            reconciler.seen.clear()
            states: list[Any] = [None, {}]
            for bad in states:  # mended, then broken again
                body = {"data": {"bad": bad}}
                it.api.call("PATCH", f"{path}/x", body, content_type="application/merge-patch+json")
                await asyncio.sleep(0.1)
            assert reconciler.names == ["a", "a"]
            assert it.manager.cache.informer(ConfigMap).handler_errors == 0
            assert it.manager.cache.informer(ConfigMap).decode_errors > 0

    virtual_clock.run(main())


def test_an_object_of_its_own_kind_that_breaks_its_schema_is_terminal_and_worked_on_when_mended() -> None:
    async def main() -> None:
        reconciler = Recording()
        it = bench(
            reconciler, where=lambda event: event.old is None or event.new is None or event.old.spec != event.new.spec
        )
        it.put("bad", size="seven")
        it.put("good")
        async with running(it):
            await asyncio.sleep(100.0)
            assert reconciler.names == ["good"]
            assert it.count("controller_runtime_terminal_reconcile_errors_total") == 1
            it.change("bad", size=7)
            await asyncio.sleep(0.1)
            assert reconciler.names == ["good", "bad"]

    virtual_clock.run(main())


def test_events_that_do_not_pass_the_filter_are_not_looked_at() -> None:
    async def main() -> None:
        reconciler = Recording()
        it = bench(reconciler, where=lambda event: event.new is not None and event.new.spec.size > 1)
        async with running(it):
            it.put("small", size=1)
            it.put("big", size=2)
            await asyncio.sleep(0.1)
            assert reconciler.names == ["big"]

    virtual_clock.run(main())


def test_coming_back_after_a_time_is_an_outcome_and_resets_the_failures() -> None:
    async def step(_: Widget) -> Result:
        return Result(requeue_after=timedelta(seconds=30))

    async def main() -> None:
        reconciler = Recording(step)
        it = bench(reconciler)
        async with running(it):
            it.put("a")
            await asyncio.sleep(95.0)
            times = [time for time, _, _ in reconciler.seen]
            assert [round(after - before) for before, after in itertools.pairwise(times)] == [30, 30, 30]
            assert it.outcomes() == {"requeue_after": 4}

    virtual_clock.run(main())


def test_a_change_comes_before_the_time_and_replaces_it() -> None:
    async def step(widget: Widget) -> Result:
        return Result(requeue_after=timedelta(seconds=30)) if widget.spec.size == 0 else DONE

    async def main() -> None:
        reconciler = Recording(step)
        it = bench(reconciler)
        async with running(it):
            it.put("a")
            await asyncio.sleep(10.0)
            it.change("a", size=1)
            await asyncio.sleep(60.0)
            assert [size for _, _, size in reconciler.seen] == [0, 1]

    virtual_clock.run(main())


@pytest.mark.parametrize(
    "error", [RuntimeError("oops"), Conflict("changed", status=409), TransportError("x", sent=True)]
)
def test_failures_are_tried_again_with_growing_delays_until_they_end(error: Exception) -> None:
    async def main() -> None:
        reconciler = Recording(fails(5, error))
        it = bench(reconciler)
        async with running(it):
            it.put("a")
            await asyncio.sleep(10.0)
            times = [time for time, _, _ in reconciler.seen]
            waits = [after - before for before, after in itertools.pairwise(times)]
            assert len(waits) == 5
            for number, wait_s in enumerate(waits):
                assert 0.005 * 2**number <= wait_s <= 0.0056 * 2**number + 0.001
            assert it.outcomes() == {"error": 5, "success": 1}
            assert it.count("controller_runtime_reconcile_errors_total") == 5
            unexpected = 5 if isinstance(error, RuntimeError) else 0
            assert it.count("controller_runtime_reconcile_panics_total") == unexpected

    virtual_clock.run(main())


def test_a_wait_that_the_server_asked_for_is_kept() -> None:
    error = Conflict("later", status=409, retry_after_s=20.0)

    async def main() -> None:
        reconciler = Recording(fails(1, error))
        it = bench(reconciler)
        async with running(it):
            it.put("a")
            await asyncio.sleep(30.0)
            (first, _, _), (second, _, _) = reconciler.seen
            assert second - first == pytest.approx(20.0, abs=0.1)

    virtual_clock.run(main())


def test_a_terminal_error_is_not_tried_again_until_something_changes() -> None:
    async def main() -> None:
        reconciler = Recording(fails(1, TerminalError("no such preset")))
        it = bench(reconciler)
        async with running(it):
            it.put("a")
            await asyncio.sleep(1000.0)
            assert reconciler.names == ["a"]
            assert it.outcomes() == {"error": 1}
            assert it.count("controller_runtime_terminal_reconcile_errors_total") == 1
            it.change("a", size=1)
            await asyncio.sleep(0.1)
            assert reconciler.names == ["a", "a"]

    virtual_clock.run(main())


def test_a_reconciler_that_forgets_to_return_harms_only_itself(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async def step(widget: Widget) -> Result:
            return cast("Result", None) if widget.metadata.name == "bad" else DONE

        reconciler = Recording(step)
        it = bench(reconciler)
        async with running(it):
            it.put("bad")
            it.put("good")
            await asyncio.sleep(1.0)
            assert "good" in reconciler.names
            assert reconciler.names.count("bad") > 3

    with caplog.at_level(logging.ERROR):
        virtual_clock.run(main())
    assert "Recording returned None: return DONE, or another Result" in caplog.text


def test_a_cancellation_that_was_not_meant_for_the_worker_does_not_cost_the_worker() -> None:
    async def main() -> None:
        async def never() -> None:
            await asyncio.get_running_loop().create_future()

        calls = 0

        async def step(_: Widget) -> Result:
            nonlocal calls
            calls += 1
            if calls == 1:
                inner = asyncio.create_task(never())
                asyncio.get_running_loop().call_later(0.1, inner.cancel)
                await inner
            return DONE

        reconciler = Recording(step)
        it = bench(reconciler)
        async with running(it):
            it.put("a")
            await asyncio.sleep(1.0)
            it.put("b")
            await asyncio.sleep(1.0)
            assert reconciler.names == ["a", "a", "b"]
            assert it.outcomes() == {"error": 1, "success": 2}

    virtual_clock.run(main())


def test_many_changes_during_a_reconcile_make_one_more_and_one_key_is_never_worked_on_twice_at_once() -> None:
    async def step(_: Widget) -> Result:
        await asyncio.sleep(5.0)
        return DONE

    async def main() -> None:
        reconciler = Recording(step)
        it = bench(reconciler, concurrency=4)
        async with running(it):
            it.put("a")
            await asyncio.sleep(1.0)
            for size in range(1, 100):
                it.change("a", size=size)
            await asyncio.sleep(30.0)
            assert [size for _, _, size in reconciler.seen] == [0, 99]

    virtual_clock.run(main())


def test_no_more_keys_are_worked_on_at_once_than_allowed_and_no_fewer() -> None:
    async def step(_: Widget) -> Result:
        await asyncio.sleep(1.0)
        return DONE

    async def main() -> None:
        reconciler = Recording(step)
        it = bench(reconciler, concurrency=3)
        async with running(it):
            for number in range(10):
                it.put(f"w{number}")
            await asyncio.sleep(0.5)
            assert it.count("controller_runtime_active_workers") == 3
            assert it.count("controller_runtime_max_concurrent_reconciles") == 3
            await asyncio.sleep(10.0)
            assert reconciler.most == 3
            assert sorted(reconciler.names) == [f"w{number}" for number in range(10)]
            assert it.count("controller_runtime_active_workers") == 0

    virtual_clock.run(main())


def test_live_events_overtake_the_first_list() -> None:
    async def step(_: Widget) -> Result:
        await asyncio.sleep(1.0)
        return DONE

    async def main() -> None:
        reconciler = Recording(step)
        it = bench(reconciler)
        for number in range(5):
            it.put(f"old{number}")
        async with running(it):
            it.put("new")
            await asyncio.sleep(10.0)
            assert reconciler.names.index("new") <= 2

    virtual_clock.run(main())


def test_every_line_logged_in_a_reconcile_has_its_controller_key_and_id(caplog: pytest.LogCaptureFixture) -> None:
    from kaito.runtime.logs import record_fields

    fields: list[dict[str, object]] = []

    async def step(_: Widget) -> Result:
        record = logging.LogRecord("x", logging.INFO, "f", 1, "m", (), None)
        fields.append(record_fields(record))
        return DONE

    async def main() -> None:
        it = bench(Recording(step))
        async with running(it):
            it.put("a")
            it.put("b")
            await asyncio.sleep(0.1)

    virtual_clock.run(main())
    assert [(each["controller"], each["key"]) for each in fields] == [("widget", "default/a"), ("widget", "default/b")]
    assert len({str(each["reconcile_id"]) for each in fields}) == 2


def test_what_cannot_work_is_refused_when_it_is_declared() -> None:
    with pytest.raises(ValueError, match="concurrency is 0; at least 1"):
        Controller(Widget, Recording(), concurrency=0)
    with pytest.raises(ValueError, match="exactly one of map and references"):
        Watch(Secret)
    with pytest.raises(ValueError, match="exactly one of map and references"):
        Watch(Secret, map=lambda obj: [], references=lambda obj: "x")

    async def main() -> None:
        it = bench(Recording())
        with pytest.raises(ValueError, match="two controllers are named 'widget'; give one of them a name="):
            it.manager.add(Controller(Widget, Recording()))
        with pytest.raises(RuntimeError, match="does not run"):
            _ = it.controller.queue

    virtual_clock.run(main())
