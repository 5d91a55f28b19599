"""What the API server would refuse of a schema in words that say nothing to who wrote the model; refused here first."""

from collections.abc import Mapping
from typing import Any

from kaito.kube.schema_dialect import SchemaError
from kaito.kube.schema_markers import VALIDATIONS, Rule
from kaito.kube.validation_formats import pattern_check
from kaito.kube.validation_nodes import compiled, prepared
from kaito.kube.validation_report import Report
from kaito.kube.validation_values import check_value

_SCALARS = ("string", "integer", "number", "boolean")


def check_schema(node: Mapping[str, Any], where: str, uncorrelated: str = "") -> None:
    """Refuses what no API server takes.

    Args:
        node: a schema with its rules as `Rule`.
        where: the field, for messages.
        uncorrelated: the list above that keeps old and new items from being told to be the same; empty: there is none.

    Raises:
        SchemaError: the first thing that is wrong.
    """
    _check_default(node, where)
    _check_list(node, where)
    if "pattern" in node and pattern_check(node["pattern"]) is None:
        raise SchemaError(
            f"{where}: pattern {node['pattern']!r} is not one of RE2, which has neither lookaround nor backreferences"
        )
    for rule in node.get(VALIDATIONS, ()):
        _check_rule(rule, node, where, uncorrelated)
    for name, child in node.get("properties", {}).items():
        check_schema(child, f"{where}.{name}", uncorrelated)
    if isinstance(node.get("additionalProperties"), Mapping):
        check_schema(node["additionalProperties"], f"{where}[KEY]", uncorrelated)
    if "items" in node:
        has_keys = node.get("x-kubernetes-list-type") == "map"
        check_schema(node["items"], f"{where}[]", uncorrelated if has_keys else uncorrelated or where)


def _check_default(node: Mapping[str, Any], where: str) -> None:
    if "default" not in node:
        return
    report, schema = Report(), compiled(node)
    check_value(report, (), prepared(node["default"], schema), schema, None)
    if report.faults:
        fault = report.faults[0]
        at = f" at {fault.field}" if fault.field else ""
        raise SchemaError(f"{where}: its default {node['default']!r} breaks its own schema{at}: {fault.message}")


def _check_list(node: Mapping[str, Any], where: str) -> None:
    kind, items = node.get("x-kubernetes-list-type"), node.get("items", {})
    if kind is not None and node.get("type") != "array":
        raise SchemaError(f"{where}: a list type ({kind}) on what is no list but {node.get('type', 'of any type')}")
    if kind == "set" and items.get("type") not in _SCALARS:
        raise SchemaError(f"{where}: ListSet is for scalars; give ListMap(key) for a list of objects")
    for key in node.get("x-kubernetes-list-map-keys", ()):
        field = items.get("properties", {}).get(key)
        if field is None:
            known = ", ".join(items.get("properties", {})) or "none"
            raise SchemaError(f"{where}: ListMap({key!r}): items have no such field; their fields are {known}")
        if field.get("type") not in _SCALARS:
            raise SchemaError(f"{where}: ListMap({key!r}): a key must be a scalar, not {field.get('type', 'open')}")
        if key not in items.get("required", ()) and "default" not in field:
            raise SchemaError(
                f"{where}: ListMap({key!r}): a key must be required or have a default; "
                f"give the field no default, a default that is not empty, or Required()"
            )


def _check_rule(rule: Rule, node: Mapping[str, Any], where: str, uncorrelated: str) -> None:
    if rule.uses_old_self and uncorrelated:
        raise SchemaError(
            f"{where}: the rule {rule.rule!r} asks for oldSelf below {uncorrelated}, a list whose old and new items "
            f"nothing tells to be the same; give that list ListMap(key), or put the rule on the list"
        )
    if not rule.message and "\n" in rule.rule:
        raise SchemaError(f"{where}: a rule of several lines needs a message")
    if "\n" in rule.message:
        raise SchemaError(f"{where}: the message of a rule is one line, not {rule.message!r}")
    place: Any = node
    for part in rule.field_path.lstrip(".").split(".") if rule.field_path and "[" not in rule.field_path else ():
        place = place.get("properties", {}).get(part) if isinstance(place, Mapping) else None
        if place is None:
            raise SchemaError(
                f"{where}: field_path {rule.field_path!r} of the rule {rule.rule!r} names no field below it"
            )
