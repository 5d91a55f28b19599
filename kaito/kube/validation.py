"""What the API server would say of a custom resource, told here: its schema, and those of its rules that Python knows.

`faults` goes the way of a Kubernetes 1.36: fields that the schema does not know are dropped, nulls where none may be
count as absent, defaults are filled in; then come types, required fields, limits, patterns, formats and enums, then
lists that hold an item twice, then the rules with a ``holds``. The status of a kind with a status subresource is taken
from the old object (none, for a new one), since only a write of the status itself can change it.

**Updates.** A value that is as it was breaks no schema and no rule that looks at the present only, nor does anything
below it (CRD validation ratcheting). A list that held an item twice may go on doing so. A rule over ``oldSelf`` is
asked where the value has a place in the old object: fields, keys of maps, and items of list-maps with the same key, but
not items of other lists.

**More than the API server.** That one asks no rule at all of an object with a wrong type, an unknown choice, or
something missing or too long; here only the rules at or above such a place are left out, so that one answer names as
many faults as can be told. The same goes for a wrong type that an update leaves as it was, where CEL breaks off: a
``holds`` can rely on the schema of its value.

**Less than the API server.** What it knows of metadata, of the scale subresource and of CEL's cost is not told here; a
rule without ``holds``, or with one that raises, is taken to hold. ``message_expression`` is not evaluated: its rule
shows the given value, and ``message``.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any

from kaito.kube.crd import options, resource_schema
from kaito.kube.resource import Resource
from kaito.kube.validation_correlation import Pair
from kaito.kube.validation_nodes import Node, compiled, prepared
from kaito.kube.validation_report import MAX_FAULTS, Fault, Report
from kaito.kube.validation_rules import check_lists, check_rules
from kaito.kube.validation_values import check_value

__all__ = ["MAX_FAULTS", "Fault", "faults"]


def faults(kind: type[Resource], obj: Mapping[str, Any], old: Mapping[str, Any] | None = None) -> tuple[Fault, ...]:
    """Returns all that the schema of a kind finds wrong with an object. No object, however odd, makes it raise.

    Of many faults `MAX_FAULTS` are returned and one more, with an empty field, that says so.

    Args:
        kind: whose schema.
        obj: the object as JSON.
        old: what it is an update of; None: it is new.

    Raises:
        SchemaError: the kind has no schema: a field of it has a type that cannot be part of a CRD.
    """
    node = _node(kind)
    new, before = prepared(obj, node), None if old is None else prepared(old, node)
    if options(kind).status:
        _take_status(new, before)
    pair = None if before is None else Pair(new, before, node)
    report = Report()
    check_value(report, (), new, node, pair)
    if before is None or not _has_duplicates(before, node):
        check_lists(report, (), new, node)
    check_rules(report, (), new, node, pair, pair)
    return tuple(report.faults)


@cache
def _node(kind: type[Resource]) -> Node:
    node = compiled(resource_schema(kind))
    node.properties["metadata"].is_open = True  # the API server knows its fields itself
    return node


def _take_status(new: Any, before: Any) -> None:
    if isinstance(new, dict):
        new.pop("status", None)
        if isinstance(before, dict) and "status" in before:
            new["status"] = before["status"]


def _has_duplicates(value: Any, node: Node) -> bool:
    report = Report()
    check_lists(report, (), value, node)
    return bool(report.faults)
