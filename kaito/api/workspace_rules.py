"""CEL rules that Workspaces need in several places, most of them over what an update may not change."""

from dataclasses import replace

from kaito.kube.schema_markers import Rule

_RECREATE = "delete the Workspace and create it again"


def unchanged(what: str) -> Rule:
    """Returns a rule for a field whose value stays; for one that may also be absent see `same_text` and `kept`."""
    return Rule("self == oldSelf", f"{what} cannot be changed: {_RECREATE}")


def same_text(field: str) -> Rule:
    """Returns a rule for an object whose text field is neither changed, added nor dropped; empty counts as absent."""
    now, before = (f"(has({of}.{field}) ? {of}.{field} : '')" for of in ("self", "oldSelf"))
    return Rule(f"{now} == {before}", f"{field} cannot be changed: {_RECREATE}", field_path=f".{field}")


def kept(field: str) -> Rule:
    """Returns a rule for an object whose field is neither added nor dropped; its value is another rule's matter."""
    return Rule(f"has(self.{field}) == has(oldSelf.{field})", f"{field} can be neither added nor dropped: {_RECREATE}")


def exactly_one(*fields: str, message: str) -> Rule:
    """Returns a rule for an object that has just one of several fields."""
    count = " + ".join(f"(has(self.{field}) ? 1 : 0)" for field in fields)
    return Rule(f"{count} == 1", message)


def on_create(rule: Rule) -> Rule:
    """Returns the rule for new objects only: one that was stored before the rule was there can still be finalized."""
    return replace(rule, rule=f"oldSelf.hasValue() || ({rule.rule})", optional_old_self=True)
