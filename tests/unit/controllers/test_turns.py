"""Turns: people are told what changed, once, and not what stays or is on its way."""

from __future__ import annotations

from typing import Any

import pytest

from kaito.client import Client
from kaito.controllers.turns import Step, as_reason, tell_turns
from kaito.kube.core_v1 import ConfigMap
from kaito.kube.meta_v1 import Condition, ObjectMeta
from kaito.runtime.event_book import EventBook
from kaito.runtime.events import EventRecorder
from kaito.testing.fake_api import FakeApi

OBJ = ConfigMap(metadata=ObjectMeta(name="a", namespace="default", uid="u"))
STEPS = {"Launched": Step("Launch", "it is there")}


def told(before: tuple[str, str] | None, after: tuple[str, str] | None, *, final: bool) -> list[tuple[str, str, str]]:
    """What is told when the condition turns from one (status, reason) to another."""
    book = EventBook()
    recorder = EventRecorder(Client(FakeApi().transport(), field_owner="tests"), "tests", book=book)
    tell_turns(recorder, OBJ, conditions(before), conditions(after), STEPS, final=final)
    return [(series.said.type, series.said.reason, series.said.note) for series in book.unwritten()]


def conditions(turn: tuple[str, str] | None) -> list[Condition]:
    if turn is None:
        return []
    fields: dict[str, Any] = {"type": "Launched", "status": turn[0], "reason": turn[1], "message": f"{turn[1]}!"}
    return [Condition.model_validate(fields)]


@pytest.mark.parametrize("final", [True, False])
@pytest.mark.parametrize("before", [None, ("Unknown", "Creating"), ("False", "Refused")])
def test_a_step_that_is_taken_is_told(before: tuple[str, str] | None, final: bool) -> None:
    assert told(before, ("True", "Launched"), final=final) == [("Normal", "Launched", "it is there")]


@pytest.mark.parametrize("final", [True, False])
@pytest.mark.parametrize("same", [None, ("True", "Launched"), ("False", "Refused"), ("Unknown", "Creating")])
def test_what_stays_is_not_told_again(same: tuple[str, str] | None, final: bool) -> None:
    assert told(same, same, final=final) == []


def test_a_step_that_is_lost_is_told_as_a_warning() -> None:
    assert told(("True", "Launched"), ("False", "nodeLost"), final=False) == [("Warning", "NodeLost", "nodeLost!")]


def test_a_step_that_is_only_waited_for_is_told_where_false_is_final() -> None:
    assert told(("Unknown", "Creating"), ("False", "Refused"), final=False) == []
    assert told(("Unknown", "Creating"), ("False", "Refused"), final=True) == [("Warning", "Refused", "Refused!")]
    assert told(("False", "Refused"), ("False", "Other"), final=True) == [("Warning", "Other", "Other!")]
    assert told(("Unknown", "Creating"), ("Unknown", "Other"), final=True) == []


def test_a_reason_begins_with_a_capital() -> None:
    assert (as_reason("quotaExceeded", "X"), as_reason("", "X"), as_reason(None, "X")) == ("QuotaExceeded", "X", "X")
