"""InformerOptions: which objects of a kind an informer holds, and what of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from kaito.client import wire
from kaito.informers.entry import ByteTransform, EntryReader
from kaito.informers.projection import projection
from kaito.kube.resource import Resource
from kaito.kube.selectors import parse_selector, selector_predicate

Transform = Callable[[dict[str, Any]], dict[str, Any]]
"""From an object as plain dicts to what is kept of it. Pure, quick; runs once per version of an object."""

ListMode = Literal["stream", "whole", "pages"]
"""How objects are listed: ``stream`` by a watch that begins with them (and pages where the server cannot), ``whole``
in one answer, ``pages`` of 500."""

Json = dict[str, Any]

_decode: Callable[[bytes], Json] = msgspec.json.Decoder(Json).decode


@dataclass(frozen=True, slots=True)
class InformerOptions:
    """Which objects of a kind an informer holds, and what of them. Two uses with equal options share an informer.

    Attributes:
        namespaces: only these, each listed and watched apart; None: all, by one watch. Only for namespaced kinds.
        labels: label selector; the server sends only what it selects.
        fields: field selector, likewise.
        project: keep only the fields that the class declares. What is read so cannot be written back by an update.
        transform: changes what is kept; managedFields are gone before. It must leave the metadata's name, namespace,
            uid and resourceVersion alone. One that raises leaves its object whole, and is counted.
        list_mode: how objects are listed.
    """

    namespaces: frozenset[str] | None = None
    labels: str = ""
    fields: str = ""
    project: bool = False
    transform: Transform | None = None
    list_mode: ListMode = "stream"

    @property
    def selective(self) -> bool:
        """Whether objects can be absent that exist in its namespaces."""
        return bool(self.labels or self.fields)

    @property
    def partial(self) -> bool:
        """Whether what is kept of an object is less than all of it."""
        return self.project or self.transform is not None

    def check(self, kind: type[Resource]) -> None:
        """Refuses what makes no sense for a kind.

        Raises:
            ValueError: namespaces for a cluster-scoped kind, none at all, or a selector that does not parse.
        """
        what = f"InformerOptions of {kind.resource_type.plural}"
        if self.namespaces is not None and not kind.resource_type.namespaced:
            raise ValueError(f"{what}: namespaces are given, but {kind.__name__} is cluster-scoped; give None")
        if isinstance(self.namespaces, str):
            raise ValueError(f"{what}: namespaces is {self.namespaces!r}; expected a set of names")
        try:
            parse_selector(self.labels)
            _field_terms(self.fields)
        except ValueError as error:
            raise ValueError(f"{what}: {error}") from None

    def reader(self, kind: type[Resource]) -> EntryReader:
        """What makes entries of objects of a kind."""
        kinds = {kind.resource_type.kind} | ({"PartialObjectMetadata"} if kind.accept else set())
        return EntryReader(kinds, self._byte_transform(kind))

    def covers(self, namespace: str | None) -> bool:
        """Whether objects of a namespace can be here."""
        return self.namespaces is None or namespace in self.namespaces

    def selector(self) -> Selector:
        """The test of labels and fields, for objects that did not come through the watch."""
        return Selector(self.labels, self.fields)

    def _byte_transform(self, kind: type[Resource]) -> ByteTransform | None:
        project = projection(kind) if self.project else None
        change = self.transform
        if change is None:
            return project
        if project is None:
            return lambda raw: msgspec.json.encode(change(_decode(raw)))
        return lambda raw: project(msgspec.json.encode(change(_decode(raw))))


class Selector:
    """A label and a field selector, as the API server reads them.

    Args:
        labels: label selector.
        fields: field selector: ``path=value``, ``path==value`` and ``path!=value``, joined by commas.
    """

    def __init__(self, labels: str, fields: str) -> None:
        self._labels = selector_predicate(parse_selector(labels)) if labels else None
        self._fields = _field_terms(fields)

    def selects(self, raw: bytes) -> bool:
        """Whether an object's JSON meets both."""
        if self._labels is not None and not self._labels(wire.decode_header(raw).metadata.labels or {}):
            return False
        if not self._fields:
            return True
        obj = _decode(raw)
        return all((_value_at(obj, term.path) == term.value) is term.equal for term in self._fields)


@dataclass(frozen=True, slots=True)
class _FieldTerm:
    path: tuple[str, ...]
    value: str
    equal: bool


def _field_terms(text: str) -> list[_FieldTerm]:
    """Reads a field selector.

    Raises:
        ValueError: a term is none.
    """
    terms = []
    for part in text.split(",") if text else ():
        name, sign, value = part.partition("=")
        if not sign or not name.strip("!"):
            raise ValueError(f"field selector {text!r}: {part!r} is no term; expected path=value or path!=value")
        equal = not name.endswith("!")
        terms.append(_FieldTerm(tuple(name.removesuffix("!").split(".")), value.removeprefix("="), equal))
    return terms


def _value_at(obj: Json, path: tuple[str, ...]) -> str:
    value: object = obj
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)
