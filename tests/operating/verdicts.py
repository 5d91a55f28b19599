"""Verdicts: what a real API server says of an object, beside what `kaito.kube.validation` says."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from kaito.devcluster.controlplane import ControlPlane
from kaito.devcluster.errors import RequestError
from kaito.kube.validation import Fault


class Verdict(NamedTuple):
    """What a judge says of an object.

    Attributes:
        fields: which are to blame.
        reasons: each field with the cause that machines read.
        is_partial: the judge did not ask all rules.
        messages: each field with what people read.
    """

    fields: frozenset[str]
    reasons: frozenset[tuple[str, str]]
    is_partial: bool
    messages: tuple[tuple[str, str], ...]

    def message_of(self, field: str) -> str:
        """What is said of a field, first."""
        return next((message for name, message in self.messages if name == field), "")


_BROKEN_OFF = re.compile("evaluating rule:|did not match a supported operator")


def server_says(control_plane: ControlPlane, method: str, path: str, obj: dict[str, Any]) -> Verdict:
    """Asks an API server by a dry run; nothing is said of what it takes."""
    try:
        control_plane.request(method, f"{path}?dryRun=All&fieldValidation=Ignore", obj)
    except RequestError as refused:
        if refused.status != 422:
            raise
        answer = str(refused)
        causes = json.loads(answer[answer.index("{") :])["details"]["causes"]
    else:
        causes = []
    told = [(*_named(cause["field"], cause["message"]), cause) for cause in causes]
    broken_off = [cause for cause in causes if _BROKEN_OFF.search(cause["message"])]
    kept = [(field, cause) for field, is_cause, cause in told if is_cause and cause not in broken_off]
    return Verdict(
        frozenset(field for field, _ in kept),
        frozenset((field, cause["reason"]) for field, cause in kept),
        bool(broken_off) or any("some validation rules were not checked" in cause["message"] for cause in causes),
        tuple((field, cause["message"]) for field, cause in kept),
    )


def _named(field: str, message: str) -> tuple[str, bool]:
    """The field that a cause is about, and whether it is one: some only repeat another."""
    if field != "<nil>":
        return field, True
    in_text = re.search(r"Checked value must be of type .* in (\S+)$", message)
    return (in_text[1], True) if in_text else ("", False)


def verdict_of(found: Iterable[Fault]) -> Verdict:
    """Returns what was found as a verdict."""
    found = tuple(found)
    return Verdict(
        frozenset(fault.field for fault in found),
        frozenset((fault.field, fault.reason) for fault in found),
        False,
        tuple((fault.field, fault.message) for fault in found),
    )
