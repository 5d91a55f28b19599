"""Which requests come through in which state of the server."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kaito.inference.errors import Unavailable
from kaito.inference.http.errors import error_response
from kaito.inference.http.health import HEALTH_PATHS
from kaito.inference.runtime import Runtime, State

_ALWAYS = HEALTH_PATHS | {"/", "/metrics", "/openapi.json"}
_RETRY_AFTER_S = {State.LOADING: 10, State.DRAINING: 5, State.FAILED: 30}


class Gate:
    """Answers 503 with `Retry-After` to what needs the model while it is not ready.

    Whatever is answered while the server drains ends its connection: the next request should find another server.
    """

    def __init__(self, app: ASGIApp, runtime: Runtime) -> None:
        self._app = app
        self._runtime = runtime

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes on what may pass."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start" and self._runtime.status().state is State.DRAINING:
                message["headers"] = [*message.get("headers", ()), (b"connection", b"close")]
            await send(message)

        status = self._runtime.status()
        if status.state is State.READY or scope["path"] in _ALWAYS:
            await self._app(scope, receive, answer)
            return
        response = error_response(
            Unavailable(
                f"the server is {status.state.value}" + (f": {status.detail}" if status.detail else ""),
                retry_after_s=_RETRY_AFTER_S[status.state],
            ),
            scope["path"],
        )
        await response(scope, receive, answer)
