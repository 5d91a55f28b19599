"""Store: any history of events leaves it equal to a plain dict, its indexes true, and its changes replayable."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaito.client import wire
from kaito.informers.store import Change, Entry, Owner, Store, store_key

Json = dict[str, Any]
Replica = dict[str, tuple[str, int]]


def make(
    name: str, rv: int = 1, *, namespace: str | None = "ns", uid: str = "", labels: Json | None = None, **more: Any
) -> bytes:
    metadata = {
        "name": name,
        **({"namespace": namespace} if namespace else {}),
        "uid": uid or f"uid-{name}",
        "resourceVersion": str(rv),
        **({"labels": labels} if labels else {}),
        **more,
    }
    return json.dumps({"apiVersion": "v1", "kind": "Thing", "metadata": metadata, "spec": {"rv": rv}}).encode()


def by_colour(entry: Entry) -> Iterable[str]:
    return [value for key, value in entry.labels if key == "colour"]


def contents(store: Store) -> Replica:
    return {key: (entry.uid, entry.rv) for key, entry in store.items()}


def replay(replica: Replica, changes: Iterable[Change]) -> None:
    """What a consumer does who sees nothing but changes; any that does not fit is a fault of the store."""
    for change in changes:
        if change.type == "added":
            assert change.key not in replica
            assert change.old is None
        else:
            assert change.old is not None
            assert replica[change.key][0] == change.old.uid
        if change.new is None:
            assert change.type == "deleted"
            del replica[change.key]
        else:
            if change.type == "updated":
                assert replica[change.key][0] == change.new.uid
            replica[change.key] = (change.new.uid, change.new.rv)


NAMES = st.sampled_from(["a", "b", "c", "d"])
UIDS = st.sampled_from(["one", "two"])
COLOURS = st.sampled_from(["red", "blue", ""])
OBJECTS = st.tuples(NAMES, UIDS, COLOURS)
STEPS = st.one_of(
    st.tuples(st.just("put"), OBJECTS),
    st.tuples(st.just("put again"), NAMES),
    st.tuples(st.just("remove"), st.tuples(NAMES, UIDS)),
    st.tuples(st.just("replace"), st.lists(OBJECTS, max_size=5), st.booleans()),
)


class Naive:
    """The same history on a plain dict: name -> (uid, rv, colour)."""

    def __init__(self) -> None:
        self.rv = 10
        self.objects: dict[str, tuple[str, int, str]] = {}

    def take(self, name: str, uid: str, colour: str) -> bytes:
        self.rv += 1
        self.objects[name] = (uid, self.rv, colour)
        return self.raw(name)

    def raw(self, name: str) -> bytes:
        uid, rv, colour = self.objects[name]
        return make(name, rv, uid=uid, labels={"colour": colour} if colour else None)

    def replica(self) -> Replica:
        return {f"ns/{name}": (uid, rv) for name, (uid, rv, _) in self.objects.items()}


def perform(store: Store, naive: Naive, step: tuple[Any, ...]) -> list[Change]:
    match step:
        case ("put", (name, uid, colour)):
            return list(store.put(naive.take(name, uid, colour)))
        case ("put again", name):
            return list(store.put(naive.raw(name))) if name in naive.objects else []
        case ("remove", (name, uid)):
            naive.rv += 1
            if name in naive.objects and naive.objects[name][0] == uid:
                del naive.objects[name]
            return list(store.remove(make(name, naive.rv, uid=uid)))
        case ("replace", objects, keep):
            before = dict(naive.objects)
            replacement = store.replacement()
            naive.objects = dict(before) if keep else {}
            for name, uid, colour in objects:
                naive.take(name, uid, colour)
            for name in naive.objects:
                replacement.add(naive.raw(name))
            assert contents(store) == {f"ns/{name}": (uid, rv) for name, (uid, rv, _) in before.items()}
            return list(replacement.commit(naive.rv))
    raise AssertionError(step)


@settings(max_examples=300, deadline=None)
@given(st.lists(STEPS, max_size=25))
def test_any_history_leaves_contents_indexes_size_and_replay_equal_to_a_plain_dict(
    steps: list[tuple[Any, ...]],
) -> None:
    store, naive = Store(), Naive()
    store.add_index("colour", by_colour)
    replica: Replica = {}
    for step in steps:
        replay(replica, perform(store, naive, step))
        assert contents(store) == naive.replica() == replica
        assert store.bytes == sum(len(entry.raw) for _, entry in store.items())
        for colour in ("red", "blue"):
            expected = sorted(f"ns/{name}" for name, (_, _, own) in naive.objects.items() if own == colour)
            assert [key for key, _ in store.by_index("colour", colour)] == expected
        late = Store()
        late._entries = store._entries
        late.add_index("colour", by_colour)
        assert late._indexes["colour"]._keys == store._indexes["colour"]._keys


@settings(max_examples=50, deadline=None)
@given(st.lists(OBJECTS, max_size=5), st.lists(OBJECTS, max_size=5))
def test_a_relist_tells_deletions_before_everything_else(
    before: list[tuple[str, str, str]], after: list[tuple[str, str, str]]
) -> None:
    store, naive = Store(), Naive()
    perform(store, naive, ("replace", before, False))
    types = [change.type for change in perform(store, naive, ("replace", after, False))]
    assert types == sorted(types, key=lambda kind: kind != "deleted")


def test_an_object_recreated_unseen_is_a_deletion_and_an_addition() -> None:
    store = Store()
    store.put(make("a", 1, uid="old"))
    deleted, added = store.put(make("a", 5, uid="new"))
    assert (deleted.type, deleted.old and deleted.old.uid) == ("deleted", "old")
    assert (added.type, added.new and added.new.uid) == ("added", "new")


def test_the_deletion_of_a_predecessor_leaves_its_successor() -> None:
    store = Store()
    store.put(make("a", 5, uid="new"))
    assert store.remove(make("a", 4, uid="old")) == ()
    assert "ns/a" in store


def test_a_deletion_carries_the_last_state_that_the_watch_sent() -> None:
    store = Store()
    store.put(make("a", 1))
    (change,) = store.remove(make("a", 7, labels={"last": "words"}))
    assert change.old is not None
    assert (change.old.rv, change.old.labels) == (7, (("last", "words"),))


def test_the_version_that_is_here_already_is_no_change() -> None:
    store = Store()
    store.put(make("a", 3))
    assert store.put(make("a", 3)) == ()


def test_a_replacement_uses_entries_of_the_same_version_again() -> None:
    store = Store()
    store.put(make("same", 1))
    store.put(make("changed", 2))
    store.put(make("recreated", 3, uid="old"))
    before = dict(store.items())
    replacement = store.replacement()
    for raw in (make("same", 1), make("changed", 9), make("recreated", 3, uid="new")):
        replacement.add(raw)
    list(replacement.commit(9))
    after = dict(store.items())
    assert after["ns/same"] is before["ns/same"]
    assert after["ns/changed"] is not before["ns/changed"]
    assert after["ns/recreated"].uid == "new"


def test_readers_see_the_old_contents_until_the_commit_and_the_new_ones_at_once() -> None:
    store = Store()
    store.put(make("old", 1))
    replacement = store.replacement()
    replacement.add(make("new", 2))
    assert list(contents(store)) == ["ns/old"]
    changes = replacement.commit(2)
    assert list(contents(store)) == ["ns/new"]  # before anybody has looked at the changes
    assert [change.type for change in changes] == ["deleted", "added"]


def test_an_object_deleted_while_the_list_streams_is_not_in_it() -> None:
    store = Store()
    replacement = store.replacement()
    replacement.add(make("a", 1))
    replacement.discard(make("a", 2))
    replacement.discard(make("never-there", 2))
    assert list(replacement.commit(2)) == []
    assert len(store) == 0


def test_a_restored_etcd_sets_the_position_back() -> None:
    store = Store()
    store.put(make("a", 900))
    replacement = store.replacement()
    replacement.add(make("a", 5))
    (change,) = replacement.commit(6)
    assert change.type == "updated"
    assert store.resource_version == 6


def test_the_position_follows_events_and_bookmarks_and_never_goes_back() -> None:
    store = Store()
    store.put(make("a", 5))
    store.bookmark(9)
    assert store.resource_version == 9
    store.bookmark(7)
    store.put(make("b", 8))
    assert store.resource_version == 9
    store.remove(make("b", 12))
    assert store.resource_version == 12


@pytest.mark.parametrize("place", ["first", "middle", "last", "only"])
def test_managed_fields_are_dropped_wherever_they_stand(place: str) -> None:
    managed = '"managedFields":[{"manager":"x","fieldsV1":{"f:spec":{}}}]'
    fields = ['"name":"a"', '"uid":"u"', '"resourceVersion":"3"', '"annotations":{"managedFields":"a text"}']
    at = {"first": 0, "middle": 2, "last": len(fields), "only": 0}[place]
    fields = [*fields[:at], managed, *fields[at:]] if place != "only" else [*fields[:3], managed]
    raw = ('{"spec":{"managedFields":[1]},"metadata":{' + ",".join(fields) + '},"kind":"Thing"}').encode()
    _, entry = Store().entry(raw)
    expected = json.loads(raw)
    del expected["metadata"]["managedFields"]
    assert json.loads(entry.raw) == expected


def test_an_object_without_managed_fields_keeps_its_very_bytes() -> None:
    raw = b'{ "metadata" : {"name":"a", "resourceVersion":"3","uid":"u"},\n "n": 1.50, "s": "\\u00e9\xc3\xa9" }'
    _, entry = Store().entry(raw)
    assert entry.raw == raw


def test_numbers_and_texts_survive_the_dropping_of_managed_fields() -> None:
    raw = b'{"n":1.50,"big":12345678901234567890123,"s":"\\u0000\xc3\xa9","metadata":{"name":"a","managedFields":[]}}'
    _, entry = Store().entry(raw)
    assert json.loads(entry.raw) == {k: v for k, v in json.loads(raw).items() if k != "metadata"} | {
        "metadata": {"name": "a"}
    }


def test_the_bytes_are_a_copy_and_do_not_keep_their_page_alive() -> None:
    page = b'{"metadata":{},"items":[' + b",".join(make(f"o{number}") for number in range(50)) + b"]}"
    items = wire.decode_page(page).items
    assert items is not None
    item = items[7]
    _, entry = Store().entry(item)
    assert isinstance(entry.raw, bytes)
    assert len(entry.raw) < len(page) / 40
    assert not any(referred is page for referred in gc.get_referents(entry.raw))


def test_entries_cost_the_garbage_collector_nothing() -> None:
    store = Store()
    store.put(make("a", labels={"app": "web"}, ownerReferences=[controller()]))
    entry = store.get("ns/a")
    assert not gc.is_tracked(entry)


def controller(name: str = "boss", api_version: str = "apps/v1", **more: Any) -> Json:
    return {
        "apiVersion": api_version,
        "kind": "Deployment",
        "name": name,
        "uid": f"uid-{name}",
        "controller": True,
    } | more


def test_equal_labels_and_owners_are_shared() -> None:
    store = Store()
    for name in ("a", "b"):
        store.put(make(name, labels={"x": "1", "app": "web"}, ownerReferences=[controller()]))
    one, other = (entry for _, entry in store.items())
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
    _, entry = Store().entry(make("a", ownerReferences=references))
    assert entry.owner == owner


def test_cluster_scoped_objects_are_keyed_by_name_alone() -> None:
    store = Store()
    store.put(make("node", namespace=None))
    assert store.get("node") is not None
    assert store_key("node", None) == store_key("node", "") == "node"


def test_a_namespace_selects_its_own_objects_and_not_those_of_a_longer_name() -> None:
    store = Store()
    for namespace in ("ns", "ns-2"):
        store.put(make("a", namespace=namespace))
    assert [key for key, _ in store.items("ns")] == ["ns/a"]


def test_an_index_added_late_knows_what_is_stored() -> None:
    store = Store()
    store.put(make("a", labels={"colour": "red"}))
    store.add_index("colour", by_colour)
    assert [key for key, _ in store.by_index("colour", "red")] == ["ns/a"]
    with pytest.raises(ValueError, match="exists already"):
        store.add_index("colour", by_colour)


def test_an_index_forgets_values_that_nothing_has_any_more() -> None:
    store = Store()
    store.add_index("rv", lambda entry: [str(entry.rv)])
    for rv in range(1, 100):
        store.put(make("a", rv))
    assert list(store._indexes["rv"]._keys) == ["99"]
    store.remove(make("a", 100))
    assert not store._indexes["rv"]._keys
    assert not store._indexes["rv"]._values


def test_a_value_given_twice_is_filed_once() -> None:
    store = Store()
    store.add_index("twice", lambda entry: ["x", "x"])
    store.put(make("a", 1))
    assert [key for key, _ in store.by_index("twice", "x")] == ["ns/a"]
    store.remove(make("a", 2))
    assert store.by_index("twice", "x") == []


@pytest.mark.parametrize(
    "raw",
    [b"{}", b"[]", b"null", b'{"metadata":null}', b'{"metadata":{"name":"a","resourceVersion":"opaque"}}', b"{", b""],
)
def test_what_is_no_object_is_refused_as_such_and_changes_nothing(raw: bytes) -> None:
    store = Store()
    with pytest.raises(msgspec.DecodeError):
        store.put(raw)
    assert len(store) == 0
