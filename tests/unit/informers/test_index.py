"""Indexes: values move, vanish and are found together, whether the index remembers them or not."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest

from kaito.informers import Entry, Store
from kaito.informers.index import EntryIndex, Index, ValueIndex, intersection, label_index, namespace_index, owner_index
from tests.unit.informers.objects import controller, make

Function = Callable[[str, Entry], Iterable[str]]
MAKERS = [EntryIndex, ValueIndex]


def found(store: Store, *terms: tuple[str, str], namespace: str | None = None) -> list[str]:
    return [key for key, _ in store.select(terms, namespace)]


def version(key: str, entry: Entry) -> Iterable[str]:
    return [str(entry.rv)]


@pytest.mark.parametrize("made", MAKERS)
def test_an_index_added_late_knows_what_is_stored(made: Callable[[Function], Index]) -> None:
    store = Store()
    store.put(make("a", 7))
    store.add_index("rv", made(version))
    assert found(store, ("rv", "7")) == ["ns/a"]
    with pytest.raises(ValueError, match="exists already"):
        store.add_index("rv", made(version))


@pytest.mark.parametrize("made", MAKERS)
def test_an_index_forgets_values_that_nothing_has_any_more(made: Callable[[Function], Index]) -> None:
    store, index = Store(), made(version)
    store.add_index("rv", index)
    for rv in range(1, 100):
        store.put(make("a", rv))
    assert list(index._keys) == ["99"]  # type: ignore[attr-defined]
    store.remove(make("a", 100))
    assert not index._keys  # type: ignore[attr-defined]
    assert not getattr(index, "_values", ())


@pytest.mark.parametrize("made", MAKERS)
def test_a_value_given_twice_is_filed_once(made: Callable[[Function], Index]) -> None:
    store = Store()
    store.add_index("twice", made(lambda key, entry: ["x", "x"]))
    store.put(make("a", 1))
    assert found(store, ("twice", "x")) == ["ns/a"]
    store.remove(make("a", 2))
    assert found(store, ("twice", "x")) == []


@pytest.mark.parametrize("made", MAKERS)
def test_a_relist_leaves_what_events_would_have(made: Callable[[Function], Index]) -> None:
    store = Store()
    store.add_index("colour", made(lambda key, entry: [value for _, value in entry.labels]))
    for number, (name, colour) in enumerate([("stays", "red"), ("moves", "red"), ("goes", "red")], start=1):
        store.put(make(name, number, labels={"colour": colour}))
    replacement = store.replacement()
    replacement.add(make("stays", 1, labels={"colour": "red"}))
    replacement.add(make("moves", 9, labels={"colour": "blue"}))
    replacement.add(make("comes", 8, labels={"colour": "blue"}))
    replacement.add(make("brief", 7, labels={"colour": "blue"}))
    replacement.discard(make("brief", 9))
    list(replacement.commit(9))
    assert found(store, ("colour", "red")) == ["ns/stays"]
    assert found(store, ("colour", "blue")) == ["ns/comes", "ns/moves"]


def test_terms_are_intersected_with_one_another_and_with_the_namespace() -> None:
    store = Store()
    store.add_index("app", label_index("app"))
    store.add_index("tier", label_index("tier"))
    store.add_index("owner", owner_index())
    objects = [("a", "ns", "web", "front"), ("b", "ns", "web", "back"), ("c", "other", "web", "front")]
    for number, (name, namespace, app, tier) in enumerate(objects, start=1):
        labels = {"app": app, "tier": tier}
        store.put(make(name, number, namespace=namespace, labels=labels, ownerReferences=[controller(name)]))
    assert found(store, ("app", "web")) == ["ns/a", "ns/b", "other/c"]
    assert found(store, ("app", "web"), ("tier", "front")) == ["ns/a", "other/c"]
    assert found(store, ("app", "web"), ("tier", "front"), namespace="ns") == ["ns/a"]
    assert found(store, ("app", "web"), ("owner", "uid-b")) == ["ns/b"]
    assert found(store, ("app", "none"), ("tier", "front")) == []
    assert found(store) == ["ns/a", "ns/b", "other/c"]
    with pytest.raises(KeyError):
        store.select([("none", "x")])


def test_an_intersection_has_what_all_have() -> None:
    assert sorted(intersection([{"a", "b", "c"}, {"b", "c"}, {"c", "b", "d"}])) == ["b", "c"]
    assert list(intersection([{"a"}, ()])) == []


def test_cluster_scoped_keys_have_the_empty_namespace() -> None:
    store = Store()
    store.put(make("node", 1, namespace=None))
    store.add_index("ns", namespace_index())
    assert found(store, ("ns", "")) == ["node"]
