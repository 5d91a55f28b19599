"""Endpoints: reviews in, answers out; what users read, and what a webhook's own faults come to."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from kaito.client.errors import Cause
from kaito.kube.core_v1 import Secret
from kaito.runtime.webhook import AdmissionRequest, Denied, Validator, Webhook, forbidden, invalid, unsupported
from kaito.runtime.webhook.admission import Role
from kaito.runtime.webhook.endpoint import Endpoint
from kaito.runtime.webhook.metrics import WebhookMetrics
from kaito.testing import virtual_clock
from tests.unit.runtime.webhook.reviews import Gadget, Verdict, gadget, review, verdict


def endpoint(webhook: Webhook, role: Role = "validate") -> Endpoint:
    return Endpoint(webhook, role, WebhookMetrics(CollectorRegistry()))


async def asked(webhook: Webhook, body: bytes, role: Role = "validate") -> Verdict:
    return verdict(await endpoint(webhook, role).answer(body))


def small(obj: Gadget, _request: AdmissionRequest) -> None:
    if obj.spec.size > 10:
        raise Denied(invalid("spec.size", obj.spec.size, "at most 10"))


async def test_a_function_of_three_lines_denies_as_the_api_server_does() -> None:
    answer = await asked(Webhook(Gadget, validate=small), review(obj=gadget(size=11)))

    assert not answer.allowed
    assert answer.status == {
        "status": "Failure",
        "code": 422,
        "reason": "Invalid",
        "message": 'Gadget.example.com "a" is invalid: spec.size: Invalid value: 11: at most 10',
        "details": {
            "name": "a",
            "group": "example.com",
            "kind": "Gadget",
            "causes": [
                {"field": "spec.size", "reason": "FieldValueInvalid", "message": "Invalid value: 11: at most 10"}
            ],
        },
    }


@pytest.mark.parametrize("version", ["v1", "v1beta1"])
async def test_t80_the_uid_comes_back_in_the_version_that_was_asked_in(version: str) -> None:
    answer = await asked(Webhook(Gadget, validate=small), review(obj=gadget(size=1), version=version))

    assert answer.api_version == f"admission.k8s.io/{version}"
    assert answer.response == {"uid": "705ab4f5-6393-11e8-b7cc-42010a800002", "allowed": True}


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b" \n", "the body is empty"),
        (b"{", "no AdmissionReview"),
        (b'{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"}', "missing required field `request`"),
        (review().replace(b"k8s.io/v1", b"k8s.io/v7"), "expected an AdmissionReview of admission.k8s.io/v1"),
        (b"null", "no AdmissionReview"),
    ],
)
async def test_t80_what_is_no_review_is_a_bad_request_that_says_why(body: bytes, why: str) -> None:
    answer = await endpoint(Webhook(Gadget, validate=small)).answer(body)

    assert answer.code == 400
    assert why in answer.body.decode()


async def test_an_object_that_its_class_cannot_read_is_denied_with_the_fields() -> None:
    body = review(obj=gadget(size="many", ports=[{"number": 1}, {"name": "x"}]))

    answer = await asked(Webhook(Gadget, validate=small), body)

    assert answer.status["code"] == 422
    assert [(cause["field"], cause["reason"]) for cause in answer.status["details"]["causes"]] == [
        ("spec.size", "FieldValueInvalid"),
        ("spec.ports[1].number", "FieldValueRequired"),
    ]
    assert '"many"' in answer.status["message"]


async def test_a_secret_that_cannot_be_read_is_denied_without_showing_it() -> None:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}, "data": {"k": 12345}}
    kind = {"group": "", "version": "v1", "kind": "Secret"}

    answer = await asked(Webhook(Secret, validate=lambda _obj, _request: None), review(obj=secret, kind=kind))

    assert answer.status["details"]["causes"][0]["field"] == "data.k"
    assert "12345" not in json.dumps(answer.response)


@pytest.mark.parametrize(
    ("denied", "code", "reason", "message"),
    [
        (Denied(message="not on Sundays"), 403, "Forbidden", "not on Sundays"),
        (Denied(message="busy", reason="TooManyRequests"), 429, "TooManyRequests", "busy"),
        (Denied(message="teapot", code=418), 418, "Forbidden", "teapot"),
        (
            Denied(unsupported("spec.color", "red", ["blue", "green"]), forbidden("spec.size", "it is fixed")),
            422,
            "Invalid",
            'Gadget.example.com "a" is invalid: [spec.color: Unsupported value: "red": supported values: '
            '"blue", "green", spec.size: Forbidden: it is fixed]',
        ),
        (Denied(Cause("a", "B", "c"), message="as I say", reason="Conflict"), 409, "Conflict", "as I say"),
    ],
)
async def test_t82_code_reason_and_sentence_of_a_denial_reach_the_client(
    denied: Denied, code: int, reason: str, message: str
) -> None:
    def refuse(_obj: Gadget, _request: AdmissionRequest) -> None:
        raise denied

    answer = await asked(Webhook(Gadget, validate=refuse), review(obj=gadget()))

    assert (answer.status["code"], answer.status["reason"], answer.status["message"]) == (code, reason, message)


def test_a_denial_that_says_nothing_or_no_failure_is_refused() -> None:
    with pytest.raises(ValueError, match="says why"):
        Denied()
    with pytest.raises(ValueError, match="400 to 599"):
        Denied(message="x", code=200)


async def test_t82_warnings_and_audit_annotations_are_passed_on_cut_to_what_clients_show() -> None:
    def warn(_obj: Gadget, request: AdmissionRequest) -> list[str]:
        request.warn("two\nlines")
        request.audit_annotations["rule"] = "r1"
        return ["x" * 300]

    answer = await asked(Webhook(Gadget, validate=warn), review(obj=gadget()))

    assert answer.allowed
    assert answer.response["warnings"] == ["two lines", "x" * 255 + "…"]
    assert answer.response["auditAnnotations"] == {"rule": "r1"}


async def test_too_many_warnings_are_counted_instead_of_shown() -> None:
    answer = await asked(Webhook(Gadget, validate=lambda _obj, _request: ["y" * 256] * 100), review(obj=gadget()))

    warnings = answer.response["warnings"]
    assert sum(map(len, warnings)) <= 4096
    assert warnings[-1] == f"and {100 - len(warnings) + 1} more warnings"


class Recording(Validator[Gadget]):
    """A validator that writes down what it was asked; its methods are plain and async."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, int, int]] = []

    def validate_create(self, obj: Gadget, request: AdmissionRequest, /) -> None:
        self.seen.append(("create", 0, obj.spec.size))

    async def validate_update(self, old: Gadget, new: Gadget, request: AdmissionRequest, /) -> list[str]:
        await asyncio.sleep(0)
        self.seen.append(("update", old.spec.size, new.spec.size))
        return ["changed"]

    def validate_delete(self, old: Gadget, request: AdmissionRequest, /) -> None:
        raise Denied(message=f"{request.user.username} may not")


async def test_a_validator_is_asked_by_operation_with_old_and_new() -> None:
    recording = Recording()
    webhook = Webhook(Gadget, validate=recording)

    created = await asked(webhook, review("CREATE", gadget(size=1)))
    updated = await asked(webhook, review("UPDATE", gadget(size=2), gadget(size=1)))
    deleted = await asked(webhook, review("DELETE", None, gadget(size=2)))

    assert webhook.operations == ("CREATE", "UPDATE", "DELETE")
    assert recording.seen == [("create", 0, 1), ("update", 1, 2)]
    assert created.allowed
    assert updated.response["warnings"] == ["changed"]
    assert deleted.status["message"] == "jane may not"


async def test_an_old_object_that_cannot_be_read_neither_keeps_it_from_being_mended_nor_from_going() -> None:
    recording = Recording()
    webhook = Webhook(Gadget, validate=recording)

    mended = await asked(webhook, review("UPDATE", gadget(size=2), gadget(size="old schema")))
    deleted = await asked(webhook, review("DELETE", None, gadget(size="old schema")))

    assert mended.allowed
    assert recording.seen == [("create", 0, 2)]
    assert deleted.allowed
    assert "cannot be read" in deleted.response["warnings"][0]


def refuse(_obj: Gadget, _request: AdmissionRequest) -> None:
    raise Denied(message="never")


DELETING = {"deletionTimestamp": "2024-01-01T00:00:00Z", "finalizers": ["example.com/a"]}


@pytest.mark.parametrize(
    ("what", "options", "body", "allowed"),
    [
        ("declared", {}, review("UPDATE", gadget(), gadget()), False),
        ("undeclared", {}, review("DELETE", None, gadget()), True),
        ("connect", {}, review("CONNECT", {"kind": "PodExecOptions"}), True),
        ("deleting", {}, review("UPDATE", gadget(metadata=DELETING), gadget(metadata=DELETING)), True),
        ("deleting, asked", {"skip_deleting": False}, review("UPDATE", gadget(metadata=DELETING), gadget()), False),
        ("status", {}, review("UPDATE", gadget(), gadget(), subResource="status"), True),
        ("status, declared", {"subresources": ["status"]}, review("UPDATE", gadget(), subResource="status"), False),
        ("dry run", {}, review("CREATE", gadget(), dryRun=True), False),
        ("deletion, declared", {"operations": ["DELETE"]}, review("DELETE", None, gadget()), False),
    ],
)
async def test_what_was_not_declared_passes_without_being_judged(
    what: str, options: dict[str, Any], body: bytes, allowed: bool
) -> None:
    answer = await asked(Webhook(Gadget, validate=refuse, **options), body)

    assert answer.allowed == allowed, what


async def test_the_managers_own_service_account_passes_unless_asked_too() -> None:
    for skip_own, allowed in ((True, True), (False, False)):
        it = endpoint(Webhook(Gadget, validate=refuse, skip_own=skip_own))
        it.own_user = "system:serviceaccount:demo:manager"
        body = review(obj=gadget(), userInfo={"username": it.own_user})

        assert verdict(await it.answer(body)).allowed == allowed
        assert not verdict(await it.answer(review(obj=gadget()))).allowed


async def test_rules_that_send_another_kind_are_named_in_the_denial() -> None:
    kind = {"group": "", "version": "v1", "kind": "Pod"}

    answer = await asked(Webhook(Gadget, validate=small), review(obj={"kind": "Pod"}, kind=kind))

    assert answer.status["code"] == 400
    assert "is for Gadget of example.com/v1 and was asked about Pod" in answer.status["message"]


async def test_t81_a_defaulter_patches_only_what_it_assigned() -> None:
    def default(draft: Gadget, request: AdmissionRequest) -> None:
        draft.spec.size = draft.spec.size or 3
        draft.spec.color = request.user.username

    obj = gadget(zeta=[1], alpha={"b": 1.0})
    answer = await asked(Webhook(Gadget, default=default), review(obj=obj), "mutate")

    assert [(step["op"], step["path"]) for step in answer.operations] == [("add", "/spec/size"), ("add", "/spec/color")]
    assert answer.patched(obj)["spec"] == {"zeta": [1], "alpha": {"b": 1.0}, "size": 3, "color": "jane"}


async def test_t81_a_defaulter_that_changes_nothing_sends_no_patch() -> None:
    async def default(draft: Gadget, _request: AdmissionRequest) -> None:
        draft.spec.size = 3

    answer = await asked(Webhook(Gadget, default=default), review(obj=gadget(size=3)), "mutate")

    assert answer.response == {"uid": "705ab4f5-6393-11e8-b7cc-42010a800002", "allowed": True}


async def test_a_defaulter_is_not_asked_about_deletions() -> None:
    webhook = Webhook(Gadget, default=refuse, validate=refuse, operations=["CREATE", "DELETE"])

    assert (await asked(webhook, review("DELETE", None, gadget()), "mutate")).allowed
    assert not (await asked(webhook, review("DELETE", None, gadget()), "validate")).allowed


def broken(_obj: Gadget, _request: AdmissionRequest) -> None:
    raise KeyError("secret")


async def test_t80_code_that_raises_is_a_failure_of_ours_that_is_counted_and_logged_with_its_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    it = endpoint(Webhook(Gadget, validate=broken))

    answer = verdict(await it.answer(review(obj=gadget())))

    assert (answer.allowed, answer.status["code"], answer.status["reason"]) == (False, 500, "InternalError")
    assert "webhook /validate-example-com-v1-gadget: its code failed with KeyError" in answer.status["message"]
    assert "secret" not in answer.status["message"]
    assert it.metrics.panics.value == 1
    assert [record.exc_info is not None for record in caplog.records] == [True]


async def test_code_that_raises_behind_a_policy_of_ignore_is_no_refusal() -> None:
    answer = await endpoint(Webhook(Gadget, validate=broken, failure_policy="Ignore")).answer(review(obj=gadget()))

    assert answer.code == 500, "an API server goes by the failure policy only if the call itself fails"


async def test_a_defaulter_that_assigns_nonsense_is_a_failure_and_says_which_field(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def default(draft: Gadget, _request: AdmissionRequest) -> None:
        draft.spec.size = "big"  # type: ignore[assignment]

    answer = await asked(Webhook(Gadget, default=default), review(obj=gadget()), "mutate")

    assert answer.status["code"] == 500
    assert "size" in caplog.text


@pytest.mark.parametrize(("asked_s", "limit_s"), [(None, 9.5), (10.0, 9.5), (2.0, 1.8), (60.0, 9.5), (0.0, 9.5)])
def test_code_that_takes_too_long_is_given_up_before_the_api_server_gives_us_up(
    asked_s: float | None, limit_s: float, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene() -> None:
        ended = asyncio.Event()

        async def slow(_obj: Gadget, _request: AdmissionRequest) -> None:
            try:
                await asyncio.sleep(1000)
            finally:
                ended.set()

        it = endpoint(Webhook(Gadget, validate=slow))
        answer = verdict(await it.answer(review(obj=gadget()), asked_s))

        assert asyncio.get_running_loop().time() == pytest.approx(limit_s)
        assert (answer.status["code"], answer.status["reason"]) == (504, "Timeout")
        assert f"no verdict within {limit_s:.1f} s" in answer.status["message"]
        await ended.wait()

    virtual_clock.run(scene())


def test_code_that_holds_on_when_given_up_holds_nobody_up(caplog: pytest.LogCaptureFixture) -> None:
    async def stubborn(_obj: Gadget, _request: AdmissionRequest) -> None:
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            await asyncio.sleep(500)
            raise OSError("late") from None

    async def scene() -> None:
        now = asyncio.get_running_loop().time
        it = endpoint(Webhook(Gadget, validate=stubborn))
        await it.answer(review(obj=gadget()))
        assert now() == pytest.approx(9.5)
        await it.aclose()
        assert now() == pytest.approx(509.5)

    with caplog.at_level(logging.WARNING):
        virtual_clock.run(scene())
    assert "given up" in caplog.text


def test_slow_reviews_do_not_hold_up_others() -> None:
    async def slow(obj: Gadget, _request: AdmissionRequest) -> None:
        await asyncio.sleep(obj.spec.size)

    async def scene() -> list[int]:
        it = endpoint(Webhook(Gadget, validate=slow))
        ended: list[int] = []

        async def one(size: int) -> None:
            assert verdict(await it.answer(review(obj=gadget(size=size)))).allowed
            ended.append(size)

        await asyncio.gather(*map(one, (5, 1, 3)))
        return ended

    assert virtual_clock.run(scene()) == [1, 3, 5]


async def test_what_the_request_says_is_there_for_the_code() -> None:
    seen: dict[str, Any] = {}

    def look(obj: Gadget, request: AdmissionRequest) -> None:
        seen.update(
            operation=request.operation,
            key=str(request.key),
            groups=request.user.groups,
            extra=dict(request.user.extra),
            manager=request.options["fieldManager"],
            dry_run=request.dry_run,
            old=request.old(Gadget).spec.size,
            raw=request.raw()["spec"],
        )

    await asked(Webhook(Gadget, validate=look), review("UPDATE", gadget(size=2, x=1), gadget(size=1), dryRun=True))

    assert seen == {
        "operation": "UPDATE",
        "key": "demo/a",
        "groups": ("system:authenticated",),
        "extra": {"k": ("v",)},
        "manager": "kubectl",
        "dry_run": True,
        "old": 1,
        "raw": {"size": 2, "x": 1},
    }


async def test_an_old_object_on_a_create_is_a_mistake_of_the_code() -> None:
    def look(_obj: Gadget, request: AdmissionRequest) -> None:
        request.old(Gadget)

    answer = await asked(Webhook(Gadget, validate=look), review(obj=gadget()))

    assert answer.status["code"] == 500


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: Webhook(Gadget), "give validate=, default= or both"),
        (lambda: Webhook(Gadget, validate=small, timeout_s=31), "timeout_s 31: expected 1 to 30"),
        (lambda: Webhook(Gadget, validate=small, operations=["CONNECT"]), "expected some of CREATE, UPDATE, DELETE"),  # type: ignore[list-item]
        (lambda: Webhook(Gadget, default=refuse, operations=["DELETE"]), "needs CREATE or UPDATE"),
        (lambda: Webhook(Gadget, validate=small, failure_policy="fail"), "expected Fail or Ignore"),  # type: ignore[arg-type]
        (lambda: Webhook(Gadget, validate=small, side_effects="Some"), "expected None or NoneOnDryRun"),  # type: ignore[arg-type]
    ],
)
def test_declarations_that_cannot_be_are_refused_with_what_is_allowed(make: Callable[[], Webhook], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        make()


@pytest.mark.parametrize(("operation", "obj"), [("CREATE", None), ("UPDATE", gadget()), ("UPDATE", None)])
async def test_a_review_without_its_object_is_a_bad_request_and_no_failure_of_ours(
    operation: str, obj: dict[str, Any] | None
) -> None:
    endpoint = Endpoint(
        Webhook(Gadget, validate=lambda obj, request: None), "validate", WebhookMetrics(CollectorRegistry())
    )
    answer = verdict(await endpoint.answer(review(operation, obj)))
    assert not answer.allowed
    assert answer.status["code"] == 400
    assert f"the {operation} has no object" in answer.status["message"]
