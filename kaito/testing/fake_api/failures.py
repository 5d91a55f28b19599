"""Failures: what a request is refused with, as the Status object that a real API server sends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

from kaito.kube.resource import ResourceType

Json: TypeAlias = dict[str, Any]
"""A decoded JSON object."""


class Cause(NamedTuple):
    """One field at fault: its dotted path, a machine-readable reason, a sentence."""

    field: str
    reason: str
    message: str

    def to_dict(self) -> Json:
        """The wire form."""
        return {"reason": self.reason, "message": self.message, "field": self.field}


class Failure(Exception):
    """A refused request.

    Args:
        code: HTTP status.
        reason: machine-readable reason, such as ``AlreadyExists``.
        message: a sentence.
        details: the Status's details.
        metadata: the Status's metadata (a continue token to go on with, after 410).
    """

    def __init__(
        self, code: int, reason: str, message: str, *, details: Json | None = None, metadata: Json | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details
        self.metadata = metadata or {}

    def status(self) -> Json:
        """The Status object."""
        status: Json = {"kind": "Status", "apiVersion": "v1", "metadata": self.metadata, "status": "Failure"}
        status["message"] = self.message
        if self.reason:
            status["reason"] = self.reason
        if self.details is not None:
            status["details"] = self.details
        return status | {"code": self.code}


def qualified(resource: ResourceType) -> str:
    """``deployments.apps``; just the plural in the core group."""
    return f"{resource.plural}.{resource.group}" if resource.group else resource.plural


def details_of(resource: ResourceType, name: str, *, kind: str = "", **more: object) -> Json:
    """The details of a Status: which object it is about. Messages name resources, ``Invalid`` names the kind."""
    details: Json = {"name": name} if name else {}
    if resource.group:
        details["group"] = resource.group
    return details | {"kind": kind or resource.plural} | more


def not_found(resource: ResourceType, name: str) -> Failure:
    """404: no such object."""
    message = f'{qualified(resource)} "{name}" not found'
    return Failure(404, "NotFound", message, details=details_of(resource, name))


def already_exists(resource: ResourceType, name: str) -> Failure:
    """409: the name is taken."""
    message = f'{qualified(resource)} "{name}" already exists'
    return Failure(409, "AlreadyExists", message, details=details_of(resource, name))


def conflict(resource: ResourceType, name: str, why: str) -> Failure:
    """409: the object is not the one, or not as old, as the request takes it to be."""
    message = f'Operation cannot be fulfilled on {qualified(resource)} "{name}": {why}'
    return Failure(409, "Conflict", message, details=details_of(resource, name))


def changed_meanwhile(resource: ResourceType, name: str) -> Failure:
    """409: somebody else wrote since the object was read."""
    why = "the object has been modified; please apply your changes to the latest version and try again"
    return conflict(resource, name, why)


def apply_conflict(causes: Sequence[Cause]) -> Failure:
    """409: other managers own fields that an unforced apply would change."""
    owners = list(dict.fromkeys(cause.message for cause in causes))
    plural = "s" if len(causes) > 1 else ""
    listed = "\n".join(f"{owner}: {_fields(causes, owner)}" for owner in owners)
    message = f"Apply failed with {len(causes)} conflict{plural}: {listed}"
    return Failure(409, "Conflict", message, details={"causes": [cause.to_dict() for cause in causes]})


def invalid(resource: ResourceType, name: str, *causes: Cause, by_plural: bool = False) -> Failure:
    """422: fields break a rule. What fails before validation names the resource instead of the kind."""
    faults = ", ".join(f"{cause.field}: {cause.message}" for cause in causes)
    faults = f"[{faults}]" if len(causes) > 1 else faults
    kind, title = (resource.plural, qualified(resource)) if by_plural else (resource.kind, resource.group_kind)
    details = details_of(resource, name, kind=kind, causes=[cause.to_dict() for cause in causes])
    return Failure(422, "Invalid", f'{title} "{name}" is invalid: {faults}', details=details)


def invalid_options(options: str, *causes: Cause) -> Failure:
    """422: query parameters that do not go together."""
    resource = ResourceType("meta.k8s.io", "v1", options, "")
    return invalid(resource, "", *causes)


def bad_request(message: str) -> Failure:
    """400: the request itself is malformed."""
    return Failure(400, "BadRequest", message)


def forbidden(resource: ResourceType, name: str, why: str, *, causes: Sequence[Cause] = ()) -> Failure:
    """403: admission does not allow it."""
    more: Json = {"causes": [cause.to_dict() for cause in causes]} if causes else {}
    message = f'{qualified(resource)} "{name}" is forbidden: {why}'
    return Failure(403, "Forbidden", message, details=details_of(resource, name, **more))


def method_not_allowed() -> Failure:
    """405: the resource has no such verb."""
    message = "the server does not allow this method on the requested resource"
    return Failure(405, "MethodNotAllowed", message, details={})


def unprocessable() -> Failure:
    """422: a patch that cannot be carried out."""
    return Failure(422, "Invalid", "the server rejected our request due to an error in our request", details={})


def uid_differs(resource: ResourceType, name: str, uid: str) -> Failure:
    """422: a patch names another uid."""
    why = f'Invalid value: "{uid}": field is immutable'
    return invalid(resource, name, Cause("metadata.uid", "FieldValueInvalid", why))


def precondition_failed(resource: ResourceType, name: str, field: str, want: str, have: str) -> Failure:
    """409: a deletion names another uid or resourceVersion."""
    guess = "been deleted and then recreated" if field == "UID" else "been modified"
    why = f"the {field} in the precondition ({want}) does not match the {field} in record ({have})"
    message = f'Operation cannot be fulfilled on {resource.group_kind} "{name}": {why}. The object might have {guess}'
    return Failure(409, "Conflict", message, details=details_of(resource, name, kind=resource.kind))


def unsupported_media_type(accepted: Sequence[str]) -> Failure:
    """415: no such patch for this kind."""
    listed = ", ".join(accepted)
    message = f"the body of the request was in an unknown format - accepted media types include: {listed}"
    return Failure(415, "UnsupportedMediaType", message)


def expired(message: str, *, continue_token: str = "") -> Failure:
    """410: the version asked for was compacted."""
    return Failure(410, "Expired", message, metadata={"continue": continue_token} if continue_token else {})


def too_large_version(asked: int, current: int) -> Failure:
    """504: nobody has written that version yet."""
    message = f"Too large resource version: {asked}, current: {current}"
    cause = Cause("", "ResourceVersionTooLarge", "Too large resource version").to_dict()
    cause.pop("field")
    return Failure(504, "Timeout", message, details={"causes": [cause], "retryAfterSeconds": 1})


def _fields(causes: Sequence[Cause], owner: str) -> str:
    fields = [cause.field for cause in causes if cause.message == owner]
    return fields[0] if len(fields) == 1 else "".join(f"\n- {field}" for field in fields)
