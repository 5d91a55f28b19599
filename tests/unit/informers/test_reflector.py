"""The reflector at work: lists, watches and all the ways in which they end, over the wire format."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from kaito.informers.list_watch import State
from kaito.informers.reflector import Reflector
from kaito.informers.store import Change, Store
from kaito.kube.core_v1 import ConfigMap
from kaito.testing import virtual_clock
from kaito.testing.fake_api import CutWatch, FakeApi, Fault, Hang, Refuse, throttled, version_expired

MAPS = "/api/v1/namespaces/default/configmaps"


class Recorder:
    """An observer that writes everything down, and replays the changes as a consumer would."""

    def __init__(self) -> None:
        self.changes: list[tuple[str, str, int]] = []
        self.states: list[State] = []
        self.lists = 0
        self.replica: dict[str, tuple[str, int]] = {}
        self.times: list[float] = []

    def on_changes(self, changes: tuple[Change, ...]) -> None:
        for change in changes:
            entry = change.new or change.old
            assert entry is not None
            self.changes.append((change.type, change.key, entry.rv))
            if change.new is None:
                del self.replica[change.key]
            else:
                assert (change.type == "added") == (change.key not in self.replica)
                self.replica[change.key] = (entry.uid, entry.rv)

    async def on_replaced(self, changes: Iterator[Change]) -> None:
        self.lists += 1
        self.on_changes(tuple(changes))

    def on_progress(self) -> None:
        self.times.append(asyncio.get_running_loop().time())

    def on_state(self, state: State) -> None:
        self.states.append(state)


class Bench:
    """A reflector of ConfigMaps on a fake API server."""

    def __init__(self, api: FakeApi, **options: Any) -> None:
        self.api = api
        self.store = Store()
        self.seen = Recorder()
        self.reflector = Reflector(
            api.transport(), ConfigMap.resource_type, self.store, self.seen, rng=random.Random(1), **options
        )

    def put(self, *names: str) -> None:
        for name in names:
            self.api.call("POST", MAPS, {"metadata": {"name": name}})

    def touch(self, name: str) -> None:
        body = {"metadata": {"labels": {"n": str(self.api.store.version)}}}
        self.api.call("PATCH", f"{MAPS}/{name}", body, content_type="application/merge-patch+json")

    def drop(self, *names: str) -> None:
        for name in names:
            self.api.call("DELETE", f"{MAPS}/{name}")

    def asked(self, verb: str) -> list[dict[str, str]]:
        return [dict(entry.query) for entry in self.api.log if entry.verb == verb]

    def assert_in_step(self) -> None:
        real = {
            f"default/{obj['metadata']['name']}": (obj["metadata"]["uid"], int(obj["metadata"]["resourceVersion"]))
            for obj in self.api.objects(ConfigMap)
        }
        assert {key: (entry.uid, entry.rv) for key, entry in self.store.items()} == real == self.seen.replica

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.reflector.run())
        await asyncio.sleep(0.1)
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()


def bench(api: FakeApi | None = None, **options: Any) -> Bench:
    return Bench(api or FakeApi(), **options)


def test_a_streaming_list_becomes_a_watch_on_the_same_connection() -> None:
    async def main() -> None:
        it = bench()
        it.put("a", "b")
        async with it.running():
            it.put("c")
            it.touch("a")
            it.drop("b")
            await asyncio.sleep(1.0)
            it.assert_in_step()
            (watch,) = it.asked("watch")
            assert (watch["sendInitialEvents"], watch["resourceVersionMatch"]) == ("true", "NotOlderThan")
            assert watch["allowWatchBookmarks"] == "true"
            assert "resourceVersion" not in watch  # a consistent read
            assert 180 <= int(watch["timeoutSeconds"]) <= 220
            assert it.asked("list") == []
            assert [kind for kind, _, _ in it.seen.changes] == ["added", "added", "added", "updated", "deleted"]

    virtual_clock.run(main())


def test_full_list_when_streaming_is_unsupported_and_streaming_is_not_asked_for_again() -> None:
    async def main() -> None:
        it = bench(FakeApi(watch_list=False))
        it.put("a")
        async with it.running():
            it.put("b")
            await asyncio.sleep(1000.0)
            it.assert_in_step()
            watches = it.asked("watch")
            assert ["sendInitialEvents" in watch for watch in watches[:2]] == [True, False]
            assert not any("sendInitialEvents" in watch for watch in watches[1:])
            assert len(it.asked("list")) == 1

    virtual_clock.run(main())


def test_a_paged_list_takes_every_page_and_watches_from_the_position_of_the_first() -> None:
    async def main() -> None:
        it = bench(FakeApi(watch_list=False))
        it.put(*(f"m{number:04}" for number in range(1201)))
        position = it.api.store.version
        async with it.running():
            it.assert_in_step()
            lists = it.asked("list")
            assert [query["limit"] for query in lists] == ["500"] * 3
            assert ["continue" in query for query in lists] == [False, True, True]
            assert it.asked("watch")[-1]["resourceVersion"] == str(position)

    virtual_clock.run(main())


def test_full_list_when_the_continue_token_expires() -> None:
    async def main() -> None:
        it = bench(FakeApi(watch_list=False))
        it.put(*(f"m{number:04}" for number in range(900)))
        it.api.faults.add(Fault(version_expired(), verb="list", nth=2))
        async with it.running():
            it.assert_in_step()
            assert ["continue" in query for query in it.asked("list")] == [False, True, False, True]
            assert it.seen.lists == 1

    virtual_clock.run(main())


def test_a_watch_that_the_server_ends_goes_on_from_the_last_event_without_a_list() -> None:
    async def main() -> None:
        it = bench()
        it.put("a")
        async with it.running():
            it.touch("a")
            version = it.api.store.version
            it.api.call("POST", "/api/v1/namespaces/default/secrets", {"metadata": {"name": "another-kind"}})
            await asyncio.sleep(20.0)
            it.api.faults.add(Fault(CutWatch(how="close"), verb="watch", nth=1))
            await asyncio.sleep(230.0)
            it.put("b")
            await asyncio.sleep(5.0)
            it.assert_in_step()
            assert it.seen.lists == 1
            assert int(it.asked("watch")[1]["resourceVersion"]) >= version

    virtual_clock.run(main())


def test_bookmarks_alone_move_the_position_on() -> None:
    async def main() -> None:
        it = bench(FakeApi(bookmark_interval_s=10.0))
        it.put("a")
        async with it.running():
            for number in range(5):
                it.api.call("POST", "/api/v1/namespaces/default/secrets", {"metadata": {"name": f"s{number}"}})
            await asyncio.sleep(11.0)
            version = it.api.store.version
            assert it.store.resource_version == version
            await asyncio.sleep(250.0)
            assert it.asked("watch")[1]["resourceVersion"] == str(version)
            assert it.seen.lists == 1

    virtual_clock.run(main())


@pytest.mark.parametrize("how", ["reset", "close", "expire"])
@pytest.mark.parametrize("after", [0, 1, 3])
def test_a_streaming_list_that_ends_half_way_publishes_nothing_and_is_tried_again(how: Any, after: int) -> None:
    async def main() -> None:
        it = bench()
        it.put("a", "b", "c", "d")
        it.api.faults.add(Fault(CutWatch(after=after, how=how), verb="watch", times=3))
        async with it.running():
            assert it.seen.changes == [] or it.seen.lists == 1
            await asyncio.sleep(30.0)
            it.assert_in_step()
            assert it.seen.lists == 1
            assert len(it.asked("watch")) == 4

    virtual_clock.run(main())


def test_a_position_that_expired_is_followed_by_a_relist_that_tells_only_the_true_difference() -> None:
    async def main() -> None:
        it = bench()
        it.put("stays", "changes", "goes", "again")
        it.api.faults.add(Fault(CutWatch(after=5, how="reset"), verb="watch"))
        it.api.faults.add(Fault(Refuse(503), verb="watch", nth=2))
        it.api.faults.add(Fault(version_expired(), verb="watch", nth=3))
        async with it.running():
            before = len(it.seen.changes)
            it.touch("changes")
            it.drop("goes", "again")
            it.put("again", "new")
            await asyncio.sleep(30.0)
            it.assert_in_step()
            told = [(kind, key.removeprefix("default/")) for kind, key, _ in it.seen.changes[before:]]
            assert told[:2] in (
                [("deleted", "goes"), ("deleted", "again")],
                [("deleted", "again"), ("deleted", "goes")],
            )
            assert sorted(told[2:]) == [("added", "again"), ("added", "new"), ("updated", "changes")]
            assert it.seen.lists == 2

    virtual_clock.run(main())


def test_expiry_within_a_stream_is_followed_by_a_relist_at_once() -> None:
    async def main() -> None:
        it = bench()
        it.put("a")
        it.api.faults.add(Fault(CutWatch(after=3, how="expire"), verb="watch"))
        async with it.running():
            it.put("b", "c")
            await asyncio.sleep(0.2)
            it.assert_in_step()
            assert it.seen.lists == 2

    virtual_clock.run(main())


def test_a_half_open_watch_is_noticed_by_its_silence_and_goes_on_where_it_was() -> None:
    async def main() -> None:
        it = bench(FakeApi(bookmark_interval_s=5.0), silence_s=12.0)
        it.put("a")
        it.api.faults.add(Fault(CutWatch(after=2, how="silence"), verb="watch"))
        async with it.running():
            it.put("b")
            await asyncio.sleep(11.0)
            assert "default/b" not in it.store
            await asyncio.sleep(5.0)
            it.assert_in_step()
            assert it.seen.lists == 1

    virtual_clock.run(main())


def test_a_quiet_watch_with_bookmarks_is_not_taken_for_dead() -> None:
    async def main() -> None:
        it = bench(FakeApi(bookmark_interval_s=5.0), silence_s=12.0)
        async with it.running():
            await asyncio.sleep(170.0)
            assert len(it.asked("watch")) == 1

    virtual_clock.run(main())


def test_a_kind_that_is_missing_is_dormant_and_starts_by_itself_when_it_comes() -> None:
    async def main() -> None:
        it = bench()
        kind = it.api.kinds.find("", "v1", "configmaps")
        assert kind is not None
        it.api.kinds.remove("", "configmaps")
        async with it.running():
            await asyncio.sleep(100.0)
            assert it.seen.states[-1].dormant
            requests = len(it.asked("watch"))
            assert requests < 30
            it.api.kinds.add(kind)
            it.put("a")
            await asyncio.sleep(61.0)
            it.assert_in_step()
            assert it.seen.lists == 1

    virtual_clock.run(main())


def test_throttled_watches_wait_as_asked_and_do_not_relist() -> None:
    async def main() -> None:
        it = bench()
        it.put("a")
        it.api.faults.add(Fault(CutWatch(after=2, how="close"), verb="watch"))
        it.api.faults.add(Fault(throttled(20), verb="watch", nth=2))
        async with it.running():
            it.put("b")
            await asyncio.sleep(15.0)
            assert len(it.asked("watch")) == 2
            await asyncio.sleep(10.0)
            it.assert_in_step()
            assert it.seen.lists == 1

    virtual_clock.run(main())


def test_a_forbidden_watch_is_visible_and_says_what_to_grant(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        it = bench()
        it.api.faults.add(Fault(Refuse(403, "Forbidden", "no rights"), verb="watch", times=2))
        async with it.running():
            assert it.seen.states[-1].error is not None
            await asyncio.sleep(30.0)
            assert it.seen.states[-1].error is None or it.seen.lists == 1

    virtual_clock.run(main())
    assert "grant get, list and watch on configmaps" in str([record.__dict__ for record in caplog.records])


def test_a_server_that_never_answers_does_not_hold_the_reflector_for_ever() -> None:
    async def main() -> None:
        it = bench(silence_s=5.0)
        it.put("a")
        it.api.faults.add(Fault(Hang(), verb="watch"))
        async with it.running():
            await asyncio.sleep(10.0)
            it.assert_in_step()

    virtual_clock.run(main())


def test_a_server_that_stays_away_is_asked_ever_more_rarely() -> None:
    async def main() -> None:
        it = bench()
        it.api.faults.add(Fault(Refuse(503, "ServiceUnavailable"), verb="watch", times=None))
        async with it.running():
            await asyncio.sleep(600.0)
            assert 12 <= len(it.asked("watch")) <= 25

    virtual_clock.run(main())


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("streaming", [True, False])
def test_whatever_breaks_whenever_the_store_ends_up_equal_to_the_server(seed: int, streaming: bool) -> None:
    rng = random.Random(seed)

    async def main() -> None:
        it = bench(FakeApi(seed=seed, watch_list=streaming, bookmark_interval_s=5.0), silence_s=12.0)
        names = [f"m{number}" for number in range(12)]
        actions: list[Any] = [
            CutWatch(after=rng.randrange(6), how=how) for how in ("reset", "close", "expire", "silence") for _ in "ab"
        ]
        actions += [version_expired(), throttled(2), Refuse(500), Hang()]
        for action in actions:
            it.api.faults.add(Fault(action, verb=rng.choice(["watch", "list", "watch"]), nth=rng.randrange(1, 12)))
        async with it.running():
            for _ in range(150):
                name = rng.choice(names)
                exists = any(obj["metadata"]["name"] == name for obj in it.api.objects(ConfigMap))
                if not exists:
                    it.put(name)
                elif rng.random() < 0.5:
                    it.touch(name)
                else:
                    it.drop(name)
                if rng.random() < 0.02:
                    it.api.store.compact()
                await asyncio.sleep(rng.choice([0.0, 0.01, 0.5, 3.0]))
            await asyncio.sleep(300.0)
            it.assert_in_step()

    virtual_clock.run(main())


def test_a_cancelled_reflector_closes_its_watch_and_keeps_the_store() -> None:
    async def main() -> None:
        it = bench()
        it.put("a")
        async with it.running():
            pass
        assert len(it.store) == 1
        assert all(watch.ended for watch in it.api._watches)
        assert len(asyncio.all_tasks()) == 1

    virtual_clock.run(main())
