"""What can go wrong, and how a client is told.

Exception
├── StartError                 the server cannot serve this model here; one line, then exit status 1
└── RequestError               one request is refused; the server goes on
    ├── BadRequest             400: a field is wrong, or asks for what is not honoured
    │   └── ContextLengthExceeded
    ├── Unauthorized           401: no API key, or a wrong one
    ├── ModelNotFound          404: no model or adapter of that name
    ├── RequestTimeout         408: it took longer than a request may take
    ├── BodyTooLarge           413
    ├── UnsupportedMediaType   415: the body is not JSON
    ├── Overloaded             429: too much is waiting; says when to come again
    └── Unavailable            503: loading, draining, or the engine has failed
"""

from __future__ import annotations


class StartError(Exception):
    """The server cannot start: says what is wrong, what was found, and what to do."""


class RequestError(Exception):
    """A request is refused.

    Attributes:
        message: what is wrong and what is allowed, for a person.
        status: HTTP status.
        type: OpenAI's kind of error, such as ``invalid_request_error``.
        code: OpenAI's name of this error, such as ``context_length_exceeded``; none for most.
        param: the field at fault as the client wrote it, such as ``messages[0].role``; none if it is no single field.
        retry_after_s: seconds after which to try again; none if that would not help.
    """

    status = 500
    type = "server_error"
    code: str | None = None

    def __init__(self, message: str, *, param: str | None = None, retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after_s = retry_after_s


class BadRequest(RequestError):
    """A field is wrong, or asks for what this server does not do."""

    status = 400
    type = "invalid_request_error"


class ContextLengthExceeded(BadRequest):
    """The prompt, or the prompt and what is to follow, is longer than the model's context."""

    code = "context_length_exceeded"


class Unauthorized(RequestError):
    """There is no API key, or it is not the server's."""

    status = 401
    type = "authentication_error"
    code = "invalid_api_key"


class ModelNotFound(RequestError):
    """No model or adapter is served under that name."""

    status = 404
    type = "invalid_request_error"
    code = "model_not_found"


class RequestTimeout(RequestError):
    """The request took longer than a request may take."""

    status = 408
    type = "timeout_error"
    code = "request_timeout"


class BodyTooLarge(RequestError):
    """The body has more bytes than a body may have."""

    status = 413
    type = "invalid_request_error"
    code = "request_too_large"


class UnsupportedMediaType(RequestError):
    """The body is of a type that is not read here."""

    status = 415
    type = "invalid_request_error"
    code = "unsupported_media_type"


class Overloaded(RequestError):
    """As much is waiting as may wait."""

    status = 429
    type = "requests"
    code = "rate_limit_exceeded"


class Unavailable(RequestError):
    """The model is still loading, the server is stopping, or its engine has failed."""

    status = 503
    type = "service_unavailable"
