"""Kinds that a cluster may lack: a manager is ready without them, and takes them up once they are there."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from kaito.kube.core_v1 import ConfigMap
from kaito.kube.object_key import ObjectKey
from kaito.runtime import DONE, Controller, Manager, Result, Watch
from kaito.testing import virtual_clock
from kaito.testing.fake_api import FakeApi
from tests.unit.runtime.widgets import Widget

MAPS = "/api/v1/namespaces/default/configmaps"
LONG_S = 600.0


class Notes:
    """A reconciler that writes down what it was told of."""

    def __init__(self) -> None:
        self.keys: list[ObjectKey] = []

    async def reconcile_key(self, key: ObjectKey) -> Result:
        self.keys.append(key)
        return DONE


def play(*controllers: Controller[Any], script: Any) -> None:
    async def main() -> None:
        api = FakeApi()
        manager = Manager("tests", None, transport=api.transport(), metrics="0", health="0", rng=random.Random(1))
        for controller in controllers:
            manager.add(controller)
        api.call("POST", MAPS, {"metadata": {"name": "a"}})
        running = asyncio.create_task(manager.run())
        await asyncio.sleep(5)
        await script(api, manager)
        manager.stop()
        await running

    virtual_clock.run(main())


def fault(manager: Manager) -> str | None:
    faults = {name: fault for name, fault in manager.servers.ready.results().items() if fault}
    return "; ".join(f"{name}: {fault}" for name, fault in faults.items()) or None


def test_a_watch_of_a_missing_kind_holds_nothing_up_and_works_once_it_is_there() -> None:
    notes = Notes()

    async def script(api: FakeApi, manager: Manager) -> None:
        assert notes.keys == [ObjectKey("a", "default")]
        assert fault(manager) is None
        api.register(Widget)
        api.call("POST", Widget.resource_type.path("default"), {"metadata": {"name": "w"}})
        await asyncio.sleep(LONG_S)
        assert notes.keys[1:] == [ObjectKey("of-w", "default")]
        assert fault(manager) is None

    watch = Watch(Widget, map=lambda widget: [ObjectKey(f"of-{widget.metadata.name}", "default")], optional=True)
    play(Controller(ConfigMap, notes, watches=[watch]), script=script)


def test_a_controller_of_a_missing_kind_waits_for_it_beside_others_that_work() -> None:
    maps, widgets = Notes(), Notes()

    async def script(api: FakeApi, manager: Manager) -> None:
        assert (len(maps.keys), len(widgets.keys)) == (1, 0)
        assert fault(manager) is None
        api.register(Widget)
        api.call("POST", Widget.resource_type.path("default"), {"metadata": {"name": "w"}})
        await asyncio.sleep(LONG_S)
        assert widgets.keys == [ObjectKey("w", "default")]

    play(Controller(ConfigMap, maps), Controller(Widget, widgets, optional=True), script=script)


def test_a_missing_kind_that_one_controller_needs_keeps_the_manager_unready() -> None:
    async def script(api: FakeApi, manager: Manager) -> None:
        assert "waiting for its CRD" in (fault(manager) or "")

    optional = Watch(Widget, map=lambda _: [], optional=True)
    needed = Controller(Widget, Notes())
    play(Controller(ConfigMap, Notes(), watches=[optional]), needed, script=script)
