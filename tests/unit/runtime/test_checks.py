"""The manager's own checks: informers, controllers and services, each by its name, and why it is not well."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from kaito.informers import InformerOptions
from kaito.kube.core_v1 import ConfigMap
from kaito.runtime import Controller, Manager, Service
from kaito.runtime.checks import SILENT_S
from kaito.testing import virtual_clock
from kaito.testing.fake_api import FakeApi, Fault, Hang, Refuse
from tests.unit.runtime.managers import Slow, manager, put
from tests.unit.runtime.widgets import Widget


def play(it: Manager, script: Any) -> None:
    async def main() -> None:
        running = asyncio.create_task(it.run())
        await asyncio.sleep(1.0)
        await script()
        it.stop()
        await running

    virtual_clock.run(main())


def test_each_kind_has_a_check_that_says_for_how_long_nothing_came_and_why() -> None:
    api = FakeApi()
    it = manager(api, Slow())

    async def script() -> None:
        assert it.servers.ready.fault("informer/ConfigMap") is None
        api.faults.add(Fault(Refuse(403, "Forbidden", "no rights"), verb="watch", times=None))
        api.cut_watches()
        await asyncio.sleep(30.0)
        fault = it.servers.ready.fault("informer/ConfigMap")
        assert fault is not None
        assert fault.startswith("watch broken (last heard of 3")
        assert "no rights" in fault
        assert "; grant get, list and watch on configmaps.core" in fault

    play(it, script)


def test_a_kind_without_a_crd_is_waited_for_by_name() -> None:
    it = manager(FakeApi())
    it.add(Controller(Widget, Slow()))

    async def script() -> None:
        results = it.servers.ready.results()
        fault = results["informer/Widget.example.com"]
        assert fault is not None
        assert fault == (
            "waiting for its CRD: the API server serves no widgets.example.com v1; "
            "apply its CustomResourceDefinition, and it is found by itself"
        )
        it.crd_remedy = "install it with: mine crds | kubectl apply -f -"
        assert str(it.servers.ready.results()["informer/Widget.example.com"]).endswith(f"; {it.crd_remedy}")
        assert results["controller/widget"] == "waits for its caches; see the checks of its informers"

    play(it, script)


def test_a_key_that_is_worked_on_for_too_long_is_named_with_its_seconds() -> None:
    api = FakeApi()
    put(api, *"abcdefgh")
    it = manager(api, stuck_s=20.0)
    it.add(Controller(ConfigMap, Slow(100.0), concurrency=7))

    async def script() -> None:
        assert it.servers.ready.fault("controller/configmap") is None
        await asyncio.sleep(29.0)
        fault = it.servers.ready.fault("controller/configmap")
        assert fault is not None
        assert fault.startswith("stuck working on default/a for 30 s, default/b for 30 s, ")
        assert fault.endswith(" and 2 more: its reconciler does not return")

    play(it, script)


def test_a_reconcile_within_its_own_long_time_limit_is_not_stuck() -> None:
    api = FakeApi()
    put(api, "a")
    it = manager(api)
    it.add(Controller(ConfigMap, Slow(4000.0), reconcile_timeout=timedelta(hours=1)))

    async def script() -> None:
        await asyncio.sleep(3000.0)
        assert it.servers.ready.fault("controller/configmap") is None

    play(it, script)


def test_a_reconcile_without_a_time_limit_is_stuck_after_ten_minutes() -> None:
    api = FakeApi()
    put(api, "a")
    it = manager(api)
    it.add(Controller(ConfigMap, Slow(4000.0), reconcile_timeout=None))

    async def script() -> None:
        await asyncio.sleep(590.0)
        assert it.servers.ready.fault("controller/configmap") is None
        await asyncio.sleep(20.0)
        assert (it.servers.ready.fault("controller/configmap") or "").startswith("stuck working on default/a for 6")

    play(it, script)


def test_a_watch_from_which_not_even_a_bookmark_comes_is_told_of() -> None:
    api = FakeApi()
    it = manager(api, Slow())

    async def script() -> None:
        api.faults.add(Fault(Hang(), verb="watch", times=None))
        api.faults.add(Fault(Hang(), verb="list", times=None))
        api.cut_watches()
        await asyncio.sleep(SILENT_S + 60.0)
        fault = it.servers.ready.fault("informer/ConfigMap")
        assert fault is not None
        assert "last heard of 66" in fault or "watch silent for 66" in fault

    play(it, script)


def test_several_informers_of_one_kind_share_a_check_that_fails_for_any_of_them() -> None:
    it = manager(FakeApi(), Slow())
    it.cache.informer(ConfigMap, InformerOptions(labels="a=b"))
    assert it.servers.ready.results()["informer/ConfigMap"] == "first list not in yet"


def test_services_speak_for_themselves_and_starting_is_no_well_being() -> None:
    class Sick(Service):
        def __init__(self) -> None:
            self.certificate = "expired an hour ago"

        def fault(self) -> str | None:
            return self.certificate or None

        async def started(self) -> None:
            await asyncio.sleep(10.0)

        async def run(self) -> None:
            await asyncio.get_running_loop().create_future()

    it = manager(FakeApi())
    it.add(sick := Sick())

    async def script() -> None:
        assert it.servers.ready.fault("Sick") == "expired an hour ago"
        sick.certificate = ""
        assert it.servers.ready.fault("Sick") == "has been starting for 1 s"
        await asyncio.sleep(10.0)
        assert it.servers.ready.fault("Sick") is None

    play(it, script)


def test_what_is_in_queues_and_caches_is_described_for_people() -> None:
    api = FakeApi()
    put(api, "a", "b")
    it = manager(api, Slow(100.0), stuck_s=0.5, debug=True)

    async def script() -> None:
        said: Any = it._debug()
        (cache,) = said["caches"]
        assert (cache["kind"], cache["objects"], cache["synced"], cache["fault"]) == ("ConfigMap", 2, True, None)
        queue = said["controllers"]["configmap"]
        assert (queue["phase"], queue["stuck"]) == ("working", ["default/a"])
        assert [each["key"] for each in queue["ready"]] == ["default/b"]
        assert [each["key"] for each in queue["processing"]] == ["default/a"]

    play(it, script)
