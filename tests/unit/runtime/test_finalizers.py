"""Finalizers: put on and taken off whoever else writes, and never put on what is going."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from kaito.client import Client, Conflict, NotFound, Request
from kaito.client.middleware import Handler
from kaito.kube.core_v1 import ConfigMap
from kaito.kube.object_key import ObjectKey
from kaito.runtime.finalizers import ATTEMPTS, drop_finalizer, ensure_finalizer
from kaito.testing import virtual_clock
from kaito.testing.fake_api import FakeApi

MINE, THEIRS = "example.com/mine", "example.com/theirs"
KEY = ObjectKey("a", "default")
MAPS = "/api/v1/namespaces/default/configmaps"
MERGE = "application/merge-patch+json"


class Bench:
    """A ConfigMap, a client, and somebody who writes just before the client does.

    Args:
        act: what that one does.
        times: at how many of the client's patches.
    """

    def __init__(self, *finalizers: str, act: Callable[[Bench], None] | None = None, times: int = 1) -> None:
        self.api = FakeApi()
        self.api.call("POST", MAPS, {"metadata": {"name": "a", "finalizers": list(finalizers)}})
        self.client = Client(self.api.transport(), field_owner="tests", middleware=[self._before])
        self._act = act
        self._times = times

    async def _before(self, request: Request, handler: Handler) -> Any:
        if request.verb == "patch" and self._act is not None and self._times:
            self._times -= 1
            self._act(self)
        return await handler(request)

    def set(self, **metadata: Any) -> None:
        self.api.call("PATCH", f"{MAPS}/a", {"metadata": metadata}, content_type=MERGE)

    async def read(self) -> ConfigMap:
        return await self.client.get(ConfigMap, KEY)

    @property
    def stored(self) -> list[str]:
        (obj,) = self.api.objects(ConfigMap)
        found: list[str] = obj["metadata"].get("finalizers", [])
        return found


def labelled(it: Bench) -> None:
    it.set(labels={"n": str(len(it.api.log))})


def joined(it: Bench) -> None:
    it.set(finalizers=[*it.stored, THEIRS])


def deleted(it: Bench) -> None:
    it.api.call("DELETE", f"{MAPS}/a")


def replaced(it: Bench) -> None:
    it.set(finalizers=[])
    deleted(it)
    it.api.call("POST", MAPS, {"metadata": {"name": "a", "finalizers": [MINE]}})


def run(main: Callable[[], Awaitable[None]]) -> None:
    virtual_clock.run(main())  # type: ignore[arg-type]


def test_it_is_put_on_once_and_taken_off() -> None:
    async def main() -> None:
        it = Bench(THEIRS)
        made = await ensure_finalizer(it.client, await it.read(), MINE)
        assert made.metadata.finalizers == (THEIRS, MINE)
        asked = len(it.api.log)
        assert await ensure_finalizer(it.client, made, MINE) is made
        assert len(it.api.log) == asked
        await drop_finalizer(it.client, made, MINE)
        assert it.stored == [THEIRS]

    run(main)


def test_a_domain_alone_is_taken_as_older_operators_have_it() -> None:
    async def main() -> None:
        it = Bench()
        made = await ensure_finalizer(it.client, await it.read(), "workspace.finalizer.kaito.sh")
        assert made.metadata.finalizers == ("workspace.finalizer.kaito.sh",)

    run(main)


def test_another_finalizer_that_comes_at_the_same_moment_stays() -> None:
    async def main() -> None:
        it = Bench(act=joined)
        made = await ensure_finalizer(it.client, await it.read(), MINE)
        assert it.stored == [*made.metadata.finalizers] == [THEIRS, MINE]
        it = Bench(MINE, act=joined)
        await drop_finalizer(it.client, await it.read(), MINE)
        assert it.stored == [THEIRS]

    run(main)


@pytest.mark.parametrize("act", [deleted, replaced])
def test_it_is_not_put_on_what_is_deleted_or_made_anew_at_that_moment(act: Callable[[Bench], None]) -> None:
    async def main() -> None:
        it = Bench(THEIRS, act=act)
        with pytest.raises(Conflict, match=r"ConfigMap default/a .*finalizer example.com/mine is not put on"):
            await ensure_finalizer(it.client, await it.read(), MINE)

    run(main)


def test_what_is_being_deleted_is_left_as_it_is() -> None:
    async def main() -> None:
        it = Bench(THEIRS)
        deleted(it)
        going = await it.read()
        assert await ensure_finalizer(it.client, going, MINE) is going

    run(main)


def test_that_which_is_gone_or_another_needs_no_taking_off() -> None:
    async def main() -> None:
        it = Bench(MINE, act=replaced)
        await drop_finalizer(it.client, await it.read(), MINE)
        assert it.stored == [MINE], "the successor keeps its own"
        it = Bench(MINE)
        read = await it.read()
        it.set(finalizers=[])
        deleted(it)
        await drop_finalizer(it.client, read, MINE)
        with pytest.raises(NotFound):
            await it.read()

    run(main)


def test_one_that_stands_there_twice_is_taken_off_twice() -> None:
    async def main() -> None:
        it = Bench()
        draft = (await it.read()).edit()
        draft.metadata.finalizers = (MINE, THEIRS, MINE)
        await drop_finalizer(it.client, await it.client.update(draft), MINE)
        assert it.stored == [THEIRS]

    run(main)


@pytest.mark.parametrize(("times", "given_up"), [(ATTEMPTS - 1, False), (ATTEMPTS, True)])
def test_an_object_that_changes_all_the_time_is_given_up_after_some_attempts(times: int, given_up: bool) -> None:
    async def main() -> None:
        it = Bench(act=labelled, times=times)
        if not given_up:
            assert MINE in (await ensure_finalizer(it.client, await it.read(), MINE)).metadata.finalizers
            return
        with pytest.raises(Conflict):
            await ensure_finalizer(it.client, await it.read(), MINE)

    run(main)


@pytest.mark.parametrize("name", ["mine", "/mine", "example.com/", "Example.com/mine", "a/b/c", "x/" + "n" * 64, ""])
def test_a_name_without_a_domain_is_refused(name: str) -> None:
    async def main() -> None:
        it = Bench()
        for change in (ensure_finalizer, drop_finalizer):
            with pytest.raises(ValueError, match="expected DOMAIN/NAME, such as"):
                await change(it.client, await it.read(), name)

    run(main)
