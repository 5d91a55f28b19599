"""API keys, as OpenAI's clients send them."""

from __future__ import annotations

import hmac

from starlette.types import ASGIApp, Receive, Scope, Send

from kaito.inference.errors import Unauthorized
from kaito.inference.http.errors import error_response
from kaito.inference.http.health import HEALTH_PATHS


class ApiKeys:
    """Answers 401 on every path but health, unless the request has `Authorization: Bearer KEY` with one of the keys.

    Paths that do not exist need a key as well: nothing is told to those who have none.
    """

    def __init__(self, app: ASGIApp, keys: frozenset[str]) -> None:
        self._app = app
        self._keys = [key.encode() for key in sorted(keys)]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes on what may pass."""
        if scope["type"] != "http" or not self._keys or scope["path"] in HEALTH_PATHS or self._known(scope):
            await self._app(scope, receive, send)
            return
        error = Unauthorized("the API key is missing or wrong; send the header Authorization: Bearer KEY")
        response = error_response(error, scope["path"])
        response.headers["WWW-Authenticate"] = "Bearer"
        await response(scope, receive, send)

    def _known(self, scope: Scope) -> bool:
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        if len(given) != 1:
            return False
        scheme, _, key = given[0].partition(b" ")
        # All are compared, each in constant time: how long it takes tells nothing.
        equal = [hmac.compare_digest(key.strip(), each) for each in self._keys]
        return scheme.lower() == b"bearer" and any(equal)
