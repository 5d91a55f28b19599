"""Selectors: label and field queries, parsed once and asked per object."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TypeAlias

from kaito.testing.fake_api.failures import Json, bad_request
from kaito.testing.fake_api.kinds import Kind

Labels: TypeAlias = Mapping[str, str]
_Test: TypeAlias = Callable[[Labels], bool]
_FieldTest: TypeAlias = Callable[[Json], bool]

_KEY = r"[A-Za-z0-9](?:[A-Za-z0-9_./-]*[A-Za-z0-9])?"
_SET = re.compile(rf"({_KEY})\s+(in|notin)\s*\(([^)]*)\)")
_COMPARE = re.compile(rf"({_KEY})\s*(==|=|!=|>|<)\s*([A-Za-z0-9_.-]*)")
_EXISTS = re.compile(rf"(!?)\s*({_KEY})")
_FIELD = re.compile(r"([A-Za-z0-9_.\[\]/-]+)(==|!=|=)(.*)")


class Selector:
    """A label and a field query together.

    Args:
        kind: the kind asked about; it decides which fields can be selected.
        labels: ``a=b,a!=b,a in (x,y),a notin (x),a,!a``.
        fields: ``metadata.name=x,spec.nodeName!=y``.

    Raises:
        Failure: 400, a query does not parse or the kind does not know a field.
    """

    def __init__(self, kind: Kind, labels: str = "", fields: str = "") -> None:
        self._labels = [_label_test(term, labels) for term in _split(labels)]
        self._fields = [_field_test(term, kind) for term in _split_fields(fields)]

    def __bool__(self) -> bool:
        return bool(self._labels or self._fields)

    def matches(self, obj: Json | None) -> bool:
        """Whether an object is selected; None is not."""
        if obj is None:
            return False
        labels: Labels = obj["metadata"].get("labels") or {}
        return all(test(labels) for test in self._labels) and all(test(obj) for test in self._fields)


def _split(query: str) -> list[str]:
    terms = re.split(r",(?![^(]*\))", query)
    return [] if not query.strip() else [term.strip() for term in terms]


def _label_test(term: str, query: str) -> _Test:
    if match := _SET.fullmatch(term):
        key, operator, listed = match.groups()
        values = tuple(value.strip() for value in listed.split(","))
        return _in(key, values) if operator == "in" else _not(_in(key, values))
    if match := _COMPARE.fullmatch(term):
        key, operator, value = match.groups()
        return _comparison(key, operator, value)
    if match := _EXISTS.fullmatch(term):
        negated, key = match.groups()
        return _not(_has(key)) if negated else _has(key)
    raise bad_request(f"unable to parse requirement: {term!r} in {query!r}")


def _comparison(key: str, operator: str, value: str) -> _Test:
    if operator in ("=", "=="):
        return _in(key, (value,))
    if operator == "!=":
        return _not(_in(key, (value,)))
    try:
        bound = int(value)
    except ValueError:
        raise bad_request(f"for 'Gt', 'Lt' operators, the value must be an integer, not {value!r}") from None
    return _beyond(key, bound, 1 if operator == ">" else -1)


def _has(key: str) -> _Test:
    return lambda labels: key in labels


def _in(key: str, values: tuple[str, ...]) -> _Test:
    return lambda labels: key in labels and labels[key] in values


def _not(test: _Test) -> _Test:
    return lambda labels: not test(labels)


def _beyond(key: str, bound: int, sign: int) -> _Test:
    def test(labels: Labels) -> bool:
        value = labels.get(key, "")
        return value.lstrip("-").isdigit() and sign * int(value) > sign * bound

    return test


def _split_fields(query: str) -> list[str]:
    return [term for term in re.split(r"(?<!\\),", query) if term]


def _field_test(term: str, kind: Kind) -> _FieldTest:
    match = _FIELD.fullmatch(term)
    if match is None:
        raise bad_request(f"invalid selector: {term!r}; can't understand {term!r}")
    path, operator, value = match.groups()
    known = ("metadata.name", "metadata.namespace")
    if kind.selectable is not None and path not in (*known, *kind.selectable):
        raise bad_request(f"field label not supported: {path}")
    wanted = re.sub(r"\\(.)", r"\1", value)
    return _field_is(path.split("."), wanted, equal=operator != "!=")


def _field_is(names: list[str], wanted: str, *, equal: bool) -> _FieldTest:
    return lambda obj: (_text(_at(obj, names)) == wanted) is equal


def _at(obj: object, names: list[str]) -> object:
    for name in names:
        obj = obj.get(name) if isinstance(obj, dict) else None
    return obj


def _text(value: object) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)
