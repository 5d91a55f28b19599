"""What the tests of the fake API server share: a custom resource, and a client on a server under virtual time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

import pytest

from kaito.client.client import Client
from kaito.kube.model import KubeModel
from kaito.kube.resource import Resource
from kaito.testing.fake_api import FakeApi
from kaito.testing.virtual_clock import run

T = TypeVar("T")
Play = Callable[[Callable[[FakeApi, Client], Awaitable[Any]]], Any]


class WidgetSpec(KubeModel):
    size: int = 0
    colour: str | None = None


class WidgetStatus(KubeModel):
    phase: str = ""


class Widget(Resource, group="example.com", version="v1"):
    spec: WidgetSpec = WidgetSpec()
    status: WidgetStatus | None = None


@pytest.fixture
def widget() -> type[Widget]:
    """The class of the custom resource that the server of `play` serves."""
    return Widget


@pytest.fixture
def play() -> Callable[..., Any]:
    """Runs a coroutine function of (server, client) under virtual time; further arguments go to the server."""

    def play(main: Callable[[FakeApi, Client], Awaitable[T]], **options: Any) -> T:
        async def body() -> T:
            api = FakeApi(**options)
            api.register(Widget)
            async with Client(api.transport(), field_owner="tests") as client:
                return await main(api, client)

        return run(body())

    return play


@pytest.fixture
def make() -> Callable[..., Widget]:
    """Makes a Widget in the namespace default."""

    def make(name: str, *, size: int = 1, labels: Mapping[str, str] | None = None, **metadata: Any) -> Widget:
        meta = {"name": name, "namespace": "default", "labels": labels or {}, **metadata}
        return Widget.model_validate({"metadata": meta, "spec": {"size": size}})

    return make
