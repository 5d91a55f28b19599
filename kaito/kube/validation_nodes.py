"""A structural schema made ready for checking values: patterns compiled, rules at hand, defaults apart.

Built once per kind. A structural schema does not contain itself, so whoever walks a value along its nodes goes no
deeper than the schema does, however deep the value is.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Final

from kaito.kube.schema_markers import VALIDATIONS, Rule
from kaito.kube.validation_formats import Check, format_check, pattern_check

MISSING: Final[Any] = object()
"""No value at all, where None is one."""

_BOUNDS = (
    "maxLength",
    "minLength",
    "pattern",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
    "multipleOf",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
)


@dataclass(slots=True)
class Node:
    """What may stand in one place.

    Attributes:
        types: the types allowed; empty: any.
        bounds: those keywords that hold one value, by their name in the schema.
        is_open: whether unknown fields are kept.
        default: what an absent value becomes; `MISSING`: nothing.
        matches: whether a text matches the pattern; None: there is none, or Python cannot tell.
        format: its name, if the API server knows it.
        is_formatted: whether a text has the format; None: there is none, or Python cannot tell.
    """

    types: tuple[str, ...]
    nullable: bool
    bounds: Mapping[str, Any]
    enum: tuple[Any, ...]
    required: tuple[str, ...]
    properties: dict[str, Node]
    additional: Node | None
    items: Node | None
    is_open: bool
    list_type: str
    map_keys: tuple[str, ...]
    rules: tuple[Rule, ...]
    default: Any
    matches: Check | None = None
    format: str = ""
    is_formatted: Check | None = None
    has_rules: bool = field(init=False)

    def __post_init__(self) -> None:
        below = [*self.properties.values(), self.additional, self.items]
        self.has_rules = bool(self.rules) or any(node.has_rules for node in below if node is not None)

    def child(self, name: str) -> Node | None:
        """Returns what may stand in a field; None: the schema does not know it."""
        return self.properties.get(name, self.additional)


def compiled(schema: Mapping[str, Any]) -> Node:
    """Returns the node of a schema, as `kaito.kube.schema.schema_with_rules` makes it."""
    additional = schema.get("additionalProperties")
    items = schema.get("items")
    types = ("integer", "string") if schema.get("x-kubernetes-int-or-string") else _types(schema)
    name, is_formatted = format_check(types, schema.get("format", ""))
    return Node(
        types=types,
        nullable=schema.get("nullable", False),
        bounds={name: schema[name] for name in _BOUNDS if name in schema},
        enum=tuple(schema.get("enum", ())),
        required=tuple(schema.get("required", ())),
        properties={name: compiled(value) for name, value in schema.get("properties", {}).items()},
        additional=compiled(additional) if isinstance(additional, Mapping) else None,
        items=compiled(items) if isinstance(items, Mapping) else None,
        is_open=additional is True or schema.get("x-kubernetes-preserve-unknown-fields", False),
        list_type=schema.get("x-kubernetes-list-type", "atomic"),
        map_keys=tuple(schema.get("x-kubernetes-list-map-keys", ())),
        rules=tuple(schema.get(VALIDATIONS, ())),
        default=schema.get("default", MISSING),
        matches=pattern_check(schema["pattern"]) if "pattern" in schema else None,
        format=name,
        is_formatted=is_formatted,
    )


def _types(schema: Mapping[str, Any]) -> tuple[str, ...]:
    return (schema["type"],) if "type" in schema else ()


def prepared(value: Any, node: Node) -> Any:
    """Returns a copy as the API server has it before it validates: without unknown fields, with the defaults.

    A null where none may be counts as absent. Parts that the schema leaves open are the value's own, not copies.
    """
    if isinstance(value, Mapping):
        return _prepared_object(value, node)
    if isinstance(value, (list, tuple)):
        return [prepared(item, node.items) for item in _items(value, node)] if node.items else list(value)
    return value


def _prepared_object(value: Mapping[str, Any], node: Node) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for name, item in value.items():
        child = node.child(name)
        if child is None:
            if node.is_open:
                made[name] = item
        elif item is not None or child.nullable:
            made[name] = prepared(item, child)
        elif child.default is not MISSING:
            made[name] = prepared(deepcopy(child.default), child)
    for name, child in node.properties.items():
        if name not in made and child.default is not MISSING:
            made[name] = prepared(deepcopy(child.default), child)
    return made


def _items(value: list[Any] | tuple[Any, ...], node: Node) -> list[Any]:
    items = node.items
    if items is None or items.nullable or items.default is MISSING:
        return list(value)
    return [deepcopy(items.default) if item is None else item for item in value]
