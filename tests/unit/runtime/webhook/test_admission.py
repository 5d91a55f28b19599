"""Validators and defaulters that are functions, and what an older schema left behind."""

from __future__ import annotations

import pytest

from kaito.runtime.webhook import AdmissionRequest, Denied, Validator, Webhook, forbidden
from tests.unit.runtime.webhook.reviews import Gadget, gadget, review
from tests.unit.runtime.webhook.test_endpoint import asked


async def unchanging(obj: Gadget, request: AdmissionRequest) -> None:
    request.warn(f"{request.operation} is looked at")
    if request.operation == "UPDATE" and request.old(Gadget).spec.size != obj.spec.size:
        raise Denied(forbidden("spec.size", "it cannot be changed"))


def inherited(draft: Gadget, request: AdmissionRequest) -> None:
    draft.spec.color = request.old(Gadget).spec.color if request.operation == "UPDATE" else "blue"


async def test_a_function_is_asked_anew_as_of_a_create_when_the_old_object_cannot_be_read() -> None:
    webhook = Webhook(Gadget, validate=unchanging, default=inherited)
    unreadable = gadget(size="old schema")

    mended = await asked(webhook, review("UPDATE", gadget(size=2), unreadable))
    filled = await asked(webhook, review("UPDATE", gadget(size=2), unreadable), "mutate")
    changed = await asked(webhook, review("UPDATE", gadget(size=2), gadget(size=1)))
    spoilt = await asked(webhook, review("UPDATE", unreadable, unreadable))

    assert mended.allowed
    assert mended.response["warnings"] == ["CREATE is looked at"]
    assert filled.patched(gadget(size=2))["spec"] == {"size": 2, "color": "blue"}
    assert not changed.allowed
    assert not spoilt.allowed


async def test_code_that_reads_the_old_object_of_a_create_too_is_asked_once_more_and_not_for_ever() -> None:
    asked_about: list[str] = []

    def careless(_obj: Gadget, request: AdmissionRequest) -> None:
        asked_about.append(request.operation)
        request.old(Gadget)

    answer = await asked(Webhook(Gadget, validate=careless), review("UPDATE", gadget(), gadget(size="old schema")))

    assert asked_about == ["UPDATE", "CREATE"]
    assert answer.status["details"]["causes"][0]["field"] == "spec.size"


def test_a_class_in_place_of_an_instance_is_refused_where_it_is_declared() -> None:
    class Strict(Validator[Gadget]):
        pass

    with pytest.raises(ValueError, match="validate= is the class Strict; give an instance of it"):
        Webhook(Gadget, validate=Strict)  # type: ignore[arg-type]
