"""Entries: what is kept of an object's JSON, and what is refused."""

from __future__ import annotations

import gc
import json
from typing import Any

import pytest

from kaito.client import wire
from kaito.informers import Entry, Owner, UnreadableObject
from kaito.informers.entry import EntryReader
from tests.unit.informers.objects import Json, controller, make


def read(raw: bytes, **options: Any) -> Entry:
    _, entry = EntryReader(**options).read(raw, {})
    return entry


@pytest.mark.parametrize("place", ["first", "middle", "last", "only"])
def test_managed_fields_are_dropped_wherever_they_stand(place: str) -> None:
    managed = '"managedFields":[{"manager":"x","fieldsV1":{"f:spec":{}}}]'
    fields = ['"name":"a"', '"uid":"u"', '"resourceVersion":"3"', '"annotations":{"managedFields":"a text"}']
    at = {"first": 0, "middle": 2, "last": len(fields), "only": 0}[place]
    fields = [*fields[:at], managed, *fields[at:]] if place != "only" else [*fields[:3], managed]
    raw = ('{"spec":{"managedFields":[1]},"metadata":{' + ",".join(fields) + '},"kind":"Thing"}').encode()
    entry = read(raw)
    expected = json.loads(raw)
    del expected["metadata"]["managedFields"]
    assert json.loads(entry.raw) == expected


def test_an_object_without_managed_fields_keeps_its_very_bytes() -> None:
    raw = b'{ "metadata" : {"name":"a", "resourceVersion":"3","uid":"u"},\n "n": 1.50, "s": "\\u00e9\xc3\xa9" }'
    entry = read(raw)
    assert entry.raw == raw


def test_numbers_and_texts_survive_the_dropping_of_managed_fields() -> None:
    metadata = b'{"name":"a","uid":"u","resourceVersion":"1","managedFields":[]}'
    raw = b'{"n":1.50,"big":12345678901234567890123,"s":"\\u0000\xc3\xa9","metadata":' + metadata + b"}"
    entry = read(raw)
    assert json.loads(entry.raw) == {k: v for k, v in json.loads(raw).items() if k != "metadata"} | {
        "metadata": {"name": "a", "uid": "u", "resourceVersion": "1"}
    }


def test_the_bytes_are_a_copy_and_do_not_keep_their_page_alive() -> None:
    page = b'{"metadata":{},"items":[' + b",".join(make(f"o{number}") for number in range(50)) + b"]}"
    items = wire.decode_page(page).items
    assert items is not None
    item = items[7]
    _, entry = EntryReader().read(item, {})
    assert isinstance(entry.raw, bytes)
    assert len(entry.raw) < len(page) / 40
    assert not any(referred is page for referred in gc.get_referents(entry.raw))


def test_equal_labels_and_owners_are_shared() -> None:
    reader = EntryReader()
    raws = [make(name, labels={"x": "1", "app": "web"}, ownerReferences=[controller()]) for name in ("a", "b")]
    one, other = (reader.read(raw, {})[1] for raw in raws)
    assert one.labels == (("app", "web"), ("x", "1"))
    assert one.labels is other.labels
    assert one.owner is other.owner


@pytest.mark.parametrize(
    ("references", "owner"),
    [
        ([controller()], Owner("apps", "Deployment", "boss", "uid-boss")),
        ([controller("other", controller=False), controller()], Owner("apps", "Deployment", "boss", "uid-boss")),
        ([controller(api_version="v1")], Owner("", "Deployment", "boss", "uid-boss")),
        ([controller(controller=False)], None),
        ([], None),
        (None, None),
    ],
)
def test_the_owner_is_the_one_that_controls(references: list[Json] | None, owner: Owner | None) -> None:
    entry = read(make("a", ownerReferences=references))
    assert entry.owner == owner


NAMED = b'"name":"a","namespace":"ns"'


@pytest.mark.parametrize(
    ("raw", "key", "says"),
    [
        (b"{}", "", "no Kubernetes object"),
        (b"[]", "", "no Kubernetes object"),
        (b"null", "", "no Kubernetes object"),
        (b"{", "", "no Kubernetes object"),
        (b"", "", "no Kubernetes object"),
        (b'{"metadata":null}', "", "no Kubernetes object"),
        (b'{"metadata":{%b,"uid":"u","resourceVersion":"opaque"}}' % NAMED, "ns/a", "resourceVersion 'opaque'"),
        (b'{"metadata":{%b,"uid":"u"}}' % NAMED, "ns/a", "resourceVersion ''"),
        (b'{"metadata":{%b,"resourceVersion":"1"}}' % NAMED, "ns/a", "uid ''"),
        (b'{"metadata":{"uid":"u","resourceVersion":"1"}}', "", "name ''"),
        (b'{"kind":"Other","metadata":{%b,"uid":"u","resourceVersion":"1"}}' % NAMED, "ns/a", 'kind "Other"'),
    ],
)
def test_what_is_no_object_of_the_kind_is_refused_by_name(raw: bytes, key: str, says: str) -> None:
    reader = EntryReader({"Thing"})
    with pytest.raises(UnreadableObject, match=says) as refused:
        reader.read(raw, {})
    assert refused.value.key == key
    with pytest.raises(UnreadableObject, match=says):
        reader.last_state(raw)


def test_items_of_a_list_need_not_say_their_kind() -> None:
    raw = make("a").replace(b'"kind": "Thing", ', b"")
    assert b"kind" not in raw
    assert read(raw, kinds={"Thing"}).uid == "uid-a"


def test_what_is_stored_in_this_very_version_is_returned_as_it_is_and_not_transformed_again() -> None:
    calls: list[bytes] = []

    def transform(raw: bytes) -> bytes:
        calls.append(raw)
        return b'{"kept":true}'

    reader = EntryReader(transform=transform)
    key, entry = reader.read(make("a", 1), {})
    assert entry.raw == b'{"kept":true}'
    assert reader.read(make("a", 1), {key: entry}) == (key, entry)
    assert len(calls) == 1
    reader.read(make("a", 2), {key: entry})
    reader.read(make("a", 1, uid="other"), {key: entry})
    assert len(calls) == 3
    reader.last_state(make("a", 3))
    assert len(calls) == 3  # a deletion shows what the server sent


def test_a_transform_that_raises_leaves_its_object_whole_and_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    def broken(raw: bytes) -> bytes:
        raise RuntimeError("on purpose")

    reader = EntryReader(transform=broken)
    _, entry = reader.read(make("a"), {})
    assert entry.raw == make("a")
    assert reader.transform_errors == 1
    assert "the object is kept whole" in caplog.text
