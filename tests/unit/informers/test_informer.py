"""Informer: handlers are told of everything once and in order, and one's fault is not another's."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from kaito.informers import Informer, InformerEvent, InformerOptions
from kaito.kube.core_v1 import ConfigMap, Namespace
from kaito.kube.object_key import ObjectKey
from kaito.testing import virtual_clock
from kaito.testing.fake_api import FakeApi

MAPS = "/api/v1/namespaces/default/configmaps"


def put(api: FakeApi, *names: str) -> None:
    for name in names:
        api.call("POST", MAPS, {"metadata": {"name": name}})


@asynccontextmanager
async def running(informer: Informer[ConfigMap]) -> AsyncIterator[None]:
    task = asyncio.create_task(informer.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


class Told:
    """A handler that writes down what it is told."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str, bool]] = []
        self.begun = asyncio.Event()

    def __call__(self, event: InformerEvent[ConfigMap]) -> None:
        self.begun.set()
        self.events.append((event.change.type, event.key.name, event.initial))


def test_handlers_hear_of_the_first_list_as_initial_and_of_changes_as_live() -> None:
    async def main() -> None:
        api, told = FakeApi(), Told()
        put(api, "a")
        informer = Informer(ConfigMap, api.transport())
        informer.add_handler(told)
        async with running(informer):
            await informer.wait_synced()
            assert told.events == [("added", "a", True)]
            put(api, "b")
            api.call("DELETE", f"{MAPS}/a")
            await asyncio.sleep(0.1)
            assert told.events[1:] == [("added", "b", False), ("deleted", "a", False)]

    virtual_clock.run(main())


def test_synced_is_said_only_after_every_handler_has_been_told() -> None:
    async def main() -> None:
        api = FakeApi()
        put(api, *(f"m{number}" for number in range(450)))
        informer = Informer(ConfigMap, api.transport())
        synced_when_told: set[bool] = set()
        informer.add_handler(lambda event: synced_when_told.add(informer.synced))
        async with running(informer):
            await informer.wait_synced()
            assert synced_when_told == {False}

    virtual_clock.run(main())


def test_a_handler_that_comes_late_is_told_of_everything_once_without_gap() -> None:
    async def main() -> None:
        api, told = FakeApi(), Told()
        put(api, "b", "a")
        informer = Informer(ConfigMap, api.transport())
        async with running(informer):
            await informer.wait_synced()
            informer.add_handler(told)
            put(api, "c")
            await asyncio.sleep(0.1)
            assert told.events == [("added", "a", True), ("added", "b", True), ("added", "c", False)]

    virtual_clock.run(main())


def test_a_handler_that_comes_in_the_middle_of_a_list_is_told_of_each_object_once() -> None:
    async def main() -> None:
        api, first, late = FakeApi(), Told(), Told()
        put(api, *(f"m{number:04}" for number in range(1000)))
        informer = Informer(ConfigMap, api.transport())
        informer.add_handler(first)
        async with running(informer):
            await first.begun.wait()
            assert len(first.events) < 1000
            informer.add_handler(late)
            await informer.wait_synced()
            assert sorted(late.events) == sorted(first.events)
            assert len(late.events) == 1000

    virtual_clock.run(main())


def test_a_removed_handler_hears_nothing_more_even_in_the_middle_of_a_list() -> None:
    async def main() -> None:
        api, told = FakeApi(), Told()
        put(api, *(f"m{number:04}" for number in range(1000)))
        informer = Informer(ConfigMap, api.transport())
        registration = informer.add_handler(told)
        async with running(informer):
            await told.begun.wait()
            registration.remove()
            registration.remove()  # twice is harmless
            heard = len(told.events)
            await informer.wait_synced()
            put(api, "x")
            await asyncio.sleep(0.1)
            assert len(told.events) == heard < 1000

    virtual_clock.run(main())


def test_a_handler_that_raises_costs_neither_the_others_their_events_nor_the_informer_its_life(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(event: InformerEvent[ConfigMap]) -> None:
        raise RuntimeError("on purpose")

    async def main() -> None:
        api, told = FakeApi(), Told()
        informer = Informer(ConfigMap, api.transport())
        informer.add_handler(broken)
        informer.add_handler(told)
        async with running(informer):
            put(api, "a", "b")
            await asyncio.sleep(0.1)
            assert len(told.events) == 2
            assert informer.handler_errors == 2

    with caplog.at_level(logging.ERROR):
        virtual_clock.run(main())
    assert "on purpose" in caplog.text


def test_the_last_state_of_a_deleted_object_can_be_read() -> None:
    async def main() -> None:
        api = FakeApi()
        informer = Informer(ConfigMap, api.transport())
        last: list[ConfigMap | None] = []
        informer.add_handler(lambda event: last.append(event.old) if event.change.type == "deleted" else None)
        async with running(informer):
            api.call("POST", MAPS, {"metadata": {"name": "a"}, "data": {"x": "1"}})
            await informer.wait_synced()
            api.call("DELETE", f"{MAPS}/a")
            await asyncio.sleep(0.1)
            (obj,) = last
            assert obj is not None
            assert obj.data == {"x": "1"}

    virtual_clock.run(main())


def test_waiting_for_a_condition_ends_when_the_store_reaches_it_and_leaves_nothing_when_cancelled() -> None:
    async def main() -> None:
        api = FakeApi()
        informer = Informer(ConfigMap, api.transport())
        async with running(informer):
            await informer.wait_synced()
            waiting = asyncio.create_task(informer.wait_until(lambda: len(informer.store) == 2))
            given_up = asyncio.create_task(informer.wait_until(lambda: False))
            put(api, "a")
            await asyncio.sleep(0.1)
            assert not waiting.done()
            given_up.cancel()
            put(api, "b")
            await asyncio.wait([waiting, given_up], timeout=1.0)
            assert waiting.done()
            assert informer._waiters == []

    virtual_clock.run(main())


def test_an_informer_of_one_namespace_holds_nothing_of_another() -> None:
    async def main() -> None:
        api = FakeApi()
        put(api, "a")
        api.call("POST", "/api/v1/namespaces/kube-system/configmaps", {"metadata": {"name": "b"}})
        informer = Informer(ConfigMap, api.transport(), InformerOptions(namespaces=frozenset({"kube-system"})))
        async with running(informer):
            await informer.wait_synced()
            assert [informer.object_key(key) for key, _ in informer.store.items()] == [ObjectKey("b", "kube-system")]
            assert repr(informer) == "Informer(ConfigMap in kube-system, 1 objects)"

    virtual_clock.run(main())


def test_keys_of_cluster_scoped_objects_have_no_namespace() -> None:
    async def main() -> None:
        assert Informer(Namespace, FakeApi().transport()).object_key("default") == ObjectKey("default")

    virtual_clock.run(main())
