"""An id, a log line and a count for each request."""

from __future__ import annotations

import logging
import re
import time
import uuid

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kaito.inference.http.health import HEALTH_PATHS
from kaito.inference.metrics import Metrics

_HEADER = b"x-request-id"
_ID = re.compile(rb"[\x21-\x7e]{1,128}")
_REFUSED = {
    400: "bad_request",
    401: "unauthorized",
    404: "not_found",
    408: "timeout",
    413: "too_large",
    422: "bad_request",
    429: "overloaded",
    503: "unavailable",
}
_GONE = 499

_log = logging.getLogger(__name__)


class Access:
    """Echoes `X-Request-Id` or makes one, which routes find as `request.state.request_id`.

    Routes may leave `request.state.tokens = (prompt, generated)` for the log.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes on every request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), _GONE
        request_id = _request_id(scope)
        scope.setdefault("state", {})["request_id"] = request_id.decode()

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (_HEADER, request_id)]
            await send(message)

        try:
            await self._app(scope, receive, answer)
        finally:
            self._tell(scope, status, time.perf_counter() - started)

    def _tell(self, scope: Scope, status: int, seconds: float) -> None:
        self._metrics.answered(getattr(scope.get("route"), "path", "other"), status)
        # The kubelet asks every few seconds, and is told by its own events.
        failed = status >= 400 and scope["path"] not in HEALTH_PATHS
        if failed and (reason := _REFUSED.get(status)):
            self._metrics.refused(reason)
        level = logging.INFO if failed else logging.DEBUG
        if not _log.isEnabledFor(level):
            return
        fields = {
            "method": scope["method"],
            "path": scope["path"],
            "status": status,
            "seconds": round(seconds, 4),
            "request_id": scope["state"]["request_id"],
        }
        prompt, generated = scope["state"].get("tokens", (None, None))
        if prompt is not None:
            fields |= {"prompt_tokens": prompt, "generated_tokens": generated}
        _log.log(level, "request", extra=fields)


def _request_id(scope: Scope) -> bytes:
    given = next((value for name, value in scope["headers"] if name == _HEADER), b"")
    return bytes(given) if _ID.fullmatch(given) else uuid.uuid4().hex.encode()
