"""KubeletApi: what the API server asks of a node: logs, and what its pods use."""

from __future__ import annotations

import contextlib
import re
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from aiohttp import web
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from kaito.client.errors import KubeError
from kaito.devcluster.egress import KUBELET_CLIENT, Egress
from kaito.devcluster.ports import LOOPBACK
from kaito.devcluster.process_nodes.log_files import LogReader, LogRequest, Unavailable
from kaito.devcluster.process_nodes.summary import Summary, resource_metrics, without_disks
from kaito.devcluster.process_nodes.usage import NotMeasured
from kaito.kube.core_v1 import Pod
from kaito.kube.object_key import ObjectKey

FindPod = Callable[[ObjectKey], Awaitable[Pod | None]]
"""Looks up a pod that is bound to one of our nodes; None if there is none of that name."""
Summarize = Callable[[str], Awaitable[Summary]]
"""Says what a node and its pods use."""

_NODE: Final = re.compile(r"/api/v1/nodes/([^/:]+)")
_UNSUPPORTED: Final = ("exec", "attach", "portForward", "run", "checkpoint")
_CLOSE_S: Final = 1.0


class KubeletApi:
    """Serves the part of a kubelet's API that process nodes have, on a free port of loopback. An async context.

    Only the API server is let in, by the name in its client certificate.

    Args:
        logs: the agent's folder of logs.
        egress: has the certificates of both sides.
        find_pod: looks up pods.
        summarize: says what a node and its pods use.
    """

    def __init__(self, logs: Path, egress: Egress, find_pod: FindPod, summarize: Summarize) -> None:
        self._summarize = summarize
        self._egress = egress
        self._reader = LogReader(logs, find_pod)
        self._runner: web.AppRunner | None = None
        self._port = 0

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._port

    async def __aenter__(self) -> Self:
        app = web.Application(middlewares=[_only_the_api_server])
        app.router.add_get("/healthz", _healthy)
        app.router.add_get("/containerLogs/{namespace}/{pod}/{container}", self._logs)
        app.router.add_get("/stats/summary", self._summary)
        app.router.add_get("/metrics/resource", self._metrics)
        for name in _UNSUPPORTED:
            app.router.add_route("*", f"/{name}/{{rest:.*}}", _unsupported)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=_CLOSE_S)
        await self._runner.setup()
        try:
            site = web.TCPSite(self._runner, LOOPBACK, 0, ssl_context=_context(self._egress))
            await site.start()
        except BaseException:
            await self._runner.cleanup()
            raise
        self._port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    async def _logs(self, request: web.Request) -> web.StreamResponse:
        where = request.match_info
        try:
            asked = LogRequest.of(request.query)
            chunks = await self._reader.read(ObjectKey(where["pod"], where["namespace"]), where["container"], asked)
        except Unavailable as error:
            return web.Response(status=error.status, text=str(error))
        except KubeError as error:
            return web.Response(status=500, text=str(error))
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            async with contextlib.aclosing(chunks):
                async for chunk in chunks:
                    await response.write(chunk)
        return response

    async def _summary(self, request: web.Request) -> web.Response:
        made = await self._of_node(request)
        if request.query.get("only_cpu_and_memory") == "true":
            made = without_disks(made)
        return web.json_response(made)

    async def _metrics(self, request: web.Request) -> web.Response:
        made = await self._of_node(request)
        return web.Response(body=resource_metrics(made), headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})

    async def _of_node(self, request: web.Request) -> Summary:
        """What the node uses that the API server was asked for: all of ours have one address, and only it knows."""
        found = _NODE.match(request.headers.get("X-Forwarded-Uri", ""))
        if found is None:
            raise web.HTTPBadRequest(text=f"ask through the API server: /api/v1/nodes/NAME/proxy{request.path}")
        try:
            return await self._summarize(found[1])
        except NotMeasured as error:
            raise web.HTTPNotImplemented(text=str(error)) from error


@web.middleware
async def _only_the_api_server(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    certificate = request.get_extra_info("peercert") or {}
    names = [value for part in certificate.get("subject", ()) for key, value in part if key == "commonName"]
    if names != [KUBELET_CLIENT]:
        return web.Response(status=403, text=f"only {KUBELET_CLIENT} may ask, and this is {', '.join(names)}")
    return await handler(request)


async def _healthy(_request: web.Request) -> web.Response:
    return web.Response(text="ok")


async def _unsupported(request: web.Request) -> web.Response:
    what = request.path.split("/")[1]
    return web.Response(
        status=501, text=f"{what} is not supported on process nodes: containers are plain processes of this machine"
    )


def _context(egress: Egress) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(egress.authority))
    context.load_cert_chain(egress.certificate, egress.key)
    context.verify_mode = ssl.CERT_REQUIRED
    return context
