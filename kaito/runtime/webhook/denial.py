"""Denials: what a validator raises, worded and structured as the API server's own refusals are."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import ValidationError

from kaito.client.errors import Cause
from kaito.kube.resource import ResourceType
from kaito.kube.validation_report import shown

_SHOWN_CHARACTERS = 100


class Denied(Exception):
    """The request is refused.

    With causes it is the API server's own ``Invalid`` (422): clients find the fields in ``details.causes``, and kubectl
    prints one line for each. With a sentence alone it is ``Forbidden`` (403).

    Args:
        causes: the fields at fault; from `invalid`, `required`, `unsupported`, `forbidden` and `duplicate`.
        message: a sentence, instead of the one that is made of the causes.
        reason: a reason of meta/v1, such as ``Conflict``.
        code: the HTTP status that the client gets, 400 to 599.

    Raises:
        ValueError: it says nothing, or the code is none of a failure.
    """

    def __init__(self, *causes: Cause, message: str = "", reason: str = "", code: int = 0) -> None:
        if not causes and not message:
            raise ValueError("Denied: give the causes, or a message that says why")
        if code and not 400 <= code <= 599:
            raise ValueError(f"Denied: code {code}: expected one of a failure, 400 to 599")
        self.causes = causes
        self.message = message or _sentence(causes)
        self.reason = reason or ("Invalid" if causes else "Forbidden")
        self.code = code or _CODES.get(self.reason, 403)
        super().__init__(self.message)


class OldUnreadable(Denied):
    """The object as it was cannot be read; no reason to refuse what mends it."""


_CODES = {"Invalid": 422, "Forbidden": 403, "BadRequest": 400, "Conflict": 409, "TooManyRequests": 429}


def invalid(field: str, given: object, allowed: str) -> Cause:
    """A value that may not be.

    Args:
        field: its path, such as ``spec.containers[0].image``.
        given: the value; shortened where long. Not for secrets: people read it.
        allowed: what would do, such as ``at most 10``.
    """
    return Cause(field, "FieldValueInvalid", f"Invalid value: {_shown(given)}: {allowed}")


def required(field: str, why: str = "") -> Cause:
    """A value that is missing."""
    return Cause(field, "FieldValueRequired", f"Required value: {why}" if why else "Required value")


def unsupported(field: str, given: object, allowed: Iterable[object]) -> Cause:
    """A value that is none of those that are known."""
    known = ", ".join(_shown(value) for value in allowed)
    return Cause(
        field,
        "FieldValueNotSupported",
        f"Unsupported value: {_shown(given)}: supported values: {known}",
    )


def forbidden(field: str, why: str) -> Cause:
    """A field that may not be set, or not be changed."""
    return Cause(field, "FieldValueForbidden", f"Forbidden: {why}")


def duplicate(field: str, given: object) -> Cause:
    """A value that is there already."""
    return Cause(field, "FieldValueDuplicate", f"Duplicate value: {_shown(given)}")


def not_found(field: str, given: object, why: str = "") -> Cause:
    """The name of something that is not there.

    Args:
        field: its path.
        given: the name.
        why: what to do about it.
    """
    text = f"Not found: {_shown(given)}"
    return Cause(field, "FieldValueNotFound", f"{text}: {why}" if why else text)


def unreadable(error: ValidationError, *, show_values: bool) -> Denied:
    """The denial of an object that its class cannot read: each field at fault, by its path on the wire.

    Args:
        error: what pydantic says.
        show_values: whether the values may be shown.
    """
    causes = []
    for detail in error.errors(include_url=False, include_context=False):
        path = _path(detail["loc"])
        text = detail["msg"].removeprefix("Value error, ")
        if detail["type"] == "missing":
            causes.append(required(path))
        elif show_values and isinstance(detail["input"], (str, int, float, bool, type(None))):
            causes.append(invalid(path, detail["input"], text))
        else:
            causes.append(Cause(path, "FieldValueInvalid", f"Invalid value: {text}"))
    return Denied(*causes)


def status_of(denied: Denied, place: ResourceType, name: str) -> dict[str, object]:
    """The Status that a client gets.

    Args:
        denied: why.
        place: what was refused.
        name: and its name, if it has one yet.
    """
    message = denied.message
    if denied.reason == "Invalid" and denied.causes:
        message = f'{place.group_kind} "{name}" is invalid: {message}'
    details: dict[str, object] = {"name": name, "group": place.group, "kind": place.kind}
    if denied.causes:
        details["causes"] = [cause._asdict() for cause in denied.causes]
    return {
        "status": "Failure",
        "message": message,
        "reason": denied.reason,
        "code": denied.code,
        "details": {field: value for field, value in details.items() if value},
    }


def failure(message: str, code: int, reason: str) -> dict[str, object]:
    """The Status of a request that failed for what is nobody's fault but ours."""
    return {"status": "Failure", "message": message, "reason": reason, "code": code}


def _sentence(causes: tuple[Cause, ...]) -> str:
    texts = [f"{cause.field}: {cause.message}" for cause in causes]
    return texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"


def _shown(value: object) -> str:
    return shown(value, _SHOWN_CHARACTERS)


def _path(location: tuple[int | str, ...]) -> str:
    path = ""
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else part
    return path
