"""What the server sends but is no object: counted, logged with what to do, and never a hole in the store."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import pytest

from kaito.client.transport import Request, Response, ResponseStream
from kaito.informers import Store
from kaito.informers.entry import EntryReader
from kaito.informers.options import ListMode
from kaito.informers.reflector import Reflector
from kaito.kube.core_v1 import ConfigMap
from kaito.testing import virtual_clock
from tests.unit.informers.test_reflector import Recorder

Json = dict[str, Any]


def obj(name: str, rv: int, **more: Any) -> Json:
    return {
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": "ns", "uid": f"u-{name}", "resourceVersion": str(rv)},
        **more,
    }


def event(kind: str, body: object) -> bytes:
    return json.dumps({"type": kind, "object": body}).encode() + b"\n"


def end(rv: int) -> bytes:
    return event("BOOKMARK", {"metadata": {"resourceVersion": str(rv), "annotations": {END: "true"}}})


END = "k8s.io/initial-events-end"


class Script:
    """A server that answers each watch with the next of its scripts and then stays silent, and lists with a page."""

    def __init__(self, *watches: Sequence[bytes], page: bytes = b"") -> None:
        self._watches = list(watches)
        self._page = page
        self.asked: list[tuple[float, dict[str, str]]] = []

    async def send(self, request: Request) -> Response:
        return Response(200, {}, self._page)

    async def stream(self, request: Request) -> ResponseStream:
        if request.verb == "list":
            return Pieces((self._page,), ends=True)
        self.asked.append((asyncio.get_running_loop().time(), dict(request.query)))
        return Pieces(self._watches.pop(0) if self._watches else ())

    async def aclose(self) -> None:
        pass


class Pieces:
    """An answer of given pieces."""

    status = 200

    def __init__(self, pieces: Sequence[bytes], *, ends: bool = False) -> None:
        self.headers: Mapping[str, str] = {}
        self._ends = ends
        self._pieces = pieces

    async def chunks(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield piece
        if not self._ends:
            await asyncio.get_running_loop().create_future()

    async def aclose(self) -> None:
        pass


class Run:
    """A reflector that has followed a script for a while."""

    def __init__(self, script: Script, seconds: float = 100.0, list_mode: ListMode = "stream") -> None:
        self.script = script
        self.store = Store(EntryReader({"ConfigMap"}))
        self.seen = Recorder()
        virtual_clock.run(self._follow(seconds, list_mode))

    async def _follow(self, seconds: float, list_mode: ListMode) -> None:
        self.reflector = Reflector(
            self.script,
            ConfigMap.resource_type,
            self.store,
            self.seen,
            rng=random.Random(1),
            list_mode=list_mode,
            silence_s=10**6,
        )
        task = asyncio.create_task(self.reflector.run())
        await asyncio.sleep(seconds)
        assert not task.done()
        task.cancel()
        await asyncio.wait([task])

    @property
    def contents(self) -> dict[str, int]:
        return {key: entry.rv for key, entry in self.store.items()}


NO_UID = {"kind": "ConfigMap", "metadata": {"name": "b", "namespace": "ns", "resourceVersion": "6"}}
OTHER_KIND = {**obj("b", 6), "kind": "Secret"}
UNREADABLE = [
    b"not json\n",
    b'{"type":"ADDED"}\n',
    b'{"type":"ADDED","object":{}}\n',
    b'{"type":"ADDED","object":{"metadata":{"name":"b","uid":"u","resourceVersion":"x"}}}\n',
    event("ADDED", NO_UID),
    event("MODIFIED", OTHER_KIND),
    event("DELETED", OTHER_KIND),
    event("RENAMED", obj("b", 6)),
]


@pytest.mark.parametrize("line", UNREADABLE)
def test_an_event_that_cannot_be_read_ends_in_a_list_that_has_what_it_meant(
    line: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    first = [event("ADDED", obj("a", 1)), end(5), line, event("ADDED", obj("c", 7))]
    second = [event("ADDED", obj("a", 1)), event("ADDED", obj("b", 6)), event("ADDED", obj("c", 7)), end(8)]
    run = Run(Script(first, second))
    assert run.contents == {"ns/a": 1, "ns/b": 6, "ns/c": 7}
    assert run.reflector.unreadable == 1
    assert run.reflector.restarts["unreadable"] == 1
    (_, _), (again_at, query) = run.script.asked
    assert query["sendInitialEvents"] == "true"
    assert 0.8 <= again_at <= 1.7  # not at full speed, should it come again
    (record,) = [record for record in caplog.records if record.message.startswith("the server sent an object that")]
    assert "look at what stands between here and the API server" in record.hint  # type: ignore[attr-defined]


def test_an_object_of_a_list_that_cannot_be_read_is_left_out_and_the_rest_is_there() -> None:
    run = Run(Script([event("ADDED", obj("a", 1)), event("ADDED", NO_UID), event("ADDED", obj("c", 7)), end(8)]))
    assert run.contents == {"ns/a": 1, "ns/c": 7}
    assert run.reflector.unreadable == 1
    assert len(run.script.asked) == 1


def test_events_of_an_object_that_the_list_had_unreadable_bring_no_list_each() -> None:
    listed = [event("ADDED", NO_UID), event("ADDED", obj("c", 4)), end(5)]
    run = Run(Script([*listed, event("MODIFIED", NO_UID), event("MODIFIED", obj("c", 7))]))
    assert run.contents == {"ns/c": 7}
    assert run.reflector.unreadable == 2
    assert len(run.script.asked) == 1
    assert run.store.resource_version == 7


def test_an_object_that_becomes_unreadable_keeps_its_last_readable_state_and_is_not_reported_deleted() -> None:
    first = [event("ADDED", obj("b", 2)), end(5), event("MODIFIED", NO_UID)]
    second = [event("ADDED", NO_UID), end(8), event("MODIFIED", obj("b", 9))]
    run = Run(Script(first, second))
    assert run.seen.changes == [("added", "ns/b", 2), ("updated", "ns/b", 9)]


def test_the_end_of_an_object_of_which_an_old_state_is_stored_is_not_skipped() -> None:
    first = [event("ADDED", obj("b", 2)), event("ADDED", obj("c", 3)), end(5), event("MODIFIED", NO_UID)]
    second = [event("ADDED", NO_UID), event("ADDED", obj("c", 3)), end(8), event("DELETED", NO_UID)]
    third = [event("ADDED", obj("c", 3)), end(10)]
    run = Run(Script(first, second, third))
    assert run.contents == {"ns/c": 3}
    assert run.seen.changes[-1][:2] == ("deleted", "ns/b")


def test_an_object_that_became_readable_again_is_one_like_any_other() -> None:
    listed = [event("ADDED", NO_UID), event("ADDED", obj("c", 3)), end(5)]
    first = [*listed, event("MODIFIED", obj("b", 7)), event("MODIFIED", NO_UID)]
    second = [event("ADDED", obj("b", 8)), event("ADDED", obj("c", 3)), end(9)]
    run = Run(Script(first, second))
    assert run.contents == {"ns/b": 8, "ns/c": 3}


@pytest.mark.parametrize("unreadable", [NO_UID, OTHER_KIND])
def test_a_streamed_list_of_which_nothing_can_be_read_is_no_empty_list(unreadable: Json) -> None:
    run = Run(Script(*[[event("ADDED", unreadable), end(5)]] * 50))
    assert run.seen.lists == 0
    assert "none of the 1 objects of the list is a ConfigMap" in str(run.seen.states[-1].error)


def test_no_byte_of_what_cannot_be_read_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    secret = b'{"type":"ADDED","object":{"data":{"password":"hunter2"}}}\n'
    Run(Script([event("ADDED", obj("a", 1)), end(5), secret, b'word":"hunter2"}}}\n'], [end(6), b'hunter2"}}}\n']))
    assert caplog.records
    assert "hunter2" not in "".join(f"{record.getMessage()} {record.__dict__}" for record in caplog.records)


def test_a_server_whose_versions_go_back_is_listed_anew() -> None:
    back = event("BOOKMARK", {"metadata": {"resourceVersion": "3"}})
    first = [event("ADDED", obj("a", 90)), end(100), back]
    run = Run(Script(first, [event("ADDED", obj("a", 2)), end(4), event("ADDED", obj("b", 5))]))
    assert run.contents == {"ns/a": 2, "ns/b": 5}
    assert run.reflector.restarts["expired"] == 1


def test_the_waits_between_lists_grow_while_every_watch_ends_unreadable() -> None:
    bad = [end(5), b"not json\n"]
    run = Run(Script(*[bad] * 50))
    times = [time for time, _ in run.script.asked]
    assert 5 <= len(times) <= 9
    assert times[-1] - times[-2] > 20


@pytest.mark.parametrize("list_mode", ["pages", "whole"])
def test_a_list_of_another_kind_is_no_empty_list(list_mode: ListMode) -> None:
    page = b'{"kind":"SecretList","apiVersion":"v1","metadata":{"resourceVersion":"5"},"items":[]}'
    run = Run(Script(page=page), list_mode=list_mode)
    assert run.seen.lists == 0
    assert run.reflector.unreadable > 1
    assert "sent a SecretList, not a ConfigMapList" in str(run.seen.states[-1].error)


def test_an_object_of_five_megabytes_is_an_object() -> None:
    big = event("MODIFIED", obj("a", 6, data={"x": "y" * 5_000_000}))
    pieces = [event("ADDED", obj("a", 1)), end(5), *[big[at : at + 65_536] for at in range(0, len(big), 65_536)]]
    run = Run(Script(pieces))
    assert run.contents == {"ns/a": 6}
    assert run.store.bytes > 5_000_000
    assert run.reflector.events == {"ADDED": 1, "BOOKMARK": 1, "MODIFIED": 1}
