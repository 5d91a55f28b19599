"""Reviews of odd shapes, and answers that none can hold: whatever comes, there is an answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kaito.runtime.webhook import AdmissionRequest, Denied, Webhook
from tests.unit.runtime.webhook.reviews import Gadget, gadget, review, verdict
from tests.unit.runtime.webhook.test_endpoint import endpoint, small


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (review(obj=gadget(), userInfo=None), "userInfo"),
        (review(obj=gadget(), userInfo={"extra": {"a": None}}), "userInfo: extra.a"),
        (review(obj=gadget()).replace(b'"spec": {}', b'"spec": ' + b'{"a":' * 9000 + b"1" + b"}" * 9000), "recursion"),
    ],
)
async def test_a_review_that_cannot_be_read_to_the_end_is_a_bad_request(body: bytes, why: str) -> None:
    answer = await endpoint(Webhook(Gadget, validate=small)).answer(body)

    assert answer.code == 400
    assert why in answer.body.decode()


def warns_of_a_number(_obj: Gadget, _request: AdmissionRequest) -> Any:
    return [1]


def warns_of_half_a_character(_obj: Gadget, request: AdmissionRequest) -> None:
    request.warn("\ud800")


def denies_in_half_a_character(_obj: Gadget, _request: AdmissionRequest) -> None:
    raise Denied(message="\ud800")


def has_no_annotations(_obj: Gadget, request: AdmissionRequest) -> None:
    request.audit_annotations = None  # type: ignore[assignment]


@pytest.mark.parametrize(
    "code", [warns_of_a_number, warns_of_half_a_character, denies_in_half_a_character, has_no_annotations]
)
async def test_what_no_answer_can_hold_is_a_failure_of_the_code_that_is_counted_and_logged(
    code: Callable[[Gadget, AdmissionRequest], Any], caplog: pytest.LogCaptureFixture
) -> None:
    it = endpoint(Webhook(Gadget, validate=code))

    answer = await it.answer(review(obj=gadget()))

    assert answer.code == 500
    assert "webhook /validate-example-com-v1-gadget: its code said what no answer can hold" in answer.body.decode()
    assert it.metrics.panics.value == 1
    assert caplog.records[-1].exc_info is not None


async def test_audit_annotations_are_text_for_the_api_server() -> None:
    def count(_obj: Gadget, request: AdmissionRequest) -> None:
        request.audit_annotations["rules"] = 3  # type: ignore[assignment]

    answer = verdict(await endpoint(Webhook(Gadget, validate=count)).answer(review(obj=gadget())))

    assert answer.response["auditAnnotations"] == {"rules": "3"}
