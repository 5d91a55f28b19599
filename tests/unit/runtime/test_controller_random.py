"""Controller: whatever happens in whatever order, no key is with two workers, and nothing that happened is lost."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from typing import cast

import pytest

from kaito.client import Conflict
from kaito.kube.core_v1 import ConfigMap
from kaito.kube.object_key import ObjectKey
from kaito.runtime import DONE, Channel, Result, TerminalError, Watch
from kaito.testing import virtual_clock
from tests.unit.runtime.widgets import BASE, Bench, Widget, bench

NAMES = [f"w{number}" for number in range(5)]
MAPS = "/api/v1/namespaces/default/configmaps"
TIMEOUT_S = 3.0


class Chaos:
    """A reconciler that ends in every way there is, until it is told to be calm; and what became of each key."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.calm = False
        self.clock = itertools.count()
        self.touched: dict[str, int] = {}
        self.handled: dict[str, tuple[int, int]] = {}
        self.active: set[str] = set()
        self.overlaps: list[str] = []
        self.ways: list[Callable[[], Awaitable[Result]]] = [
            self.succeed,
            self.succeed,
            self.come_back,
            self.fail,
            self.conflict,
            self.hang,
            self.ignore_cancellation,
            self.clean_up_slowly,
            self.lose_an_inner_task,
            self.return_nonsense,
            self.cancel_itself,
        ]

    async def reconcile(self, widget: Widget) -> Result:
        name, began = widget.metadata.name, next(self.clock)
        if name in self.active:
            self.overlaps.append(name)
        self.active.add(name)
        try:
            await asyncio.sleep(self.rng.choice([0.0, 0.0, 0.1, 1.0, 2.9]))
            if not self.calm and self.rng.random() < 0.05:
                self.handled[name] = (began, widget.spec.size)
                raise TerminalError("not before it changes")
            result = await (self.succeed() if self.calm else self.rng.choice(self.ways)())
            if isinstance(result, Result):
                self.handled[name] = (began, widget.spec.size)
            return result
        finally:
            self.active.discard(name)

    async def succeed(self) -> Result:
        return DONE

    async def come_back(self) -> Result:
        return Result(requeue_after=timedelta(seconds=self.rng.choice([0.0, 0.5, 20.0])), jitter=0.5)

    async def fail(self) -> Result:
        raise RuntimeError("on purpose")

    async def conflict(self) -> Result:
        raise Conflict("changed", status=409)

    async def hang(self) -> Result:
        return cast("Result", await asyncio.get_running_loop().create_future())

    async def ignore_cancellation(self) -> Result:
        for _ in range(self.rng.randrange(1, 4)):
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(5.0)
        raise RuntimeError("late")

    async def clean_up_slowly(self) -> Result:
        try:
            return await self.hang()
        finally:
            await asyncio.sleep(7.0)

    async def lose_an_inner_task(self) -> Result:
        inner = asyncio.get_running_loop().create_future()
        inner.cancel()
        return cast("Result", await inner)

    async def return_nonsense(self) -> Result:
        return cast("Result", self.rng.choice([None, "done", 7]))

    async def cancel_itself(self) -> Result:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)
        return DONE


class World:
    """Objects that change at random, and the controller that is stopped and started at random."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.chaos = Chaos(rng)
        self.channel: Channel[ObjectKey] = Channel(capacity=2)
        self.it: Bench = bench(
            self.chaos,
            watches=[Watch(ConfigMap, map=self.concerned)],
            channels=[self.channel],
            concurrency=rng.choice([1, 2, 4]),
            reconcile_timeout=timedelta(seconds=TIMEOUT_S),
        )
        self.run: asyncio.Task[None]

    async def concerned(self, obj: ConfigMap) -> list[ObjectKey]:
        await asyncio.sleep(self.rng.choice([0.0, 0.2]))
        if not self.chaos.calm and self.rng.random() < 0.3:
            raise ConnectionError("away")
        return [ObjectKey(obj.metadata.labels["for"], "default")]

    def sizes(self) -> dict[str, int]:
        return {each["metadata"]["name"]: each["spec"]["size"] for each in self.it.api.objects(Widget)}

    def start(self) -> None:
        self.run = asyncio.create_task(self.it.controller.run(self.it.manager))

    async def stop(self) -> None:
        if self.rng.random() < 0.3:
            self.it.controller.stop_intake()
        self.run.cancel()
        await asyncio.wait([self.run])
        assert self.run.cancelled() or self.run.exception() is None
        assert self.chaos.active == set()

    async def step(self) -> None:
        name, chance = self.rng.choice(NAMES), self.rng.random()
        if chance < 0.04:
            await self.stop()
            self.start()
        elif name not in self.sizes():
            self.touch(name)
            self.it.put(name, size=self.rng.randrange(1000))
        elif chance < 0.55:
            self.touch(name)
            self.it.change(name, size=next(self.chaos.clock))
        elif chance < 0.62:
            self.it.api.call("DELETE", f"{BASE}/{name}")
        elif chance < 0.80:
            self.move_map(name)
        elif chance < 0.90:
            self.touch(name)
            await self.channel.put(ObjectKey(name, "default"))
        else:
            await self.it.controller.enqueue_all()

    def move_map(self, name: str) -> None:
        self.touch(name)
        # Numbered, since a patch that changes nothing is no event.
        body = {"metadata": {"labels": {"for": name, "number": str(next(self.chaos.clock))}}}
        if any(each["metadata"]["name"] == "x" for each in self.it.api.objects(ConfigMap)):
            self.it.api.call("PATCH", f"{MAPS}/x", body, content_type="application/merge-patch+json")
        else:
            self.it.other("configmaps", "x", labels={"for": name})

    def touch(self, name: str) -> None:
        self.chaos.touched[name] = next(self.chaos.clock)


async def live(seed: int) -> list[str]:
    """Plays a history to its end; returns what went wrong in it."""
    rng = random.Random(seed)
    world = World(rng)
    caches = asyncio.create_task(world.it.manager.cache.run())
    world.start()
    await asyncio.sleep(1.0)
    for _ in range(60):
        await world.step()
        await asyncio.sleep(rng.choice([0.0, 0.01, 0.5, 2.0, 6.0]))
    world.chaos.calm = True
    await asyncio.sleep(400.0)  # longer than any delay of a retry
    chaos, sizes = world.chaos, world.sizes()
    snapshot = world.it.controller.queue.snapshot()
    held = {
        "two workers had one key": not chaos.overlaps,
        "a state was not seen": {name: chaos.handled[name][1] for name in sizes} == sizes,
        "an event was lost": not [name for name in sizes if chaos.handled[name][0] < chaos.touched[name]],
        "keys were left": not (snapshot.ready or snapshot.delayed or snapshot.processing),
        "a reconcile was left": not world.it.controller.stuck(),
        "a worker was left": world.it.count("controller_runtime_active_workers") == 0,
    }
    await world.stop()
    caches.cancel()
    await asyncio.wait([caches])
    held["a task was left"] = asyncio.all_tasks() == {asyncio.current_task()}
    return [f"seed {seed}: {what}" for what, well in held.items() if not well]


@pytest.mark.parametrize("seeds", [range(start, start + 10) for start in range(0, 60, 10)], ids=str)
def test_no_key_is_with_two_workers_and_nothing_is_lost(seeds: range) -> None:
    assert [fault for seed in seeds for fault in virtual_clock.run(live(seed), seed=seed)] == []
