"""Rules that Workspaces need in several places: which fields go together, and what an update may not change.

Each is CEL for the API server and the same in Python; there an object is a dict, and a field that is absent is no key.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from kaito.kube.schema_markers import Rule

_RECREATE = "delete the Workspace and create it again"


def unchanged(what: str) -> Rule:
    """Returns a rule for a field whose value stays; for one that may also be absent see `same_text` and `kept`."""
    return Rule(
        "self == oldSelf",
        f"{what} cannot be changed: {_RECREATE}",
        reason="FieldValueForbidden",
        holds=lambda value, old: old is None or value == old,
    )


def same_text(field: str, *, letters_count: bool = True, may_be_cleared: bool = False) -> Rule:
    """Returns a rule for an object whose text field is neither changed, added nor dropped; empty counts as absent.

    Args:
        field: its name on the wire.
        letters_count: False: another case of letters is no change.
        may_be_cleared: it may be dropped.
    """
    lower = "" if letters_count else ".lowerAscii()"
    now, before = (f"(has({of}.{field}) ? {of}.{field}{lower} : '')" for of in ("self", "oldSelf"))

    def text(value: dict[str, Any]) -> str:
        given: str = value.get(field, "")
        return given if letters_count else lower_ascii(given)

    def holds(value: Any, old: Any) -> bool:
        return old is None or text(value) == text(old) or (may_be_cleared and not text(value))

    return Rule(
        f"{now} == {before}" + (f" || {now} == ''" if may_be_cleared else ""),
        f"{field} cannot be changed: {_RECREATE}",
        f"""'"' + {before} + '" cannot become "' + {now} + '": {field} cannot be changed: {_RECREATE}'""",
        field_path=f".{field}",
        reason="FieldValueForbidden",
        holds=holds,
    )


def kept(field: str) -> Rule:
    """Returns a rule for an object whose field is neither added nor dropped; its value is another rule's matter."""
    return Rule(
        f"has(self.{field}) == has(oldSelf.{field})",
        f"{field} can be neither added nor dropped: {_RECREATE}",
        field_path=f".{field}",
        reason="FieldValueForbidden",
        holds=lambda value, old: old is None or (field in value) == (field in old),
    )


def needed(condition: str, field: str, message: str, *, holds: Callable[[dict[str, Any]], bool]) -> Rule:
    """Returns a rule that blames a field of an object for being absent."""
    return Rule(
        condition, message, field_path=f".{field}", reason="FieldValueRequired", holds=lambda value, _old: holds(value)
    )


def unwanted(condition: str, field: str, message: str, *, holds: Callable[[dict[str, Any]], bool]) -> Rule:
    """Returns a rule that blames a field of an object for being there, or for going too far."""
    return Rule(
        condition, message, field_path=f".{field}", reason="FieldValueForbidden", holds=lambda value, _old: holds(value)
    )


def one_at_least(*fields: str, message: str, blamed: str = "") -> Rule:
    """Returns a rule for an object that has one of several fields; `blamed` is the one to name when none is there."""
    return Rule(
        " || ".join(f"has(self.{field})" for field in fields),
        message,
        field_path=f".{blamed}" if blamed else "",
        reason="FieldValueRequired",
        holds=lambda value, _old: any(field in value for field in fields),
    )


def one_at_most(*fields: str, message: str, blamed: str = "") -> Rule:
    """Returns a rule for an object that has none or one of several fields; the refusal lists those that are there."""
    count = " + ".join(f"(has(self.{field}) ? 1 : 0)" for field in fields)
    # Not a list to filter and join, whose cost the API server takes for unbounded.
    given = " + ".join(f"(has(self.{field}) ? ' {field}' : '')" for field in fields)
    return Rule(
        f"{count} <= 1",
        message,
        f"'{message}; given:' + {given}",
        field_path=f".{blamed}" if blamed else "",
        reason="FieldValueForbidden",
        holds=lambda value, _old: sum(field in value for field in fields) <= 1,
    )


def on_create(rule: Rule) -> Rule:
    """Returns the rule for new objects only: one that was stored before the rule was there can still be finalized."""
    inner = rule.holds
    return replace(
        rule,
        rule=f"oldSelf.hasValue() || ({rule.rule})",
        optional_old_self=True,
        holds=None if inner is None else lambda value, old: old is not None or inner(value, None),
    )


def lower_ascii(text: str) -> str:
    """Returns CEL's ``lowerAscii``: only the letters A to Z change."""
    return "".join(letter.lower() if letter.isascii() else letter for letter in text)
