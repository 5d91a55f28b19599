"""What the tests of controllers stand on: a manager of Widgets on a fake API server, and a reconciler that records."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

from kaito.kube.model import KubeModel
from kaito.kube.resource import Resource
from kaito.runtime import DONE, Controller, Elections, Manager, Result
from kaito.runtime.reconciler import KeyReconciler, Reconciler
from kaito.testing.fake_api import FakeApi

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

    def __init__(
        self, api: FakeApi, reconciler: Any, *, leader_election: Elections | bool = False, **options: Any
    ) -> None:
        self.api = api
        self.manager = Manager(
            "tests",
            None,
            transport=api.transport(),
            metrics="0",
            health="0",
            leader_election=leader_election,
            rng=random.Random(1),
        )
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
