"""Hypothesis strategies made from structural schemas: objects that the API server takes, if their kind has no rules.

What rules narrow is told by path, ``inference.adapters[].source.name`` or ``resource.labelSelector.matchLabels{}``: a
strategy to use there instead, or an `Objects` for how the fields of an object go together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from hypothesis import strategies as st

Json = Any
Strategy = st.SearchStrategy[Json]

MANY = 3
"""How many items a list or a map has at most."""

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=6) | st.sampled_from(
    ["", " ", "null", "true", "1", "1.0", "\u00e4\u0301", "\U0001f600", "\u2028", "\x00", '"\\/', "a: b", "<&>"]
)
"""Any text that JSON can hold in whole characters."""
NUMBERS = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False).filter(
    lambda number: not 2**53 <= abs(number) < 1e21
)
"""What the API server keeps to the digit: whole numbers of 64 bits, and floats but for big ones without an exponent.

It writes 2.0**60 as 1152921504606847000, which is a whole number to whoever reads it, and another one.
"""
OPEN = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=MANY) | st.dictionaries(TEXT, inner, max_size=MANY),
    max_leaves=4,
)
"""Any JSON."""
OPEN_OBJECTS = st.dictionaries(TEXT, OPEN, max_size=MANY)
TIMES = st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31)).map(
    lambda moment: f"{moment.replace(microsecond=0, tzinfo=UTC).isoformat().removesuffix('+00:00')}Z"
)
"""Moments as Kubernetes writes them: whole seconds, UTC."""
QUANTITIES = st.sampled_from(["0", "100m", "1.5", "1Gi", "-1k", "2e3", "+.5", "9223372036854775807", 4, 0, -1, 2**62])

_INTEGERS = {"int32": (-(2**31), 2**31 - 1), "int64": (-(2**63), 2**63 - 1)}


@dataclass(frozen=True)
class Objects:
    """How the fields of an object go together.

    Attributes:
        one_of: exactly one of these fields is there; one that is named more than once, so much more often.
        always: fields that are there beyond what the schema requires.
        never: fields that are left out.
        tidied: takes out of an object, which is its own, what does not go with the rest.
    """

    one_of: tuple[str, ...] = ()
    always: tuple[str, ...] = ()
    never: tuple[str, ...] = ()
    tidied: Callable[[dict[str, Json]], dict[str, Json]] = field(default=lambda given: given)


Narrowed = Mapping[str, Strategy | Objects]


def objects(schema: Mapping[str, Json], narrowed: Narrowed | None = None) -> Strategy:
    """Returns a strategy for what a structural schema allows; two of three objects have all fields.

    Args:
        schema: as `kaito.kube.crd.resource_schema` makes it.
        narrowed: what rules allow, by path.
    """
    some, all_fields = (_Walk(narrowed or {}, is_whole=is_whole).of(schema, "") for is_whole in (False, True))
    return st.one_of(some, all_fields, all_fields)


@dataclass(frozen=True)
class _Walk:
    """One way through a schema.

    Attributes:
        narrowed: what rules allow, by path.
        is_whole: each object has all its fields, and no list or map is empty.
    """

    narrowed: Narrowed
    is_whole: bool

    def of(self, schema: Mapping[str, Json], path: str) -> Strategy:
        """Returns the strategy of a value."""
        given = self.narrowed.get(path)
        if given is not None and not isinstance(given, Objects):
            return given
        if "enum" in schema:
            return st.sampled_from(schema["enum"])
        if schema.get("x-kubernetes-int-or-string"):
            return QUANTITIES if "pattern" in schema else st.integers(-(2**31), 2**31 - 1) | TEXT
        if "properties" in schema:
            return self._object(schema, path, given or Objects())
        made: dict[str, Callable[[], Strategy]] = {
            "array": lambda: self._list(schema, path),
            "object": lambda: self._map(schema, path),
            "string": lambda: _text(schema),
            "integer": lambda: _integer(schema),
            "number": lambda: NUMBERS,
            "boolean": st.booleans,
        }
        return made[schema["type"]]() if "type" in schema else OPEN

    def _object(self, schema: Mapping[str, Json], path: str, given: Objects) -> Strategy:
        fields = {
            name: self.of(below, f"{path}.{name}" if path else name)
            for name, below in schema["properties"].items()
            if name not in given.never
        }
        required = {*schema.get("required", ()), *given.always}
        if not given.one_of:
            return self._with(fields, required).map(given.tidied)
        others = {name: strategy for name, strategy in fields.items() if name not in given.one_of}
        choices = [self._with(others | {name: fields[name]}, {*required, name}) for name in given.one_of]
        return st.one_of(choices).map(given.tidied)

    def _with(self, fields: Mapping[str, Strategy], required: set[str]) -> Strategy:
        always = {name: strategy for name, strategy in fields.items() if self.is_whole or name in required}
        optional = {name: strategy for name, strategy in fields.items() if name not in always}
        return st.fixed_dictionaries(always, optional=optional)

    def _list(self, schema: Mapping[str, Json], path: str) -> Strategy:
        most = min(schema.get("maxItems", MANY), MANY)
        least = max(schema.get("minItems", 0), int(self.is_whole))
        keys = schema.get("x-kubernetes-list-map-keys", ())
        unique_by = (lambda item: tuple(item[key] for key in keys)) if keys else None
        return st.lists(self.of(schema["items"], f"{path}[]"), min_size=least, max_size=most, unique_by=unique_by)

    def _map(self, schema: Mapping[str, Json], path: str) -> Strategy:
        if "additionalProperties" not in schema:
            return OPEN_OBJECTS
        keys = self.narrowed.get(f"{path}{{key}}", TEXT)
        assert not isinstance(keys, Objects)
        values = self.of(schema["additionalProperties"], f"{path}{{}}")
        return st.dictionaries(keys, values, min_size=int(self.is_whole), max_size=MANY)


def _text(schema: Mapping[str, Json]) -> Strategy:
    if schema.get("format") == "date-time":
        return TIMES
    least, most = schema.get("minLength", 0), schema.get("maxLength", 2**31)
    texts: Strategy = TEXT
    if "pattern" in schema:
        texts = st.from_regex(schema["pattern"].replace("$", r"\Z"), alphabet=st.characters(codec="ascii"))
    return texts.filter(lambda text: least <= len(text) <= most)


def _integer(schema: Mapping[str, Json]) -> Strategy:
    least, most = _INTEGERS[schema.get("format", "int64")]
    least, most = schema.get("minimum", least), schema.get("maximum", most)
    return st.integers(least, most) | st.sampled_from([least, most])


def fields_of(schema: Mapping[str, Json], path: str = "") -> set[str]:
    """Returns the paths of all fields, items and values that a schema knows."""
    below = {f"{path}.{name}" if path else name: each for name, each in schema.get("properties", {}).items()}
    if "items" in schema:
        below[f"{path}[]"] = schema["items"]
    if isinstance(schema.get("additionalProperties"), Mapping):
        below[f"{path}{{}}"] = schema["additionalProperties"]
    return {*below}.union(*(fields_of(each, name) for name, each in below.items()))


def fields_in(value: Json, schema: Mapping[str, Json], path: str = "") -> set[str]:
    """Returns which of them an object has."""
    found: set[str] = set()
    if isinstance(value, Mapping):
        for name, item in value.items():
            known = schema.get("properties", {}).get(name)
            below = known or schema.get("additionalProperties")
            if isinstance(below, Mapping):
                place = (f"{path}.{name}" if path else name) if known else f"{path}{{}}"
                found |= {place} | fields_in(item, below, place)
    elif isinstance(value, list) and "items" in schema:
        for item in value:
            found |= {f"{path}[]"} | fields_in(item, schema["items"], f"{path}[]")
    return found
