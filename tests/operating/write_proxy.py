"""WriteProxy: stands between a manager and the API server, writes down every write, and kills at a chosen one."""

from __future__ import annotations

import base64
import ssl
import tempfile
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import aiohttp
import yaml
from aiohttp import web

from kaito.client import load_config

READS = frozenset({"GET", "HEAD", "OPTIONS"})
_HOP_BY_HOP = frozenset({"connection", "transfer-encoding", "content-encoding", "content-length", "host", "keep-alive"})


class Moment(Enum):
    """When, in the life of a write, the writer dies."""

    BEFORE_IT_IS_SENT = "before"
    BEFORE_IT_IS_ANSWERED = "after"


class Write(NamedTuple):
    """A write that came by."""

    method: str
    path: str
    is_dry_run: bool

    @property
    def kind(self) -> str:
        """What it writes, without the names: POST machines, PATCH workspaces/status."""
        parts = self.path.strip("/").split("/")
        parts = parts[2:] if parts[0] == "api" else parts[3:]
        if parts[0] == "namespaces" and len(parts) > 2:
            parts = parts[2:]
        return f"{self.method} {'/'.join([parts[0], *parts[2:]])}"


class WriteProxy:
    """A reverse proxy on loopback, in plain HTTP; authenticates as the kubeconfig's user.

    Args:
        kubeconfig: of the API server.
    """

    def __init__(self, kubeconfig: Path) -> None:
        self._upstream = load_config(kubeconfig).host
        self._identity = _identity(kubeconfig)
        self._folder = tempfile.TemporaryDirectory(prefix="kaito-write-proxy-")
        self._kill: Callable[[], None] | None = None
        self._is_chosen: Callable[[int, Write], bool] = lambda _number, _write: False
        self._moment = Moment.BEFORE_IT_IS_SENT
        self._answers: set[aiohttp.ClientResponse] = set()
        self.writes: list[Write] = []
        self.kubeconfig = Path(self._folder.name) / "kubeconfig"

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=2**24)
        app.router.add_route("*", "/{path:.*}", self._forward)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=self._identity, limit=0),
            timeout=aiohttp.ClientTimeout(total=None),
            auto_decompress=False,
        )
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        port = self._runner.addresses[0][1]
        self.kubeconfig.write_text(yaml.safe_dump(_kubeconfig(f"http://127.0.0.1:{port}")), encoding="utf-8")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # Watches end by themselves then, each in its handler, which closes what it holds.
        for answer in list(self._answers):
            answer.close()
        await self._runner.cleanup()
        await self._session.close()
        self._folder.cleanup()

    def kill_on(self, is_chosen: Callable[[int, Write], bool], moment: Moment, kill: Callable[[], None]) -> None:
        """Calls `kill` at the first write that is chosen, by its number from now on (from 1) and by what it is.

        That connection gets no answer.
        """
        self.writes.clear()
        self._is_chosen, self._moment, self._kill = is_chosen, moment, kill

    def spare(self) -> None:
        """Kills no more."""
        self._kill = None

    @property
    def has_killed(self) -> bool:
        """Whether the chosen write has come."""
        return self._kill is None

    async def _forward(self, request: web.Request) -> web.StreamResponse:
        chosen = request.method not in READS and self._notes(request)
        if chosen and self._moment is Moment.BEFORE_IT_IS_SENT:
            return self._end(request)
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP_BY_HOP}
        body = await request.read() if request.can_read_body else None
        url = f"{self._upstream}{request.path_qs}"
        async with self._session.request(request.method, url, headers=headers, data=body) as answer:
            self._answers.add(answer)
            try:
                if chosen:
                    await answer.read()
                    return self._end(request)
                return await _answer(request, answer)
            finally:
                self._answers.discard(answer)

    def _notes(self, request: web.Request) -> bool:
        """Writes a write down; returns whether it is the chosen one."""
        write = Write(request.method, request.path, "dryRun=All" in request.query_string)
        self.writes.append(write)
        return self._kill is not None and self._is_chosen(len(self.writes), write)

    def _end(self, request: web.Request) -> web.StreamResponse:
        kill, self._kill = self._kill, None
        if kill is not None:
            kill()
        if request.transport is not None:
            request.transport.abort()
        return web.Response()


async def _answer(request: web.Request, answer: aiohttp.ClientResponse) -> web.StreamResponse:
    kept = {
        name: value for name, value in answer.headers.items() if name.lower() not in _HOP_BY_HOP - {"content-encoding"}
    }
    response = web.StreamResponse(status=answer.status, headers=kept)
    try:
        await response.prepare(request)
        async for chunk in answer.content.iter_any():
            await response.write(chunk)
    except (ConnectionError, aiohttp.ClientError):
        # Whoever asked is dead, which is what this is for.
        pass
    return response


def _identity(kubeconfig: Path) -> ssl.SSLContext:
    """TLS as the kubeconfig's user, from what is embedded in it."""

    content = yaml.safe_load(kubeconfig.read_text(encoding="utf-8"))
    cluster, user = content["clusters"][0]["cluster"], content["users"][0]["user"]
    authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
    context = ssl.create_default_context(cadata=authority)
    with tempfile.NamedTemporaryFile() as chain:
        for part in ("client-certificate-data", "client-key-data"):
            chain.write(base64.b64decode(user[part]))
        chain.flush()
        context.load_cert_chain(chain.name)
    return context


def _kubeconfig(server: str) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "proxy", "cluster": {"server": server}}],
        "users": [{"name": "proxy", "user": {}}],
        "contexts": [{"name": "proxy", "context": {"cluster": "proxy", "user": "proxy"}}],
        "current-context": "proxy",
    }
