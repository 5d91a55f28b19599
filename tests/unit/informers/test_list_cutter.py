"""ListCutter: whatever objects hold and wherever the bytes are cut, what comes out are the objects of the list."""

from __future__ import annotations

import itertools
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaito.informers.list_cutter import ListCutter

TEXT = st.text(alphabet='ab{}[],:"\\ é', max_size=12)
LEAVES = st.one_of(st.none(), st.booleans(), st.integers(-5, 5), TEXT)
# Keys that make inner objects look like the beginning of outer ones.
KEYS = st.sampled_from(["metadata", "apiVersion", "items", "x", '"', "}"])
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=8
)
OBJECTS = st.builds(lambda first, more: {first: {"name": "n"}, **more}, KEYS, st.dictionaries(KEYS, VALUES, max_size=3))


def cut(body: bytes, places: list[int]) -> tuple[list[Any], int, str]:
    """The objects, how many of them came before the end, and the list's position."""
    marks = [0, *sorted({place % (len(body) + 1) for place in places}), len(body)]
    cutter, found = ListCutter(), []
    for start, end in itertools.pairwise(marks):
        found += list(cutter.feed(body[start:end]))
    early = len(found)
    rest = cutter.close()
    found += [bytes(raw) for raw in rest.items or ()]
    return [json.loads(raw) for raw in found], early, rest.metadata.resource_version


def written(items: list[Any], *, sorted_keys: bool = False, spaced: bool = False) -> bytes:
    body = {"kind": "WidgetList", "apiVersion": "v1", "metadata": {"resourceVersion": "7"}, "items": items}
    separators = None if spaced else (",", ":")
    return json.dumps(body, separators=separators, sort_keys=sorted_keys, ensure_ascii=False).encode()


@settings(max_examples=300)
@given(st.lists(OBJECTS, max_size=6), st.lists(st.integers(0, 10_000), max_size=12), st.booleans(), st.booleans())
def test_any_list_cut_anywhere_gives_its_objects_in_order(
    items: list[Any], places: list[int], sorted_keys: bool, spaced: bool
) -> None:
    found, _, version = cut(written(items, sorted_keys=sorted_keys, spaced=spaced), places)
    assert found == items
    assert version == "7"


def test_objects_come_out_as_soon_as_they_are_whole() -> None:
    items = [
        {"metadata": {"name": str(number)}, "spec": {"list": [{"metadata": 1}, {"metadata": 2}]}} for number in range(9)
    ]
    for sorted_keys in (False, True):
        found, early, _ = cut(written(items, sorted_keys=sorted_keys), list(range(0, 2000, 64)))
        assert found == items
        assert early == 8  # the last one ends with the list


def test_objects_full_of_what_looks_like_their_ends_are_cut_all_the_same() -> None:
    inner = [{"metadata": {"name": str(number)}} for number in range(3_000)]
    items = [{"metadata": {"name": str(number)}, "spec": inner} for number in range(3)]
    found, early, _ = cut(written(items), list(range(0, 400_000, 4_096)))
    assert found == items
    assert early == 2


def test_an_object_whose_texts_have_unmatched_braces_is_left_for_the_end_and_not_lost() -> None:
    inner = [{"metadata": {"name": "{"}} for _ in range(100)]
    items = [{"metadata": {"name": str(number)}, "spec": inner} for number in range(3)]
    found, _, _ = cut(written(items), list(range(0, 20_000, 512)))
    assert found == items


@pytest.mark.parametrize("items", [[], None])
def test_an_empty_list_is_empty(items: Any) -> None:
    body = json.dumps({"metadata": {"resourceVersion": "7"}, "items": items}).encode()
    assert cut(body, [5, 20]) == ([], 0, "7")


@pytest.mark.parametrize("keep", [0, 10, 60, -1, -20])
def test_a_list_that_was_cut_off_is_an_error(keep: int) -> None:
    body = written([{"metadata": {"name": str(number)}} for number in range(5)])
    with pytest.raises(msgspec.DecodeError):
        cut(body[:keep], [])


def test_no_object_keeps_the_pieces_alive() -> None:
    body = written([{"metadata": {"name": "n" * 10}} for _ in range(50)])
    (first, *_) = ListCutter().feed(body)
    assert type(first) is bytes
    assert len(first) < 60
