"""The bytes of a watch: cut anywhere, garbled, written in other ways; the events are the same."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaito.client.transport import Request, Response, ResponseStream, Transport
from kaito.informers.list_watch import State
from kaito.informers.reflector import Reflector
from kaito.informers.store import Change, Store
from kaito.kube.core_v1 import ConfigMap
from kaito.testing import virtual_clock


class Recorder:
    """An observer that writes changes down."""

    def __init__(self) -> None:
        self.changes: list[tuple[str, str, int]] = []

    def on_changes(self, changes: tuple[Change, ...]) -> None:
        for change in changes:
            entry = change.new or change.old
            assert entry is not None
            self.changes.append((change.type, change.key, entry.rv))

    async def on_replaced(self, changes: Iterator[Change]) -> None:
        self.on_changes(tuple(changes))

    def on_progress(self) -> None:
        """Not of interest here."""

    def on_state(self, state: State) -> None:
        """Not of interest here."""


class ScriptedStream:
    """An answer whose body comes in the given pieces; then the connection ends."""

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self.status = 200
        self.headers: Mapping[str, str] = {}
        self._pieces = pieces

    async def chunks(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield piece

    async def aclose(self) -> None:
        pass


class ScriptedTransport:
    """Answers the first watch with the pieces and later ones never."""

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self._pieces: Sequence[bytes] | None = pieces

    async def send(self, request: Request) -> Response:
        raise AssertionError(request)

    async def stream(self, request: Request) -> ResponseStream:
        if self._pieces is None:
            await asyncio.get_running_loop().create_future()
        pieces, self._pieces = self._pieces or (), None
        return ScriptedStream(pieces)

    async def aclose(self) -> None:
        pass


def event(kind: str, name: str, rv: int, **metadata: Any) -> bytes:
    obj = {"metadata": {"name": name, "uid": f"u-{name}", "resourceVersion": str(rv), **metadata}, "text": 'é\\n"{'}
    return json.dumps({"type": kind, "object": obj}, ensure_ascii=False).encode() + b"\n"


END = {"annotations": {"k8s.io/initial-events-end": "true"}}
STREAM = b"".join(
    [
        event("ADDED", "a", 1),
        event("ADDED", "b", 2),
        event("BOOKMARK", "", 5),
        event("DELETED", "b", 6),
        event("ADDED", "c", 7),
        event("BOOKMARK", "", 8, **END),
        event("MODIFIED", "a", 9),
        b"\n",
        event("DELETED", "c", 10),
        event("BOOKMARK", "", 20),
        event("ADDED", "d", 21)[:-7],  # cut off: not an event
    ]
)


def consume(pieces: Sequence[bytes]) -> tuple[list[tuple[str, str, int]], int]:
    async def main() -> tuple[list[tuple[str, str, int]], int]:
        store, seen = Store(), Recorder()
        transport: Transport = ScriptedTransport(pieces)
        task = asyncio.create_task(Reflector(transport, ConfigMap.resource_type, store, seen).run())
        await asyncio.sleep(100.0)
        task.cancel()
        await asyncio.wait([task])
        return seen.changes, store.resource_version

    return virtual_clock.run(main())


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    marks = [0, *sorted(set(places)), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(marks)]


@settings(max_examples=100)
@given(st.lists(st.integers(0, len(STREAM)), max_size=30))
def test_any_cutting_of_a_stream_gives_the_same_events(places: list[int]) -> None:
    assert consume(cut(STREAM, places)) == (
        [("added", "a", 1), ("added", "c", 7), ("updated", "a", 9), ("deleted", "c", 10)],
        20,
    )


def test_a_stream_in_single_bytes_gives_the_same_events() -> None:
    assert consume(cut(STREAM, range(len(STREAM)))) == consume([STREAM])


@pytest.mark.parametrize(
    "garbage",
    [
        b"not json\n",
        b'{"type":"ADDED"}\n',
        b'{"type":"ADDED","object":{}}\n',
        b'{"type":"BOOKMARK","object":{"metadata":{}}}\n',
    ],
)
def test_a_line_that_is_no_event_ends_the_watch_and_not_the_reflector(garbage: bytes) -> None:
    prefix = event("ADDED", "a", 1) + event("BOOKMARK", "", 8, **END)
    assert consume([prefix + garbage + event("ADDED", "b", 9)]) == ([("added", "a", 1)], 8)


def test_initial_events_end_is_recognised_however_the_json_is_written() -> None:
    spaced = json.dumps(json.loads(event("BOOKMARK", "", 8, **END)), indent=1).replace("\n", " ").encode() + b"\n"
    assert consume([event("ADDED", "a", 1) + spaced]) == ([("added", "a", 1)], 8)
