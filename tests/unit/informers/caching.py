"""What the tests of caches stand on: a cache and its client on a fake API server whose watches can be held back."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from prometheus_client import CollectorRegistry

from kaito.client import Client
from kaito.client.middleware import Middleware, RetryMiddleware
from kaito.client.transport import Request, Response, ResponseStream, Transport
from kaito.informers import InformerOptions
from kaito.informers.cache import Cache
from kaito.informers.floors import WriteFloors
from kaito.kube.core_v1 import ConfigMap
from kaito.kube.frozen import FrozenDict, FrozenMap
from kaito.kube.meta_v1 import ObjectMeta
from kaito.kube.model import KubeModel
from kaito.kube.object_key import ObjectKey
from kaito.kube.resource import Resource
from kaito.testing.fake_api import FakeApi

MAPS = "/api/v1/namespaces/default/configmaps"
WIDGETS = "/apis/example.com/v1/namespaces/default/widgets"
KEY = ObjectKey("a", "default")


class WidgetSpec(KubeModel):
    """What a widget wants."""

    size: int = 0
    parts: tuple[str, ...] = ()


class Widget(Resource, group="example.com", version="v1"):
    """A custom resource."""

    spec: WidgetSpec = WidgetSpec()
    status: FrozenMap[str, str] | None = None


class HeldStream:
    """A watch whose bytes wait at a gate."""

    def __init__(self, inner: ResponseStream, gate: asyncio.Event) -> None:
        self._inner = inner
        self._gate = gate
        self.status = inner.status
        self.headers = inner.headers

    async def chunks(self) -> AsyncIterator[bytes]:
        async for chunk in self._inner.chunks():
            await self._gate.wait()
            yield chunk

    async def aclose(self) -> None:
        await self._inner.aclose()


class HeldWatches:
    """A transport on which watches can be held back, as a server that lags does."""

    def __init__(self, inner: Transport) -> None:
        self._inner = inner
        self.gate = asyncio.Event()
        self.gate.set()

    async def send(self, request: Request) -> Response:
        return await self._inner.send(request)

    async def stream(self, request: Request) -> ResponseStream:
        return HeldStream(await self._inner.stream(request), self.gate)

    async def aclose(self) -> None:
        await self._inner.aclose()


class Bench:
    """A cache of ConfigMaps and Widgets, and a client that reads from it, on a fake API server."""

    def __init__(
        self,
        api: FakeApi,
        read_wait_s: float = 2.0,
        options: InformerOptions = InformerOptions(),
    ) -> None:
        self.api = api
        api.register(Widget)
        self.transport = HeldWatches(api.transport())
        self.floors = WriteFloors()
        middleware: list[Middleware] = [self.floors, RetryMiddleware(random.Random(1))]
        live = Client(self.transport, field_owner="tests", middleware=middleware)
        self.registry = CollectorRegistry()
        self.cache = Cache(
            live,
            self.floors,
            options=options,
            registry=self.registry,
            rng=random.Random(1),
            read_wait_s=read_wait_s,
        )
        self.client = Client(self.transport, field_owner="tests", middleware=middleware, reader=self.cache)
        self.maps = self.cache.informer(ConfigMap)
        self.widgets = self.cache.informer(Widget)

    def start(self) -> None:
        self._task = asyncio.create_task(self.cache.run())

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])
        assert self._task.cancelled()

    @property
    def floor_count(self) -> int:
        return sum(len(floors) for kinds in self.floors._kinds.values() for floors in kinds)

    def lag(self, seconds: float) -> None:
        """Holds all watches back for a while."""
        self.transport.gate.clear()
        asyncio.get_running_loop().call_later(seconds, self.transport.gate.set)

    def put(self, name: str, **data: str) -> None:
        self.api.call("POST", MAPS, {"metadata": {"name": name, "labels": data}, "data": data})

    def gets(self) -> int:
        return sum(entry.verb == "get" for entry in self.api.log)


@asynccontextmanager
async def bench(*, synced: bool = True, **options: Any) -> AsyncIterator[Bench]:
    it = Bench(FakeApi(), **options)
    it.start()
    if synced:
        await it.cache.wait_synced()
    try:
        yield it
    finally:
        await it.stop()
        assert len(asyncio.all_tasks()) == 1


def config_map(name: str = "a", **data: str) -> ConfigMap:
    return ConfigMap(metadata=ObjectMeta(name=name, namespace="default"), data=FrozenDict(data))
