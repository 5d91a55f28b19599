"""Mapping: maps that are async and maps that fail; no event is lost, none mapped out of order, and all is bounded."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable, Iterable
from typing import Any, cast

import pytest

from kaito.kube.core_v1 import ConfigMap
from kaito.kube.object_key import ObjectKey
from kaito.runtime import Watch
from kaito.runtime.cells import Count
from kaito.runtime.mapping import CONCURRENCY, MAX_BETWEEN, TIMEOUT_S, KeyMap, Letter, Mapper
from kaito.testing import virtual_clock
from tests.unit.runtime.widgets import Bench, Recording, bench, running

MAP = "/api/v1/namespaces/default/configmaps/x"


def key_of(text: str) -> ObjectKey:
    return ObjectKey(text, "default")


class Post:
    """A mapper of texts, and the keys that came out of it."""

    def __init__(self, call: Callable[[str], Any]) -> None:
        self.added: list[tuple[str, bool, float]] = []
        self.all = 0
        self.errors = Count()
        self.mapper: Mapper[str] = Mapper(
            "Watch(Text)",
            cast("KeyMap", call),
            lambda text: text,
            self._add,
            self._add_all,
            self.errors,
            random.Random(1),
        )

    @property
    def names(self) -> list[str]:
        return [name for name, _, _ in self.added]

    def _add(self, key: ObjectKey, letter: Letter[Any]) -> None:
        self.added.append((key.name, letter.initial, letter.since))

    def _add_all(self) -> None:
        self.all += 1

    def offer(self, identity: str, old: str | None, new: str | None, *, initial: bool = False) -> None:
        self.mapper.offer(identity, Letter(old, new, initial, asyncio.get_running_loop().time()))


def play(call: Callable[[str], Any], script: Callable[[Post], Any]) -> Post:
    async def main() -> Post:
        post = Post(call)
        await script(post)
        await post.mapper.aclose()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return post

    return virtual_clock.run(main())


def flaky(times: int) -> Callable[[str], Iterable[ObjectKey]]:
    left = times

    def call(text: str) -> Iterable[ObjectKey]:
        nonlocal left
        left -= 1
        if left >= 0:
            raise ConnectionError("away")
        return [key_of(text)]

    return call


def made_async(call: Callable[[str], Iterable[ObjectKey]], wait_s: float = 0.5) -> Callable[[str], Any]:
    async def later(text: str) -> Iterable[ObjectKey]:
        await asyncio.sleep(wait_s)
        return call(text)

    return later


def test_a_quick_map_is_called_at_once_with_the_old_and_the_new() -> None:
    async def script(post: Post) -> None:
        post.offer("x", "a", "b")
        assert post.names == ["a", "b"]
        post.offer("x", "b", None)
        post.offer("y", None, "c", initial=True)
        assert post.added[2:] == [("b", False, 0.0), ("c", True, 0.0)]
        assert len(post.mapper) == 0

    play(lambda text: [key_of(text)], script)


@pytest.mark.parametrize("is_async", [False, True])
def test_an_event_whose_map_fails_is_tried_again_ever_later_until_it_works(is_async: bool) -> None:
    times: list[float] = []
    inner = flaky(5)

    def call(text: str) -> Iterable[ObjectKey]:
        times.append(asyncio.get_running_loop().time())
        return inner(text)

    async def script(post: Post) -> None:
        post.offer("x", None, "a")
        await asyncio.sleep(30.0)
        assert (post.names, post.errors.value, len(post.mapper)) == (["a"], 5, 0)
        waits = [after - before for before, after in itertools.pairwise(times)]
        assert len(waits) == 5
        for number, wait_s in enumerate(waits):
            assert 0.1 * 2**number <= wait_s <= 0.111 * 2**number + 0.001

    play(made_async(call, 0.0) if is_async else call, script)


@pytest.mark.parametrize("is_async", [False, True])
def test_events_of_an_object_that_waits_are_put_together(is_async: bool) -> None:
    broken = True

    def call(text: str) -> Iterable[ObjectKey]:
        if broken:
            raise ConnectionError("away")
        return [key_of(text)]

    async def script(post: Post) -> None:
        nonlocal broken
        post.offer("x", "v0", "v1", initial=True)
        await asyncio.sleep(1.0)
        for number in range(1, 5):
            post.offer("x", f"v{number}", f"v{number + 1}")
            await asyncio.sleep(0.001)
        assert (post.names, len(post.mapper)) == ([], 1)
        broken = False
        post.offer("x", "v5", None)
        post.offer("x", None, "v6")
        await asyncio.sleep(0.1)
        assert post.added == [(f"v{number}", False, 0.0) for number in range(7)]
        assert (post.all, len(post.mapper)) == (0, 0)

    play(made_async(call, 0.0) if is_async else call, script)


@pytest.mark.parametrize("is_async", [False, True])
def test_when_more_states_have_passed_than_are_kept_all_keys_are_added(is_async: bool) -> None:
    broken = True

    def call(text: str) -> Iterable[ObjectKey]:
        if broken:
            raise ConnectionError("away")
        return [key_of(text)]

    async def script(post: Post) -> None:
        nonlocal broken
        post.offer("x", None, "v0")
        for number in range(100):
            post.offer("x", f"v{number}", f"v{number + 1}")
            await asyncio.sleep(0.001)
        (letter,) = post.mapper._letters.values()
        assert len(letter.between) == MAX_BETWEEN
        broken = False
        await asyncio.sleep(70.0)
        assert (post.all, len(post.mapper)) == (1, 0)
        assert "v100" in post.names
        post.offer("x", "v100", "v101")
        await asyncio.sleep(1.0)
        assert post.all == 1

    play(made_async(call, 0.0) if is_async else call, script)


def test_a_newer_event_does_not_wait_for_the_time_of_the_failed_one() -> None:
    broken = True

    def call(text: str) -> Iterable[ObjectKey]:
        if broken:
            raise ConnectionError("away")
        return [key_of(text)]

    async def script(post: Post) -> None:
        nonlocal broken
        post.offer("x", None, "a")
        await asyncio.sleep(1000.0)
        broken = False
        before = post.errors.value
        post.offer("x", "a", "b")
        await asyncio.sleep(0.001)
        assert (post.names, post.errors.value) == (["a", "b"], before)

    play(call, script)


def test_one_objects_events_are_mapped_one_after_the_other_and_those_of_others_beside() -> None:
    active: set[str] = set()
    most = 0

    async def call(text: str) -> list[ObjectKey]:
        nonlocal most
        owner = text[0]
        assert owner not in active
        active.add(owner)
        most = max(most, len(active))
        await asyncio.sleep(1.0)
        active.discard(owner)
        return [key_of(text)]

    async def script(post: Post) -> None:
        for number in range(3):
            for owner in "abcdefghijkl":
                post.offer(owner, None if number == 0 else f"{owner}{number - 1}", f"{owner}{number}")
            await asyncio.sleep(0.5)
        await asyncio.sleep(20.0)
        assert most == CONCURRENCY
        for owner in "abcdefghijkl":
            mapped = [name for name in post.names if name[0] == owner]
            assert mapped[-1] == f"{owner}2"
            assert mapped == sorted(mapped)

    play(call, script)


def test_a_map_that_never_returns_costs_its_own_object_only_and_is_given_up() -> None:
    calls: list[str] = []

    async def call(text: str) -> list[ObjectKey]:
        calls.append(text)
        if text == "bad" and calls.count("bad") == 1:
            await asyncio.get_running_loop().create_future()
        return [key_of(text)]

    async def script(post: Post) -> None:
        post.offer("x", None, "bad")
        post.offer("y", None, "good")
        await asyncio.sleep(1.0)
        assert post.names == ["good"]
        await asyncio.sleep(TIMEOUT_S)
        assert (post.names, post.errors.value) == (["good", "bad"], 1)

    play(call, script)


def test_something_that_a_map_waits_for_and_that_is_cancelled_is_a_failure_like_any_other() -> None:
    calls = 0

    async def call(text: str) -> list[ObjectKey]:
        nonlocal calls
        calls += 1
        if calls <= 2 * CONCURRENCY:
            inner = asyncio.get_running_loop().create_future()
            inner.cancel()
            await inner
        return [key_of(text)]

    async def script(post: Post) -> None:
        for number in range(2 * CONCURRENCY):
            post.offer(f"x{number}", None, f"a{number}")
        await asyncio.sleep(10.0)
        assert sorted(post.names) == sorted(f"a{number}" for number in range(2 * CONCURRENCY))

    play(call, script)


@pytest.mark.parametrize("answer", [None, 7, "default/a", ObjectKey("a", "default"), ["default/a"], [None]])
@pytest.mark.parametrize("is_async", [False, True])
def test_a_map_that_returns_anything_but_keys_is_named_and_tried_again(
    answer: object, is_async: bool, caplog: pytest.LogCaptureFixture
) -> None:
    answers = [answer, answer]

    def call(text: str) -> Iterable[ObjectKey]:
        return cast("Iterable[ObjectKey]", answers.pop()) if answers else [key_of(text)]

    async def script(post: Post) -> None:
        post.offer("x", None, "a")
        await asyncio.sleep(5.0)
        assert (post.names, post.errors.value) == (["a"], 2)

    play(made_async(call) if is_async else call, script)
    said = [str(vars(each)["error"]) for each in caplog.records if "map of a watch failed" in each.getMessage()]
    assert said
    assert all(text.startswith("Watch(Text): its map returned ") and "ObjectKeys" in text for text in said)


def test_a_function_that_is_no_coroutine_function_may_return_what_is_awaited() -> None:
    inner = made_async(lambda text: [key_of(text)])

    async def script(post: Post) -> None:
        for text in ("a", "b"):
            post.offer(text, None, text)
        await asyncio.sleep(1.0)
        assert (post.names, post.errors.value) == (["a", "b"], 0)

    play(lambda text: inner(text), script)


def test_an_object_that_is_gone_and_whose_map_never_works_is_not_kept_for_ever_and_all_keys_are_added_instead() -> None:
    def call(_: str) -> Iterable[ObjectKey]:
        raise KeyError("never")

    async def script(post: Post) -> None:
        for number in range(100):
            post.offer(f"gone-{number}", f"gone-{number}", None)
        post.offer("there", None, "there")
        await asyncio.sleep(60.0)
        assert len(post.mapper) == 101
        await asyncio.sleep(600.0)
        assert len(post.mapper) == 1
        assert 1 <= post.all <= 3

    play(call, script)


def test_what_a_map_raises_that_is_no_exception_is_a_failure_like_any_other() -> None:
    class Panic(BaseException):
        pass

    for is_async in (False, True):
        left = 2

        def call(text: str) -> Iterable[ObjectKey]:
            nonlocal left
            left -= 1
            if left >= 0:
                raise Panic("oops")
            return [key_of(text)]

        async def script(post: Post) -> None:
            post.offer("a", None, "a")
            await asyncio.sleep(10.0)
            assert post.names == ["a"]

        play(made_async(call) if is_async else call, script)


def test_keys_with_and_without_a_namespace_may_come_from_one_map() -> None:
    async def script(post: Post) -> None:
        post.offer("a", None, "a")
        assert post.names == ["a", "a"]

    play(lambda text: [ObjectKey(text), ObjectKey(text, "default")], script)


def test_what_waits_is_forgotten_when_it_is_closed() -> None:
    async def script(post: Post) -> None:
        post.offer("x", None, "a")
        await asyncio.sleep(0.1)
        await post.mapper.aclose()
        post.offer("y", None, "b")
        await asyncio.sleep(1000.0)
        assert post.names == []

    play(made_async(flaky(1), 5.0), script)


def relabel(it: Bench, name: str) -> None:
    body = {"metadata": {"labels": {"for": name}}}
    it.api.call("PATCH", MAP, body, content_type="application/merge-patch+json")


def test_a_controller_works_on_what_an_async_map_that_failed_finds_in_the_end() -> None:
    failures = 3

    async def concerned(obj: ConfigMap) -> list[ObjectKey]:
        nonlocal failures
        await asyncio.sleep(0.01)
        failures -= 1
        if failures >= 0:
            raise ConnectionError("away")
        return [ObjectKey(obj.metadata.labels["for"], "default")]

    async def main() -> None:
        reconciler = Recording()
        it = bench(reconciler, watches=[Watch(ConfigMap, map=concerned)])
        for name in ("a", "b"):
            it.put(name)
        async with running(it):
            assert it.count("controller_map_errors_total", kind="ConfigMap") == 0
            reconciler.seen.clear()
            it.other("configmaps", "x", labels={"for": "a"})
            relabel(it, "b")
            await asyncio.sleep(5.0)
            assert reconciler.names[-1] == "b"
            assert it.count("controller_map_errors_total", kind="ConfigMap") == 3
            reconciler.seen.clear()
            relabel(it, "a")
            await asyncio.sleep(1.0)
            assert sorted(reconciler.names) == ["a", "b"]
            assert it.manager.cache.informer(ConfigMap).handler_errors == 0

    virtual_clock.run(main())
