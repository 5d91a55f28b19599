"""Predicates: which events a controller looks at, as pure functions over an object's old and new state.

Two sorts of question, and how they are put together:

- about an object (`matches_labels`, `object_matches`): is it one of those that concern us? An update that takes an
  object in or out of them is looked at as what it is to us: a creation, or a deletion. It always passes.
- about an update (all others): did anything change that matters? Creations and deletions always pass.

``a & b``, ``a | b`` and ``~a`` (or `and_`, `or_`, `not_`) keep that: ``~generation_changed()`` passes updates that
leave the generation as it was, *and* every creation and deletion (controller-runtime's Not would hold those back); and
``matches_labels("app=web") & generation_changed()`` passes an update that changes nothing but the label, if that takes
the object out of ``app=web``.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any, Generic, TypeAlias, TypeVar

import msgspec

from kaito.informers.entry import Entry
from kaito.informers.handlers import InformerEvent
from kaito.informers.informer import Informer
from kaito.kube.meta_v1 import LabelSelector
from kaito.kube.resource import Resource
from kaito.kube.selectors import parse_selector, selector_predicate

R = TypeVar("R", bound=Resource)

Fields = Mapping[str, object]
"""An object as its JSON has it."""

_decode_fields = msgspec.json.Decoder(dict[str, object]).decode


class State(Generic[R]):
    """One state of an object, decoded as far as somebody asks.

    Args:
        informer: decodes it.
        entry: what is stored of it.
    """

    __slots__ = ("_informer", "entry")

    def __init__(self, informer: Informer[R], entry: Entry) -> None:
        self._informer = informer
        self.entry = entry

    @property
    def object(self) -> R:
        """The object.

        Raises:
            pydantic.ValidationError: it breaks its schema.
        """
        return self._informer.decode(self.entry)

    @property
    def fields(self) -> Fields:
        """The object's JSON."""
        return _decode_fields(self.entry.raw)

    @property
    def metadata(self) -> _Metadata:
        """What predicates look at in the metadata."""
        return _decode_head(self.entry.raw).metadata


class Predicate(abc.ABC, Generic[R]):
    """Passes an event or holds it back; give it as ``where=`` to a controller or a watch."""

    def __call__(self, event: InformerEvent[R], /) -> bool:
        """Whether the event passes."""
        old, new = event.change.old, event.change.new
        return self.passes(
            State(event.informer, old) if old is not None else None,
            State(event.informer, new) if new is not None else None,
        )

    def passes(self, old: State[R] | None, new: State[R] | None) -> bool:
        """Whether a change passes; None: the object is not there."""
        was, is_ = old is not None and self.selects(old), new is not None and self.selects(new)
        if old is None or new is None or not (was and is_):
            return was or is_
        return self.changed(old, new)

    @abc.abstractmethod
    def selects(self, state: State[R]) -> bool:
        """Whether it is one of the objects that this is about."""

    @abc.abstractmethod
    def changed(self, old: State[R], new: State[R]) -> bool:
        """Whether an update matters of an object that was selected before and after it."""

    @abc.abstractmethod
    def __invert__(self) -> Predicate[R]:
        """Asks the contrary of objects, or of updates; see the module's text."""

    def __and__(self, other: Predicate[R]) -> Predicate[R]:
        return _All(self, other)

    def __or__(self, other: Predicate[R]) -> Predicate[R]:
        return _Either(self, other)


AnyPredicate: TypeAlias = Predicate[Any]
"""A predicate for objects of whatever kind."""


def and_(first: Predicate[R], *others: Predicate[R]) -> Predicate[R]:
    """Passes what all of them pass."""
    return reduce(_All, others, first)


def or_(first: Predicate[R], *others: Predicate[R]) -> Predicate[R]:
    """Passes what any of them passes."""
    return reduce(_Either, others, first)


def not_(predicate: Predicate[R]) -> Predicate[R]:
    """Asks the contrary of objects, or of updates; creations and deletions pass as before."""
    return ~predicate


def object_matches(test: Callable[[R], bool]) -> Predicate[R]:
    """About objects: those for which a function is true; one that enters or leaves them passes."""
    return _Objects(lambda state: test(state.object))


def matches_labels(selector: str | LabelSelector) -> AnyPredicate:
    """About objects: those whose labels meet a selector, such as ``"app=web,!canary"``.

    Raises:
        ValueError: the text is no selector.
    """
    meets = selector_predicate(parse_selector(selector) if isinstance(selector, str) else selector)
    return _Objects(lambda state: meets(dict(state.entry.labels)))


def update_matches(test: Callable[[R, R], bool]) -> Predicate[R]:
    """About updates: those for whose old and new object a function is true."""
    return _Updates(lambda old, new: test(old.object, new.object))


def generation_changed() -> AnyPredicate:
    """About updates: those that change what the object asks for, by its generation, or that begin its deletion.

    Not those of status, labels, annotations, finalizers or owners. Kinds without a generation (ConfigMap, Secret,
    Service, Node, …) cannot be judged by it: all their updates pass; use `spec_changed` for them.
    """

    def changed(old: State[Resource], new: State[Resource]) -> bool:
        before, after = old.metadata, new.metadata
        if before.generation != after.generation or not after.generation:
            return True
        return before.deletion_timestamp is None and after.deletion_timestamp is not None

    return _Updates(changed)


def spec_changed() -> AnyPredicate:
    """About updates: those that change anything outside of metadata and status; for kinds without a generation too."""
    return _Updates(lambda old, new: _spec(old.fields) != _spec(new.fields))


def labels_changed() -> AnyPredicate:
    """About updates: those that change labels."""
    return _Updates(lambda old, new: old.entry.labels != new.entry.labels)


def annotations_changed() -> AnyPredicate:
    """About updates: those that change annotations."""
    return _Updates(lambda old, new: old.metadata.annotations != new.metadata.annotations)


def resource_version_changed() -> AnyPredicate:
    """About updates: those that change anything at all."""
    return _Updates(lambda old, new: old.entry.rv != new.entry.rv)


def deletion_started() -> AnyPredicate:
    """About updates: the one by which the object begins to be deleted, while finalizers or a grace keep it."""
    return _Updates(
        lambda old, new: old.metadata.deletion_timestamp is None and new.metadata.deletion_timestamp is not None
    )


def field_changed(*paths: str | Sequence[str]) -> AnyPredicate:
    """About updates: those that change any of some fields, each compared with all that is in it.

    Args:
        paths: by the names in the JSON, such as ``"spec.nodeName"``; names that have dots themselves go in a sequence:
            ``("metadata", "annotations", "example.com/size")``. Lists are compared whole.

    Raises:
        ValueError: no path, or one with an empty name.
    """
    names = [tuple(path.split(".")) if isinstance(path, str) else tuple(path) for path in paths]
    if not names or not all(all(path) and path for path in names):
        raise ValueError(f"field_changed{paths!r}: give paths such as 'spec.nodeName', without empty parts")

    def changed(old: State[Resource], new: State[Resource]) -> bool:
        before, after = old.fields, new.fields
        return any(_at(before, path) != _at(after, path) for path in names)

    return _Updates(changed)


def condition_changed(condition: str, *, fields: Sequence[str] = ("status", "reason")) -> AnyPredicate:
    """About updates: those that change a condition in ``status.conditions``, add it or take it away.

    Args:
        condition: its type, such as ``Ready``.
        fields: what of it counts; not its message and times, unless named here.
    """

    def changed(old: State[Resource], new: State[Resource]) -> bool:
        return _condition(old.fields, condition, fields) != _condition(new.fields, condition, fields)

    return _Updates(changed)


class _Objects(Predicate[R]):
    def __init__(self, test: Callable[[State[R]], bool]) -> None:
        self._test = test

    def selects(self, state: State[R]) -> bool:
        return self._test(state)

    def changed(self, old: State[R], new: State[R]) -> bool:
        return True

    def __invert__(self) -> Predicate[R]:
        return _Objects(lambda state: not self._test(state))


class _Updates(Predicate[R]):
    def __init__(self, test: Callable[[State[R], State[R]], bool]) -> None:
        self._test = test

    def selects(self, state: State[R]) -> bool:
        return True

    def changed(self, old: State[R], new: State[R]) -> bool:
        return self._test(old, new)

    def __invert__(self) -> Predicate[R]:
        return _Updates(lambda old, new: not self._test(old, new))


class _All(Predicate[R]):
    def __init__(self, one: Predicate[R], other: Predicate[R]) -> None:
        self._one, self._other = one, other

    def selects(self, state: State[R]) -> bool:
        return self._one.selects(state) and self._other.selects(state)

    def changed(self, old: State[R], new: State[R]) -> bool:
        return self._one.passes(old, new) and self._other.passes(old, new)

    def __invert__(self) -> Predicate[R]:
        return _Either(~self._one, ~self._other)


class _Either(Predicate[R]):
    def __init__(self, one: Predicate[R], other: Predicate[R]) -> None:
        self._one, self._other = one, other

    def selects(self, state: State[R]) -> bool:
        return self._one.selects(state) or self._other.selects(state)

    def changed(self, old: State[R], new: State[R]) -> bool:
        return self._one.passes(old, new) or self._other.passes(old, new)

    def __invert__(self) -> Predicate[R]:
        return _All(~self._one, ~self._other)


class _Metadata(msgspec.Struct, rename="camel", gc=False):
    generation: int = 0
    deletion_timestamp: str | None = None
    annotations: dict[str, str] | None = None


class _Head(msgspec.Struct, gc=False):
    metadata: _Metadata


_decode_head = msgspec.json.Decoder(_Head).decode


def _spec(fields: Fields) -> Fields:
    return {name: value for name, value in fields.items() if name not in ("metadata", "status")}


def _at(value: object, path: Sequence[str]) -> object:
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _condition(fields: Fields, condition: str, names: Sequence[str]) -> tuple[object, ...] | None:
    found = _at(fields, ("status", "conditions"))
    for each in found if isinstance(found, list) else ():
        if isinstance(each, Mapping) and each.get("type") == condition:
            return tuple(each.get(name) for name in names)
    return None
