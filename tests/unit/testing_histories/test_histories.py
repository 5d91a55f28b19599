"""Whatever happens to a server, and whatever breaks meanwhile, a cache ends up equal to it and nobody is told wrong."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kaito.informers import Informer, Reflector, Store
from kaito.testing import virtual_clock
from kaito.testing.fake_api import Failure, FakeApi
from tests.unit.testing_histories.history import (
    CRD,
    SELECTOR,
    TABLES,
    WAITS,
    Consumer,
    History,
    Json,
    Step,
    Widget,
    chosen,
    contents,
    identities,
    random_steps,
)
from tests.unit.testing_histories.observing import Following

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
# Longer than the silence after which a watch is dead, than a watch lasts, and than the longest wait between two tries.
SETTLED_S = 400.0


class FakeWorld:
    """History happens to a fake API server."""

    def __init__(self, api: FakeApi) -> None:
        self.api = api
        self.faults = api.faults
        api.call("POST", CRDS, CRD)

    async def request(
        self, method: str, path: str, body: Json | None = None, content_type: str = "application/json"
    ) -> Json | None:
        try:
            return self.api.call(method, path, body, content_type=content_type)
        except Failure:
            return None

    def cut(self, how: Literal["reset", "close", "expire"]) -> None:
        self.api.cut_watches(how)

    def compact(self) -> None:
        self.api.store.compact()

    async def set_served(self, served: bool) -> None:
        if served:
            self.api.call("POST", CRDS, CRD)
        else:
            self.api.call("DELETE", f"{CRDS}/{CRD['metadata']['name']}")

    async def objects(self) -> list[Json]:
        return [{"apiVersion": "histories.example.com/v1", "kind": "Widget", **obj} for obj in self.api.objects(Widget)]


def play(steps: Sequence[Step], *, streaming: bool = True, seed: int = 0) -> None:
    """Plays a history under virtual time, with two handlers of an informer and a reflector of a selection."""

    async def main() -> None:
        world = FakeWorld(FakeApi(seed=seed, watch_list=streaming, bookmark_interval_s=20.0))
        informer = Informer(Widget, world.api.transport(), rng=random.Random(seed))
        late: list[Consumer] = []

        def add_late() -> None:
            if not late:
                late.append(Consumer("late", history.all))
                informer.add_handler(late[0].hear)

        history = History(world, "default", add_late)
        first = Consumer("first", history.all)
        informer.add_handler(first.hear)
        store, selection = Store(), Consumer("selection", history.selected)
        reflector = Reflector(
            world.api.transport(),
            Widget.resource_type,
            store,
            Following(selection),
            labels=SELECTOR,
            rng=random.Random(seed + 1),
        )
        tasks = [asyncio.create_task(informer.run()), asyncio.create_task(reflector.run())]
        await history.play(steps)
        add_late()
        await history.settle()
        await asyncio.sleep(SETTLED_S)
        assert not any(task.done() for task in tasks)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        objects = await world.objects()
        for consumer, cached, real in (
            (first, informer.store, objects),
            (late[0], informer.store, objects),
            (selection, store, chosen(objects)),
        ):
            assert consumer.broken == []
            assert consumer.replica == {key: (entry.uid, entry.rv) for key, entry in cached.items()} == identities(real)
            assert consumer.content == contents(real)

    virtual_clock.run(main())


steps = st.integers(0, len(TABLES) + 1).flatmap(lambda number: st.sampled_from((*TABLES, WAITS, WAITS)[number]))
histories = st.integers(0, 100).flatmap(lambda length: st.lists(steps, min_size=length, max_size=length))


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(histories, st.booleans(), st.integers(0, 3))
def test_after_any_history_the_cache_and_every_handler_are_where_the_server_is(
    history: list[Step], streaming: bool, seed: int
) -> None:
    play(history, streaming=streaming, seed=seed)


@pytest.mark.parametrize("seed", range(20))
def test_after_a_long_history_the_cache_and_every_handler_are_where_the_server_is(seed: int) -> None:
    play(random_steps(seed, 400), streaming=seed % 3 > 0, seed=seed)
