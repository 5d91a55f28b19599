"""Query: which of an informer's objects are asked for, found by intersecting its indexes, then decoded in slices."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeVar

from pydantic import ValidationError

from kaito.client.results import ObjectList, Unreadable
from kaito.informers.entry import Entry
from kaito.informers.index import NAMESPACE_INDEX, OWNER_INDEX, label_index_name
from kaito.informers.informer import Informer
from kaito.informers.lister import SLICE
from kaito.informers.store import Term
from kaito.kube.resource import Resource
from kaito.kube.selectors import parse_selector, selector_predicate

R = TypeVar("R", bound=Resource)
Item = tuple[str, Entry]

_NAME = "metadata.name"


class Query:
    """What is asked for.

    Args:
        labels: label selector.
        fields: ``INDEX=VALUE`` terms, joined by commas.
        namespace: None: all that are cached.

    Raises:
        ValueError: a selector does not parse.
    """

    def __init__(self, labels: str = "", fields: str = "", namespace: str | None = None) -> None:
        self.namespace = namespace
        self._selector = parse_selector(labels) if labels else None
        self._terms = [_term(part, fields) for part in fields.split(",")] if fields else []

    @classmethod
    def of_index(cls, name: str, value: str) -> Query:
        """Asks for what an index has under a value, whatever characters that has."""
        query = cls()
        query._terms.append((name, value))
        return query

    def run(self, informer: Informer[R]) -> Sequence[Item]:
        """A snapshot of what is asked for, sorted by key.

        Raises:
            ValueError: a field term has no index.
        """
        terms, names, namespace, impossible = self._sorted_terms(informer)
        if impossible:
            return []
        items = informer.store.select((*terms, *self._label_terms(informer)), namespace)
        for name in names:
            items = [item for item in items if item[0].rpartition("/")[2] == name]
        if self._selector is None:
            return items
        selects: Callable[[dict[str, str]], bool] = selector_predicate(self._selector)
        return [(key, entry) for key, entry in items if selects(dict(entry.labels))]

    def _sorted_terms(self, informer: Informer[R]) -> tuple[list[Term], list[str], str | None, bool]:
        """Index terms, names, the one namespace, and whether several different namespaces are asked for at once."""
        terms: list[Term] = []
        names: list[str] = []
        namespace, impossible = self.namespace, False
        for name, value in self._terms:
            if name == _NAME:
                names.append(value)
            elif name == NAMESPACE_INDEX:
                impossible = impossible or namespace not in (None, value)
                namespace = value
            elif informer.store.has_index(name):
                terms.append((name, value))
            else:
                raise ValueError(no_index(informer.kind, name))
        return terms, names, namespace, impossible

    def _label_terms(self, informer: Informer[R]) -> list[Term]:
        equal = self._selector.match_labels.items() if self._selector is not None else ()
        named = [(label_index_name(label), value) for label, value in equal]
        return [term for term in named if informer.store.has_index(term[0])]


async def decoded(informer: Informer[R], found: Sequence[Item], version: str) -> ObjectList[R]:
    """Decodes a snapshot in slices: some 15 µs each would otherwise hold the loop for as long as there are objects."""
    objects, unreadable = [], []
    for index, (key, entry) in enumerate(found, start=1):
        try:
            objects.append(informer.decode(entry))
        except ValidationError:
            unreadable.append(Unreadable(informer.object_key(key), entry.uid))
        if index % SLICE == 0:
            await asyncio.sleep(0)
    return ObjectList(objects, version, unreadable)


def _term(part: str, text: str) -> Term:
    name, sign, value = part.strip().partition("=")
    if not sign or not name or name.endswith("!"):
        raise ValueError(f"field selector {text!r}: {part!r} cannot be read from a cache; expected INDEX=VALUE")
    return name, value.removeprefix("=")


def no_index(kind: type[Resource], name: str) -> str:
    """Says that there is no index, and how to have one."""
    advice = f"add_index({kind.__name__}, {name!r}, …)"
    if name == OWNER_INDEX:
        advice = f"add_owner_index({kind.__name__})"
    return (
        f"list of cached {kind.resource_type.plural} by field {name!r}: no such index; declare it with cache.{advice}"
    )
