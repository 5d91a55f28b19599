"""What is said beside a schema: items that lists of kind set and map may hold once, and the rules that Python knows."""

import logging
import re
from typing import Any

from kaito.kube.schema_markers import Rule
from kaito.kube.validation_correlation import Pair, scalar_key
from kaito.kube.validation_nodes import Node
from kaito.kube.validation_report import MapKey, Path, Report, json_type, shown

log = logging.getLogger(__name__)

_REASONS = {
    "FieldValueForbidden": "Forbidden",
    "FieldValueRequired": "Required value",
    "FieldValueDuplicate": "Duplicate value",
    "FieldValueInvalid": "Invalid value",
}
_SCALARS = (str, int, float)
_QUOTED = re.compile(r"\['((?:\\.|[^'\\])*)'\]")

_told: set[int] = set()


def check_lists(report: Report, path: Path, value: Any, node: Node) -> None:
    """Reports items that are in a list twice, where its kind of list has each once."""
    if isinstance(value, dict):
        for name, item in value.items():
            child = node.child(name)
            if child is not None and not report.is_full:
                check_lists(report, (*path, _part(node, name)), item, child)
    elif isinstance(value, list):
        if node.list_type != "atomic":
            _check_unique(report, path, value, node)
        if node.items is not None:
            for index, item in enumerate(value):
                if report.is_full:
                    return
                check_lists(report, (*path, index), item, node.items)


def _part(node: Node, name: str) -> str:
    return name if name in node.properties else MapKey(name)


def _check_unique(report: Report, path: Path, value: list[Any], node: Node) -> None:
    """Each value that is there several times is told once, at its second place."""
    is_map = node.list_type == "map"
    for index, item in enumerate(value):
        if is_map and item is not None and not isinstance(item, dict):
            message = f"Invalid value: {shown(item)}: must be an object for an array of list-type map"
            report.add((*path, index), "FieldValueInvalid", message, keys_in_brackets=True)
            return
    times: dict[tuple[str, Any], int] = {}
    for index, item in enumerate(value):
        keys = {name: item[name] for name in node.map_keys if name in item} if is_map and item else item
        keys = {} if is_map and not item else keys
        times[scalar_key(keys)] = count = times.get(scalar_key(keys), 0) + 1
        if count == 2:
            message = f"Duplicate value: {shown(keys)}"
            report.add((*path, index), "FieldValueDuplicate", message, keys_in_brackets=True)


def check_rules(report: Report, path: Path, value: Any, node: Node, old: Pair | None, anchor: Pair | None) -> None:
    """Reports the rules that do not hold, of a value and of all below it.

    Args:
        report: takes the faults; its unsound places are not asked about.
        path: where the value is.
        value: as `prepared` makes it.
        node: its schema.
        old: the value with what it was before; None: it has no such.
        anchor: the nearest place above, or this one, that has: what is unchanged there breaks no rule that looks at
            the present only.
    """
    if not node.has_rules or value is None or report.is_full:
        return
    if path not in report.unsound:
        for rule in node.rules:
            if not _holds(rule, value, old):
                _refuse(report, path, value, node, rule, old, anchor)
    if _has_too_many(value, node):  # of which the API server asks no rule, and there may be thousands
        return
    if isinstance(value, dict):
        for name, item in value.items():
            child = node.child(name)
            if child is not None:
                pair = old and old.field(name)
                check_rules(report, (*path, _part(node, name)), item, child, pair, pair or anchor)
    elif isinstance(value, list) and node.items is not None:
        for index, item in enumerate(value):
            pair = old and old.item(index)
            check_rules(report, (*path, index), item, node.items, pair, pair or anchor)


def _has_too_many(value: Any, node: Node) -> bool:
    most = node.bounds.get("maxItems" if isinstance(value, list) else "maxProperties")
    return most is not None and isinstance(value, (list, dict)) and len(value) > most


def _holds(rule: Rule, value: Any, pair: Pair | None) -> bool:
    """Whether a rule holds, as far as Python can tell."""
    old = None if pair is None else pair.old
    if rule.holds is None or (old is None and rule.uses_old_self and not rule.optional_old_self):
        return True
    try:
        return bool(rule.holds(value, old))
    except Exception as error:
        if id(rule) not in _told:
            _told.add(id(rule))
            log.warning(
                "a rule's `holds` raised; only the API server can tell whether the rule holds",
                extra={"rule": rule.rule, "error": repr(error), "value_type": json_type(value)},
            )
        return True


def _refuse(
    report: Report, path: Path, value: Any, node: Node, rule: Rule, old: Pair | None, anchor: Pair | None
) -> None:
    if anchor is not None and not rule.uses_old_self and anchor.is_unchanged():
        return
    reason = rule.reason or "FieldValueInvalid"
    repeats = reason in ("FieldValueInvalid", "FieldValueDuplicate") and node.types not in (("object",), ("array",))
    given = shown(value) if repeats else _given(rule, reason, value, old)
    parts = [_REASONS[reason], *([given] if given else [])]
    if reason != "FieldValueDuplicate":
        parts.append(rule.message.strip() or f"failed rule: {rule.rule.strip()}")
    blamed = (*path, *_below(rule.field_path)) if rule.field_path else path
    report.add(blamed, reason, ": ".join(parts), at=path, keys_in_brackets=True)


def _given(rule: Rule, reason: str, value: Any, pair: Pair | None) -> str:
    """Returns what was given, where the rule's own words would tell it in CEL: ``message`` stands for them here."""
    if not rule.message_expression or reason == "FieldValueRequired":
        return ""
    now = _at(value, rule.field_path)
    if rule.uses_old_self and not rule.optional_old_self and pair is not None:
        before = _at(pair.old, rule.field_path)
        texts = [text for text in (before, now) if isinstance(text, str)]
        return f"{shown(before or '')} cannot become {shown(now or '')}" if texts else ""
    return shown(now) if isinstance(now, _SCALARS) or (reason == "FieldValueInvalid" and now is value) else ""


def _at(value: Any, field_path: str) -> Any:
    """Returns what is at a rule's field path; None: nothing."""
    for part in _below(field_path) if field_path else ():
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _below(field_path: str) -> tuple[str, ...]:
    """Reads a rule's field path, ``.source.name`` or ``['with.dots']``, as a path."""
    plain = _QUOTED.sub(lambda match: "." + match[1].replace(".", "\0"), field_path)
    return tuple(part.replace("\0", ".") for part in plain.lstrip(".").split("."))
