"""Turns: what of a change of conditions is worth telling people, as events about the object."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from kaito.kube.conditions import ConditionLike, find
from kaito.kube.resource import Resource
from kaito.runtime.events import EventRecorder


class Step(NamedTuple):
    """A condition that is a step on the way.

    Attributes:
        action: what takes it, for the event.
        note: what to say when it is taken.
    """

    action: str
    note: str


def tell_turns(
    events: EventRecorder,
    obj: Resource,
    before: Iterable[ConditionLike],
    after: Iterable[ConditionLike],
    steps: Mapping[str, Step],
    *,
    final: bool,
) -> None:
    """Tells of the steps that were taken, and of those that were lost, between two states of an object's conditions.

    Args:
        events: tells.
        obj: whose conditions they are.
        before: as they were.
        after: as they are.
        steps: the conditions to look at, by type.
        final: whether False means that nothing will come of waiting, as in claims, and is told; otherwise it is told
            only of what was True before.
    """
    before, after = tuple(before), tuple(after)
    for name, step in steps.items():
        old, new = find(before, name), find(after, name)
        if new is None or (old is not None and (old.status, old.reason) == (new.status, new.reason)):
            continue
        was_taken = old is not None and old.status == "True"
        if new.status == "True" and not was_taken:
            events.event(obj, "Normal", name, step.action, step.note)
        elif new.status == "False" and (was_taken or final):
            events.event(obj, "Warning", as_reason(new.reason, name), step.action, new.message or f"{name} is False")


def as_reason(reason: str | None, otherwise: str) -> str:
    """A condition's reason as an event's, which begins with a capital."""
    return reason[:1].upper() + reason[1:] if reason else otherwise
