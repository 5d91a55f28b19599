"""InformerOptions: which objects of a kind an informer holds, and what of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import msgspec

from kaito.client import wire
from kaito.informers.entry import ByteTransform, EntryReader
from kaito.informers.projection import projection
from kaito.kube.resource import Resource
from kaito.kube.selectors import parse_selector, selector_predicate
from kaito.kube.unstructured import UnstructuredObject

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
        namespaces: only these (any collection of names), each listed and watched apart; None: all, by one watch. Only
            for namespaced kinds.
        labels: label selector; the server sends only what it selects.
        fields: field selector, likewise.
        project: keep only the fields that the class declares. What is read so cannot be written back by an update.
        transform: changes what is kept; managedFields are gone before. It must leave the metadata's name, namespace,
            uid and resourceVersion alone. One that raises leaves its object whole, and is counted.
        list_mode: how objects are listed.
    """

    namespaces: Collection[str] | None = None
    labels: str = ""
    fields: str = ""
    project: bool = False
    transform: Transform | None = None
    list_mode: ListMode = "stream"

    def __post_init__(self) -> None:
        object.__setattr__(self, "namespaces", names_of(self.namespaces))

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
            ValueError: namespaces for a cluster-scoped kind, a selector that does not parse, an unknown mode, or a
                projection to a class that declares nothing.
        """
        what = f"InformerOptions of {kind.resource_type.plural}"
        if self.namespaces is not None and not kind.resource_type.namespaced:
            raise ValueError(f"{what}: namespaces are given, but {kind.__name__} is cluster-scoped; give None")
        if self.list_mode not in get_args(ListMode):
            raise ValueError(f"{what}: list_mode is {self.list_mode!r}; choose from {', '.join(get_args(ListMode))}")
        if self.project and issubclass(kind, UnstructuredObject):
            raise ValueError(f"{what}: project keeps what a class declares, and {kind.__name__} declares nothing")
        try:
            parse_selector(self.labels)
            _check_fields(self.fields)
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


def names_of(namespaces: Iterable[str] | None) -> frozenset[str] | None:
    """A set of namespaces, of any collection of names.

    Raises:
        TypeError: it is one text.
    """
    if isinstance(namespaces, str):
        raise TypeError(f"namespaces is the text {namespaces!r}; expected a set of names, {{{namespaces!r}}} for one")
    return None if namespaces is None else frozenset(namespaces)


class Selector:
    """What of a label and a field selector can be told without the server.

    Args:
        labels: label selector.
        fields: field selector.
    """

    def __init__(self, labels: str, fields: str) -> None:
        self._labels = selector_predicate(parse_selector(labels)) if labels else None
        self.has_fields = bool(fields)

    def selects_labels(self, raw: bytes) -> bool:
        """Whether an object's labels meet the label selector."""
        return self._labels is None or self._labels(wire.decode_header(raw).metadata.labels or {})


def _check_fields(text: str) -> None:
    """Looks at the form of a field selector; which fields a kind has only the server knows.

    Raises:
        ValueError: a term is none.
    """
    for part in text.split(",") if text else ():
        name, sign, _ = part.partition("=")
        if not sign or not name.strip("!"):
            raise ValueError(f"field selector {text!r}: {part!r} is no term; expected path=value or path!=value")
