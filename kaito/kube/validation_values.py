"""A value against its schema: types, required fields, limits, patterns, formats, enums, as the API server checks them.

What an update leaves as it was is no fault (see `kaito.kube.validation_correlation`).
"""

from typing import Any, Final

from kaito.kube.validation_correlation import Pair
from kaito.kube.validation_formats import NUMBER_FORMATS
from kaito.kube.validation_nodes import Node
from kaito.kube.validation_report import UNTYPED, MapKey, Path, Report, json_type, number, shown

_INT64: Final = NUMBER_FORMATS["int64"]
_EXACT_FLOATS: Final = 2**53


def check_value(report: Report, path: Path, value: Any, node: Node, pair: Pair | None) -> None:
    """Reports what a schema finds wrong with a value and all below it.

    Args:
        report: takes the faults.
        path: where the value is.
        value: as `prepared` makes it.
        node: its schema.
        pair: the value with what it was before; None: that cannot be told, or it is new.
    """
    if report.is_full:
        return
    if pair is not None and pair.is_unchanged():
        # No fault; but rules may rely on types, so that they are not asked where these are wrong.
        quiet = Report(UNTYPED)
        check_value(quiet, path, value, node, None)
        report.unsound |= quiet.unsound
        return
    if not _has_type(value, node):
        _refuse_type(report, path, value, node)
        return
    if node.enum and not any(_is_same_choice(value, choice) for choice in node.enum):
        choices = ", ".join(shown(choice if isinstance(choice, str) else shown(choice)) for choice in node.enum)
        message = f"Unsupported value: {shown(value)}: supported values: {choices}"
        report.add(path, "FieldValueNotSupported", message)
    if isinstance(value, dict):
        _check_object(report, path, value, node, pair)
    elif isinstance(value, list):
        _check_list(report, path, value, node, pair)
    elif isinstance(value, str):
        _check_text(report, path, value, node)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        _check_number(report, path, value, node)


def _has_type(value: Any, node: Node) -> bool:
    if value is None:
        return node.nullable or not node.types
    given = _type_as_read(value)
    return (
        not node.types
        or given in node.types
        or (given == "integer" and "number" in node.types)
        or (given == "number" and "integer" in node.types and _is_whole(value))
    )


def _type_as_read(value: Any) -> str:
    """Returns the type that the API server takes a value for: whole numbers that are too long are floats to it."""
    given = json_type(value)
    return "number" if given == "integer" and not _INT64[0] <= value <= _INT64[1] else given


def _is_whole(value: float) -> bool:
    return -_EXACT_FLOATS <= value < _EXACT_FLOATS and value == int(value)


def _refuse_type(report: Report, path: Path, value: Any, node: Node) -> None:
    given = json_type(value)
    seen = shown(value) if given in ("boolean", "integer", "number", "string") else f'"{given}"'
    wanted = node.format if node.types == ("string",) and node.format else ",".join(node.types)
    report.add(path, "FieldValueTypeInvalid", f'Invalid value: {seen}: must be of type {wanted}: "{given}"')


def _is_same_choice(value: Any, choice: Any) -> bool:
    return bool(value == choice) and isinstance(value, bool) == isinstance(choice, bool)


def _check_object(report: Report, path: Path, value: dict[str, Any], node: Node, pair: Pair | None) -> None:
    least, most = node.bounds.get("minProperties"), node.bounds.get("maxProperties")
    if least is not None and len(value) < least:
        _refuse(report, path, len(value), f"should have at least {least} properties")
    if most is not None and len(value) > most:
        _refuse_many(report, path, len(value), most)
    for name in node.required:
        if name not in value:
            report.add((*path, name), "FieldValueRequired", "Required value", at=path)
    for name, item in value.items():
        child = node.child(name)
        if child is not None:
            part = name if name in node.properties else MapKey(name)
            check_value(report, (*path, part), item, child, pair and pair.field(name))


def _check_list(report: Report, path: Path, value: list[Any], node: Node, pair: Pair | None) -> None:
    if node.items is not None:
        for index, item in enumerate(value):
            if report.is_full:
                return
            check_value(report, (*path, index), item, node.items, pair and pair.item(index))
    least, most = node.bounds.get("minItems"), node.bounds.get("maxItems")
    if least is not None and len(value) < least:
        _refuse(report, path, len(value), f"should have at least {least} items")
    if most is not None and len(value) > most:
        _refuse_many(report, path, len(value), most)


def _check_text(report: Report, path: Path, value: str, node: Node) -> None:
    """The API server names the first only of too long, too short and not matching."""
    bounds = node.bounds
    if len(value) > bounds.get("maxLength", len(value)):
        most = bounds["maxLength"]
        report.add(path, "FieldValueTooLong", f"Too long: may not be more than {most} byte{'' if most == 1 else 's'}")
    elif len(value) < bounds.get("minLength", 0):
        _refuse(report, path, value, f"should be at least {bounds['minLength']} chars long")
    elif node.matches is not None and not node.matches(value):
        _refuse(report, path, value, f"should match '{bounds['pattern']}'")
    if node.is_formatted is not None and not node.is_formatted(value):
        text = shown(value)
        report.add(path, "FieldValueTypeInvalid", f"Invalid value: {text}: must be of type {node.format}: {text}")


def _check_number(report: Report, path: Path, value: float, node: Node) -> None:
    lowest, highest = NUMBER_FORMATS.get(node.format, (value, value))
    if not lowest <= value <= highest:
        _refuse(report, path, value, f"must be of type {node.types[0]} with format {node.format}")
    bounds = node.bounds
    if "multipleOf" in bounds and not _is_multiple(value, bounds["multipleOf"]):
        _refuse(report, path, value, f"should be a multiple of {number(bounds['multipleOf'])}")
    if "minimum" in bounds:
        least, exclusive = bounds["minimum"], bounds.get("exclusiveMinimum", False)
        if value <= least if exclusive else value < least:
            _refuse(report, path, value, f"should be greater than {'' if exclusive else 'or equal to '}{number(least)}")
    if "maximum" in bounds:
        most, exclusive = bounds["maximum"], bounds.get("exclusiveMaximum", False)
        if value >= most if exclusive else value > most:
            _refuse(report, path, value, f"should be less than {'' if exclusive else 'or equal to '}{number(most)}")


def _is_multiple(value: float, factor: float) -> bool:
    """Whether the quotient is a whole number, by go-openapi's arithmetic."""
    if isinstance(value, int) and isinstance(factor, int):
        return value % factor == 0
    try:
        quotient = 1 / factor * value if factor < 1 else value / factor
        return abs(quotient) <= _EXACT_FLOATS and abs(quotient - round(quotient)) <= 1e-9 * abs(quotient)
    except (OverflowError, ValueError, ZeroDivisionError):
        return False


def _refuse(report: Report, path: Path, value: Any, why: str) -> None:
    report.add(path, "FieldValueInvalid", f"Invalid value: {shown(value)}: {why}")


def _refuse_many(report: Report, path: Path, given: int, most: int) -> None:
    items = "item" if most == 1 else "items"
    report.add(path, "FieldValueTooMany", f"Too many: {given}: must have at most {most} {items}")
