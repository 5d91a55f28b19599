"""Request log: what clients asked, in the order of the answers, as tuples that two runs can be compared by."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple

from kaito.client.transport import Request
from kaito.testing.fake_api.routes import verb_of

TEXT_LIMIT = 200
"""Bodies up to so many characters are logged as text, longer ones by their hash."""


class LogEntry(NamedTuple):
    """One request.

    Attributes:
        time_s: seconds from the first request to this answer, by the server's clock.
        verb: get, list, watch, create, update, patch, apply, delete, deletecollection.
        path: URL path.
        query: query parameters, in order.
        body: the body's text when short, else ``sha256:`` and its hash; empty when there was none.
        status: HTTP status; 0 when the client got no answer.
    """

    time_s: float
    verb: str
    path: str
    query: tuple[tuple[str, str], ...]
    body: str
    status: int


class RequestLog(list[LogEntry]):
    """The entries so far; a list, so that two of them compare with ``==``.

    Args:
        clock: the time of day.
    """

    def __init__(self, clock: Callable[[], datetime]) -> None:
        super().__init__()
        self._clock = clock
        self._began: datetime | None = None

    def arrived(self) -> None:
        """Called when a request arrives: the first one is where the log's time begins."""
        self._began = self._began or self._clock()

    def answered(self, request: Request, status: int) -> None:
        """Adds an entry; status 0: the client got no answer."""
        began = self._began or self._clock()
        time_s = round((self._clock() - began).total_seconds(), 6)
        self.append(
            LogEntry(time_s, verb_of(request), request.path, tuple(request.query), _digest(request.body), status)
        )


def _digest(body: bytes | None) -> str:
    if body is None:
        return ""
    if len(body) <= TEXT_LIMIT:
        return body.decode(errors="replace")
    return f"sha256:{hashlib.sha256(body).hexdigest()}"
