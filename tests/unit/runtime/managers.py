"""What the tests of managers stand on: a manager on a fake API server, and a reconciler that takes its time."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from kaito.kube.core_v1 import ConfigMap
from kaito.runtime import DONE, Controller, Manager, Result
from kaito.testing.fake_api import FakeApi

MAPS = "/api/v1/namespaces/default/configmaps"


class Slow:
    """A reconciler that takes its time, and writes down how it ended."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.begun = 0
        self.ended = 0
        self.cancelled = 0

    async def reconcile(self, _: ConfigMap) -> Result:
        self.begun += 1
        try:
            await asyncio.sleep(self.seconds)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        self.ended += 1
        return DONE


def manager(api: FakeApi, reconciler: Any | None = None, **options: Any) -> Manager:
    chosen: dict[str, Any] = {"metrics": "0", "health": "0", "rng": random.Random(1), **options}
    made = Manager("tests", None, transport=api.transport(), **chosen)
    if reconciler is not None:
        made.add(Controller(ConfigMap, reconciler))
    return made


def put(api: FakeApi, *names: str) -> None:
    for name in names:
        api.call("POST", MAPS, {"metadata": {"name": name}})


def assert_nothing_left() -> None:
    assert asyncio.all_tasks() == {asyncio.current_task()}
