"""The shapes of the hot path: lines of a stream, pages, envelopes."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterable, Sequence

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaito.client import wire
from kaito.testing import virtual_clock


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    marks = [0, *sorted(set(places)), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(marks)]


async def drained(chunks: Sequence[bytes]) -> list[bytes]:
    async def source() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    return [line async for batch in wire.lines(source()) for line in batch]


@settings(max_examples=200)
@given(
    st.lists(st.binary(max_size=6).filter(lambda line: b"\n" not in line), max_size=8),
    st.binary(max_size=4).filter(lambda tail: b"\n" not in tail),
    st.lists(st.integers(0, 60), max_size=10),
)
def test_lines_are_those_of_the_whole_whatever_the_chunks(lines: list[bytes], tail: bytes, places: list[int]) -> None:
    data = b"".join(line + b"\n" for line in lines) + tail
    places = [place for place in places if place <= len(data)]
    assert virtual_clock.run(drained(cut(data, places))) == [line for line in lines if line]


def test_a_line_longer_than_any_buffer_is_one_line() -> None:
    line = b"x" * 5_000_000
    assert virtual_clock.run(drained([line[:1000], line[1000:], b"\ny\n"])) == [line, b"y"]


def test_a_page_leaves_its_objects_as_they_were_written() -> None:
    page = wire.decode_page(b'{"metadata":{"resourceVersion":"7","continue":"t"},"items":[{"a" : 1.50},{"b":2}]}')
    assert [bytes(item) for item in page.items or ()] == [b'{"a" : 1.50}', b'{"b":2}']
    assert (page.metadata.resource_version, page.metadata.continue_) == ("7", "t")


def test_a_page_without_items_is_empty() -> None:
    assert not wire.decode_page(b'{"metadata":{}}').items


def test_fields_that_nobody_looks_at_are_not_decoded_however_strange_they_are() -> None:
    raw = b'{"kind":"X","spec":[[{"deep":null}]],"metadata":{"name":"a","generation":"not a number","labels":null}}'
    assert wire.decode_header(raw).metadata.name == "a"


def test_a_watch_line_without_an_object_is_no_watch_line() -> None:
    with pytest.raises(msgspec.ValidationError):
        wire.decode_watch_line(b'{"type":"ADDED"}')
