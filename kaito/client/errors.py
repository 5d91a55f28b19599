"""The errors of a Kubernetes client.

KubeError
├── ApiError              the API server answered with a failure Status
│   ├── BadRequest        400  the request itself is malformed
│   ├── Unauthorized      401  the credentials are missing, wrong or expired
│   ├── Forbidden         403  RBAC or admission does not allow it
│   ├── NotFound          404  no such object, or no such kind
│   ├── MethodNotAllowed  405
│   ├── AlreadyExists     409  an object of that name is there
│   ├── Conflict          409  the object changed meanwhile
│   │   └── ApplyConflict      another field manager owns fields of what is applied; `conflicts` name both
│   ├── Gone              410  the resourceVersion or continue token is too old
│   ├── Invalid           422  the object breaks a rule of its schema; `causes` name the fields
│   ├── TooManyRequests   429  throttled, or an eviction would break a disruption budget
│   ├── InternalError     500
│   ├── ServiceUnavailable 503
│   └── ServerTimeout     504  the server gave up; a write may or may not have happened
├── TransportError        no answer: refused, reset, timed out; `sent` says whether a write may have happened
├── NoSuchKind            the API server serves no kind of that name
├── CacheNotSynced        a cached read would be older than what this process knows to exist
└── LeadershipLost        a write was stopped since this process is no longer the leader
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, NamedTuple

import msgspec

if TYPE_CHECKING:
    from kaito.client.transport import Request, Response


class Cause(NamedTuple):
    """One reason of a failure: the field (dotted path), a machine-readable reason, and a sentence."""

    field: str
    reason: str
    message: str


class FieldConflict(NamedTuple):
    """A field that somebody else manages: who, and the field's path, such as ``.spec.replicas``."""

    manager: str
    field: str


class KubeError(Exception):
    """Base of all errors of `kaito.client` and `kaito.informers`."""


class ApiError(KubeError):
    """The API server answered with a failure.

    Attributes:
        status: HTTP status code.
        reason: ``reason`` of the Status object, such as ``AlreadyExists``; empty when the body was none.
        message: the server's sentence.
        causes: the fields at fault, if the server named any.
        retry_after_s: seconds that the server asks to wait, or None.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 0,
        reason: str = "",
        causes: tuple[Cause, ...] = (),
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.reason = reason
        self.causes = causes
        self.retry_after_s = retry_after_s


class BadRequest(ApiError):
    """400: the request is malformed."""


class Unauthorized(ApiError):
    """401: the credentials are missing, wrong or expired."""


class Forbidden(ApiError):
    """403: RBAC or admission does not allow it."""


class NotFound(ApiError):
    """404: no such object, or no such kind."""


class MethodNotAllowed(ApiError):
    """405: the resource has no such verb."""


class AlreadyExists(ApiError):
    """409: an object of that name is there."""


class Conflict(ApiError):
    """409: the object changed meanwhile, or another field manager owns a field."""


class ApplyConflict(Conflict):
    """409: another field manager owns fields of what is applied."""

    @property
    def conflicts(self) -> tuple[FieldConflict, ...]:
        """Who manages which of the fields."""
        owned = (cause for cause in self.causes if cause.reason == _OWNED)
        return tuple(FieldConflict(_manager(cause.message), cause.field) for cause in owned)


class Gone(ApiError):
    """410: the resourceVersion or continue token is too old."""


class Invalid(ApiError):
    """422: the object breaks a rule of its schema; ``causes`` name the fields."""


class TooManyRequests(ApiError):
    """429: throttled, or an eviction would break a disruption budget."""


class InternalError(ApiError):
    """500: the server failed."""


class ServiceUnavailable(ApiError):
    """503: the server, or the extension server behind it, is not there."""


class ServerTimeout(ApiError):
    """504: the server gave up; a write may or may not have happened."""


class TransportError(KubeError):
    """No answer came: refused, reset, timed out.

    Attributes:
        sent: True when the request may have reached the server, so that the outcome of a write is unknown.
        timed_out: True when the answer did not come in time, rather than the connection having broken.
    """

    def __init__(self, message: str, *, sent: bool, timed_out: bool = False) -> None:
        super().__init__(message)
        self.sent = sent
        self.timed_out = timed_out


class NoSuchKind(KubeError):
    """The API server serves no kind of that name.

    Attributes:
        api_version: what was asked for; empty: any.
        kind: what was asked for.
        nearest: kinds that are served and may have been meant, as ``Kind (group/version)``.
        broken: API versions that could not be discovered and may have it.
    """

    def __init__(
        self, message: str, *, api_version: str, kind: str, nearest: tuple[str, ...], broken: tuple[str, ...]
    ) -> None:
        super().__init__(message)
        self.api_version = api_version
        self.kind = kind
        self.nearest = nearest
        self.broken = broken


class CacheNotSynced(KubeError):
    """A cached read would be older than what this process knows to exist; try again later."""


class LeadershipLost(KubeError):
    """A write was stopped since this process is no longer the leader."""


_OWNED = "FieldManagerConflict"
_BUDGET = "DisruptionBudget"
_MANAGER = re.compile(r'conflict with (?:"((?:[^"\\]|\\.)*)"|(\S+))')

_BY_REASON: dict[str, type[ApiError]] = {
    "AlreadyExists": AlreadyExists,
    "Conflict": Conflict,
    "Expired": Gone,
    "Gone": Gone,
    "Invalid": Invalid,
    "Timeout": ServerTimeout,
    "ServerTimeout": ServerTimeout,
}

_BY_STATUS: dict[int, type[ApiError]] = {
    400: BadRequest,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    405: MethodNotAllowed,
    409: Conflict,
    410: Gone,
    422: Invalid,
    429: TooManyRequests,
    500: InternalError,
    503: ServiceUnavailable,
    504: ServerTimeout,
}


class StatusCause(msgspec.Struct):
    """A cause in a wire Status."""

    field: str = ""
    reason: str = ""
    message: str = ""


class StatusDetails(msgspec.Struct, rename="camel"):
    """The details of a wire Status."""

    uid: str = ""
    causes: list[StatusCause] = []
    retry_after_seconds: float | None = None


class Status(msgspec.Struct):
    """meta/v1 Status as the API server sends it."""

    kind: str = ""
    status: str = ""
    code: int = 0
    reason: str = ""
    message: str = ""
    details: StatusDetails | None = None


_status_decoder = msgspec.json.Decoder(Status)


def error_from_response(request: Request, response: Response) -> ApiError:
    """Makes the error for a failure answer; its text names the request and what the server said."""
    try:
        status = _status_decoder.decode(response.body)
    except msgspec.DecodeError:
        status = Status()
    if status.kind != "Status":
        # Whatever else it is, it may hold secrets.
        where = _without_subresource(request) if request.subresource else "nothing is served at that path"
        hint = f"; {where}" if response.status == 404 else ""
        status = Status(message=f"the answer is no Status, but {_outside(response.body, response.headers)}{hint}")
    elif response.status == 404 and request.subresource in ("status", "scale"):
        # Of a custom kind without one, the server says that the object is not there.
        status.message += f", or {_kind(request)} has no subresource {request.subresource}"
    status.code = status.code or response.status
    return error_from_status(status, prefix=f"{request.describe()}: ", wait_s=retry_after_s(response.headers))


def _without_subresource(request: Request) -> str:
    return f"{_kind(request)} has no subresource {request.subresource}, or is not served at all"


def _kind(request: Request) -> str:
    return request.resource.group_kind if request.resource is not None else "the kind"


def error_from_status(status: Status, *, prefix: str = "", wait_s: float | None = None) -> ApiError:
    """Makes the error for a Status object, from a response or from within a watch.

    Args:
        status: what the server said.
        prefix: what was asked of it.
        wait_s: what its Retry-After header asks for; the Status has the first word.
    """
    details = status.details or StatusDetails()
    causes = tuple(Cause(cause.field, cause.reason, cause.message) for cause in details.causes)
    return _class_of(status, causes)(
        f"{prefix}{status.code} {status.reason or 'Unknown'}: {_sentence(status, causes)}",
        status=status.code,
        reason=status.reason,
        causes=causes,
        retry_after_s=wait_s if details.retry_after_seconds is None else details.retry_after_seconds,
    )


def not_from_an_api_server(
    request: Request, what: str, error: Exception, body: bytes, headers: Mapping[str, str]
) -> ApiError:
    """Makes the error for an answer that says success and is none of Kubernetes' documents: a proxy's login page.

    Its text says how long the body is and of which media type, and shows nothing of it.
    """
    return ApiError(
        f"{request.describe()}: what came back is no {what}, but {_outside(body, headers)} ({error}); is it an API "
        f"server that answers there, and not a proxy or a login page before it?"
    )


def _outside(body: bytes, headers: Mapping[str, str]) -> str:
    """What can be said of a body without showing anything of it."""
    if not body:
        return "no body"
    return f"{len(body)} bytes of {headers.get('content-type') or 'an unnamed type'}"


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """The seconds that a Retry-After header asks to wait, or None. Header names are lower case.

    A date counts from the answer's own ``Date``, so that it does not matter whether our clock agrees with the server's.
    """
    value = headers.get("retry-after", "").strip()
    if value.isdecimal():
        return float(value)
    moment = _http_date(value)
    if moment is None:
        return None
    now = _http_date(headers.get("date", "")) or datetime.now(UTC)
    return max(0.0, (moment - now).total_seconds())


def _http_date(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _class_of(status: Status, causes: tuple[Cause, ...]) -> type[ApiError]:
    error_class = _BY_REASON.get(status.reason) or _BY_STATUS.get(status.code, ApiError)
    if error_class is Conflict and any(cause.reason == _OWNED for cause in causes):
        return ApplyConflict
    return error_class


def _sentence(status: Status, causes: tuple[Cause, ...]) -> str:
    """The server's sentence, and where we know more, what to do."""
    owned: dict[str, list[str]] = {}
    for cause in causes:
        if cause.reason == _OWNED:
            owned.setdefault(_manager(cause.message), []).append(cause.field)
    if owned:
        who = "; ".join(f'conflict with "{manager}" over {", ".join(fields)}' for manager, fields in owned.items())
        return f"{who}. Take the fields over with force=True, or give them up by not applying them"
    budgets = [cause.message for cause in causes if cause.reason == _BUDGET]
    return " ".join([status.message, *budgets])


def _manager(message: str) -> str:
    found = _MANAGER.match(message)
    if found is None:
        return message
    return found[2] or re.sub(r"\\(.)", r"\1", found[1])
