"""What a new leader's caches hold before it works: whatever its reconciler may read, listed anew, and not too often."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

from kaito.client import Client
from kaito.informers.cache import Cache
from kaito.informers.floors import WriteFloors
from kaito.kube.core_v1 import ConfigMap, Secret
from kaito.kube.resource import Resource
from kaito.runtime.election.fresh_caches import PATIENCE_S, FreshCaches
from kaito.testing import eventually, virtual_clock
from kaito.testing.fake_api import Delay, FakeApi, Fault, Hang, Refuse

KINDS = (ConfigMap, Secret)
MAPS, SECRETS = (f"/api/v1/namespaces/default/{plural}" for plural in ("configmaps", "secrets"))


class Scene:
    """A cache of two kinds, synced, whose watches hear nothing any more."""

    def __init__(self) -> None:
        self.api = FakeApi()
        for path in (MAPS, SECRETS):
            self.api.call("POST", path, {"metadata": {"name": "a"}})
        client = Client(self.api.transport(), field_owner="test")
        self.cache = Cache(client, WriteFloors(), rng=random.Random(1))
        self.fresh = FreshCaches(self.cache)

    async def begin(self, kinds: Sequence[type[Resource]] = KINDS) -> asyncio.Task[None]:
        for kind in kinds:
            self.cache.informer(kind)
        running = asyncio.create_task(self.cache.run())
        await self.cache.wait_synced()
        return running

    def lists(self, kind: type[Resource]) -> int:
        return sum(part.reflector.begun for part in self.cache.informer(kind).parts)


async def end(running: asyncio.Task[None]) -> None:
    running.cancel()
    await asyncio.wait([running])


def test_a_kind_that_the_controller_only_reads_is_as_new_as_its_own() -> None:
    async def main() -> None:
        scene = Scene()
        running = await scene.begin()
        deaf = scene.api.faults.add(Fault(Hang(), verb="watch", times=None))
        scene.api.cut_watches("reset")
        body = {"metadata": {"labels": {"by": "leader-before"}}}
        scene.api.call("PATCH", f"{SECRETS}/a", body, content_type="application/merge-patch+json")
        scene.api.faults.remove(deaf)
        await scene.fresh.wait([ConfigMap])
        stored = next(entry for _, entry in scene.cache.informer(Secret).store.items())
        assert scene.cache.informer(Secret).decode(stored).metadata.labels == {"by": "leader-before"}
        await end(running)

    virtual_clock.run(main())


def test_many_that_win_together_or_one_after_the_other_share_the_lists() -> None:
    async def main() -> None:
        scene = Scene()
        running = await scene.begin()
        before = scene.lists(Secret)
        scene.api.faults.add(Fault(Delay(3.0), verb="watch", times=None))
        scene.api.faults.add(Fault(Delay(3.0), verb="list", times=None))
        winners = []
        for _ in range(10):
            winners.append(asyncio.create_task(scene.fresh.wait([ConfigMap])))
            await asyncio.sleep(0.2)
        await asyncio.gather(*winners)
        assert scene.lists(Secret) - before == 2
        await end(running)

    virtual_clock.run(main())


def test_a_kind_that_cannot_be_listed_holds_nobody_up_who_does_not_need_it() -> None:
    async def main() -> None:
        scene = Scene()
        running = await scene.begin()
        scene.api.faults.add(Fault(Refuse(403, "Forbidden"), resource="secrets", times=None))
        began = asyncio.get_running_loop().time()
        await scene.fresh.wait([ConfigMap])
        assert PATIENCE_S <= asyncio.get_running_loop().time() - began < PATIENCE_S + 1.0
        needs_it = asyncio.create_task(scene.fresh.wait([Secret]))
        await asyncio.sleep(60.0)
        assert not needs_it.done()
        scene.api.faults.clear()
        await eventually(needs_it.done, timeout_s=120.0)
        await end(running)

    virtual_clock.run(main())


def test_a_winner_that_is_cancelled_leaves_the_others_their_list() -> None:
    async def main() -> None:
        scene = Scene()
        running = await scene.begin()
        scene.api.faults.add(Fault(Delay(3.0), verb="watch", times=None))
        lists = scene.lists(ConfigMap)
        first = asyncio.create_task(scene.fresh.wait([ConfigMap]))
        await asyncio.sleep(1.0)
        second = asyncio.create_task(scene.fresh.wait([ConfigMap]))
        await asyncio.sleep(1.0)
        first.cancel()
        await asyncio.wait([first])
        async with asyncio.timeout(10.0):
            await second
        assert first.cancelled()
        assert scene.lists(ConfigMap) - lists == 2  # the one that was under way began before the second asked
        await end(running)

    virtual_clock.run(main())
