"""Store: any history of events leaves it equal to a plain dict, its indexes true, and its changes replayable."""

from __future__ import annotations

import gc
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaito.informers import Change, Store, UnreadableObject, store_key
from kaito.informers.index import ValueIndex, label_index
from tests.unit.informers.objects import make

Json = dict[str, Any]
Replica = dict[str, tuple[str, int]]


def colours(store: Store, colour: str) -> list[str]:
    """The keys under a colour, which both indexes must agree on: the one that remembers and the one that does not."""
    found = [key for key, _ in store.select([("colour", colour)])]
    assert found == [key for key, _ in store.select([("remembered", colour)])]
    return found


def add_colour_indexes(store: Store) -> None:
    store.add_index("colour", label_index("colour"))
    store.add_index("remembered", ValueIndex(lambda key, entry: [v for k, v in entry.labels if k == "colour"]))


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


@settings(max_examples=300)
@given(st.lists(STEPS, max_size=25))
def test_any_history_leaves_contents_indexes_size_and_replay_equal_to_a_plain_dict(
    steps: list[tuple[Any, ...]],
) -> None:
    store, naive = Store(), Naive()
    add_colour_indexes(store)
    replica: Replica = {}
    for step in steps:
        replay(replica, perform(store, naive, step))
        assert contents(store) == naive.replica() == replica
        assert store.bytes == sum(len(entry.raw) for _, entry in store.items())
        for colour in ("red", "blue"):
            expected = sorted(f"ns/{name}" for name, (_, _, own) in naive.objects.items() if own == colour)
            assert colours(store, colour) == expected
            assert [key for key, _ in store.select([("colour", colour)], "ns")] == expected
            assert store.select([("colour", colour)], "other") == []


@settings(max_examples=50)
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


def test_an_event_that_a_later_one_has_overtaken_is_no_change() -> None:
    store = Store()
    store.put(make("a", 3))
    store.put(make("a", 5))
    assert store.put(make("a", 3)) == ()
    assert contents(store) == {"ns/a": ("uid-a", 5)}


def test_events_sent_twice_neither_bring_back_what_is_gone_nor_take_away_what_came() -> None:
    store = Store()
    store.put(make("a", 3))
    store.remove(make("a", 4))
    assert store.put(make("a", 3)) == ()
    assert "ns/a" not in store
    store.put(make("a", 5))
    assert store.remove(make("a", 4)) == ()
    assert "ns/a" in store


def test_several_objects_can_go_and_come_in_one_version() -> None:
    store = Store()
    for rv, name in enumerate("abc", start=1):
        store.put(make(name, rv))
    for name in "abc":
        assert [change.type for change in store.remove(make(name, 9))] == ["deleted"]
    assert contents(store) == {}
    for name in "abc":
        assert [change.type for change in store.put(make(name, 12))] == ["added"]
        assert store.put(make(name, 12)) == ()
    assert len(store) == 3


def test_what_cannot_be_read_changes_nothing() -> None:
    store = Store()
    store.put(make("a", 3))
    for take in (store.put, store.remove):
        with pytest.raises(UnreadableObject):
            take(b'{"metadata":{"name":"a","namespace":"ns","resourceVersion":"9"}}')
    assert contents(store) == {"ns/a": ("uid-a", 3)}
    assert store.resource_version == 3


def test_a_listed_object_that_cannot_be_read_keeps_the_state_that_could() -> None:
    store = Store()
    store.put(make("a", 3))
    replacement = store.replacement()
    with pytest.raises(UnreadableObject):
        replacement.add(b'{"metadata":{"name":"a","namespace":"ns","resourceVersion":"9"}}')
    with pytest.raises(UnreadableObject):
        replacement.add(b'{"metadata":{"name":"unknown","namespace":"ns","resourceVersion":"9"}}')
    assert list(replacement.commit(9)) == []
    assert contents(store) == {"ns/a": ("uid-a", 3)}


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


def test_entries_cost_the_garbage_collector_nothing() -> None:
    store = Store()
    store.put(make("a", labels={"app": "web"}))
    entry = store.get("ns/a")
    assert not gc.is_tracked(entry)


def test_cluster_scoped_objects_are_keyed_by_name_alone() -> None:
    store = Store()
    store.put(make("node", namespace=None))
    assert store.get("node") is not None
    assert store_key("node", None) == store_key("node", "") == "node"


def test_a_namespace_selects_its_own_objects_and_not_those_of_a_longer_name() -> None:
    store = Store()
    store.put(make("a", 1, namespace="ns"))
    store.put(make("a", 2, namespace="ns-2"))
    assert [key for key, _ in store.items("ns")] == ["ns/a"]
    store.put(make("b", 3, namespace="ns"))
    assert [key for key, _ in store.items("ns")] == ["ns/a", "ns/b"]  # also of what comes after the first question
