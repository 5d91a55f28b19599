"""Which requests come through in which state of the server."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from kaito.inference.errors import Unavailable
from kaito.inference.http.errors import error_response
from kaito.inference.http.health import HEALTH_PATHS
from kaito.inference.runtime import Runtime, State

_ALWAYS = HEALTH_PATHS | {"/", "/metrics", "/openapi.json"}
_RETRY_AFTER_S = {State.LOADING: 10, State.DRAINING: 5, State.FAILED: 30}


class Gate:
    """Answers 503 with `Retry-After` to what needs the model while it is not ready."""

    def __init__(self, app: ASGIApp, runtime: Runtime) -> None:
        self._app = app
        self._runtime = runtime

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes on what may pass."""
        status = self._runtime.status()
        if scope["type"] != "http" or status.state is State.READY or scope["path"] in _ALWAYS:
            await self._app(scope, receive, send)
            return
        response = error_response(
            Unavailable(
                f"the server is {status.state.value}" + (f": {status.detail}" if status.detail else ""),
                retry_after_s=_RETRY_AFTER_S[status.state],
            ),
            scope["path"],
        )
        if status.state is State.DRAINING:
            # The next request of this client should find another server.
            response.headers["Connection"] = "close"
        await response(scope, receive, send)
