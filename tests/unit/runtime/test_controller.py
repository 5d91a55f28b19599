"""Controller: what makes a key be worked on, and what a bad object may not harm."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from kaito.kube.core_v1 import ConfigMap, Node, Secret
from kaito.kube.object_key import ObjectKey
from kaito.runtime import DONE, Controller, Owned, Result, Watch, spec_changed
from kaito.runtime.reconciler import KeyReconciler
from kaito.testing import virtual_clock
from kaito.testing.fake_api import Fault, Refuse
from tests.unit.runtime.widgets import BASE, Recording, Widget, bench, running


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


def test_of_owned_objects_only_events_that_pass_concern_their_owner_and_another_owner_always() -> None:
    def owner(made: dict[str, Any]) -> dict[str, Any]:
        metadata = made["metadata"]
        reference = {"apiVersion": "example.com/v1", "kind": "Widget", "name": metadata["name"]}
        return {**reference, "uid": metadata["uid"], "controller": True}

    async def main() -> None:
        reconciler = Recording()
        it = bench(reconciler, owns=[Owned(Secret, where=spec_changed())])
        a, b = owner(it.put("a")), owner(it.put("b"))
        path = "/api/v1/namespaces/default/secrets/owned"

        def patch(body: dict[str, Any]) -> None:
            it.api.call("PATCH", path, body, content_type="application/merge-patch+json")

        async with running(it):
            it.other("secrets", "owned", ownerReferences=[a])
            await asyncio.sleep(0.1)
            reconciler.seen.clear()
            patch({"metadata": {"labels": {"x": "y"}}})
            await asyncio.sleep(0.1)
            assert reconciler.names == []
            patch({"data": {"x": "eQ=="}})
            await asyncio.sleep(0.1)
            assert reconciler.names == ["a"]
            patch({"metadata": {"ownerReferences": [b]}})
            await asyncio.sleep(0.1)
            assert reconciler.names == ["a", "a", "b"]

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
