"""Whatever happens to a server, and whatever breaks meanwhile, a cache ends up equal to it and nobody is told wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Literal

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from kaito.informers import InformerOptions, ListMode
from kaito.testing import virtual_clock
from kaito.testing.fake_api import Failure, FakeApi
from tests.unit.testing_histories.audience import Audience
from tests.unit.testing_histories.history import (
    CRD,
    TABLES,
    WAITS,
    History,
    Json,
    Step,
    Widget,
    random_steps,
)
from tests.unit.testing_histories.kind import kind_goes_and_comes

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
# Longer than the silence after which a watch is dead, than a watch lasts, and than the longest wait between two tries.
SETTLED_S = 400.0
# And whether the server knows streaming lists.
WAYS_TO_LIST: tuple[tuple[ListMode, bool], ...] = (
    ("stream", True),
    ("stream", False),
    ("whole", True),
    ("pages", True),
)


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


def play(steps: Sequence[Step], *, list_mode: ListMode = "stream", streaming: bool = True, seed: int = 0) -> None:
    """Plays a history under virtual time."""

    async def main() -> None:
        world = FakeWorld(FakeApi(seed=seed, watch_list=streaming, bookmark_interval_s=20.0))
        history = History(world, "default")
        audience = Audience(history, world.api.transport(), InformerOptions(list_mode=list_mode), seed)
        async with audience.listening():
            await history.play(steps)
            history.handler_comes()
            await history.settle()
            await asyncio.sleep(SETTLED_S)
            audience.check(await world.objects())

    virtual_clock.run(main())


steps = st.integers(0, len(TABLES) + 1).flatmap(lambda number: st.sampled_from((*TABLES, WAITS, WAITS)[number]))
histories = st.integers(0, 100).flatmap(lambda length: st.lists(steps, min_size=length, max_size=length))


# A history that fails is told at once; add Phase.shrink to have it made short, which takes minutes.
@settings(
    max_examples=250,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    phases=[Phase.reuse, Phase.generate],
    print_blob=True,
)
@given(histories, st.sampled_from(WAYS_TO_LIST), st.integers(0, 3))
def test_after_any_history_the_cache_and_every_handler_are_where_the_server_is(
    history: list[Step], way: tuple[ListMode, bool], seed: int
) -> None:
    play(history, list_mode=way[0], streaming=way[1], seed=seed)


@pytest.mark.parametrize("seed", range(20))
def test_after_a_long_history_the_cache_and_every_handler_are_where_the_server_is(seed: int) -> None:
    list_mode, streaming = WAYS_TO_LIST[seed % len(WAYS_TO_LIST)]
    play(random_steps(seed, 400), list_mode=list_mode, streaming=streaming, seed=seed)


def test_when_a_kind_goes_its_objects_go_and_when_it_comes_again_it_is_watched_again() -> None:
    async def main() -> None:
        world = FakeWorld(FakeApi())
        await kind_goes_and_comes(world, world.api.transport(), "default")

    virtual_clock.run(main())
