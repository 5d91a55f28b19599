"""FaultProxy: a proxy before a real API server that breaks what it is told to break, and writes down every write."""

from __future__ import annotations

import os
import ssl
import tempfile
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from kaito.client.config import Config, load_config
from kaito.client.transport import AiohttpTransport, Request, Response, ResponseStream, Transport
from kaito.devcluster.certificates import CertificateAuthority
from kaito.devcluster.kubeconfig import write_kubeconfig
from kaito.testing.fake_api.faults import Faults
from kaito.testing.fake_api.faulty_transport import FaultyTransport
from kaito.testing.transport_server import HOST, TransportServer

__all__ = ["FaultProxy", "Write"]

_READS = frozenset({"GET", "HEAD", "OPTIONS"})
_NAME = "kaito-fault-proxy"


class Write(NamedTuple):
    """A write that came by.

    Attributes:
        method: POST, PUT, PATCH or DELETE.
        path: URL path.
        is_dry_run: whether nothing was to be stored.
    """

    method: str
    path: str
    is_dry_run: bool

    @classmethod
    def of(cls, request: Request) -> Write | None:
        """What a request writes; None when it reads."""
        if request.method in _READS:
            return None
        return cls(request.method, request.path, ("dryRun", "All") in request.query)

    @property
    def kind(self) -> str:
        """What it writes, without the names: ``POST machines``, ``PATCH workspaces/status``."""
        parts = self.path.strip("/").split("/")
        parts = parts[2:] if parts[0] == "api" else parts[3:]
        if parts[0] == "namespaces" and len(parts) > 2:
            parts = parts[2:]
        return f"{self.method} {'/'.join([parts[0], *parts[2:]])}"


class FaultProxy(TransportServer):
    """A reverse proxy on loopback between clients and an API server; it ends their TLS with an authority of its own.

    Use it as ``async with FaultProxy(control_plane.kubeconfig) as proxy``, and give `kubeconfig` or `config` to what is
    tested. It asks the API server as the user of the kubeconfig that it was given, whoever asks; and it asks its
    clients for the certificate that is in `kubeconfig`, so that nobody else on the machine gets those rights. Answers
    come in HTTP/1.1, uncompressed; ``exec``, ``attach`` and ``port-forward`` do not go through. Faults that alter or
    count what the server says read JSON, which is what kubectl and this client speak. Making one reads files,
    which blocks for half a second the first time.

    Args:
        kubeconfig: of the API server.
        context: name of a context in it; default: its current-context.

    Attributes:
        faults: what goes wrong on purpose; the same rules as those of a `FakeApi`.
        writes: every write that came, in order, whether or not a fault kept it from the server.

    Raises:
        ConfigError: the kubeconfig is missing or incomplete.
    """

    def __init__(self, kubeconfig: str | os.PathLike[str], *, context: str | None = None) -> None:
        self.faults = Faults()
        self.writes: list[Write] = []
        self._upstream = AiohttpTransport(load_config(kubeconfig, context=context), user_agent=_NAME)
        self._authority = CertificateAuthority(_NAME)
        self._folder = tempfile.TemporaryDirectory(prefix=f"{_NAME}-")
        noting = _Noting(FaultyTransport(self._upstream, self.faults), self.writes)
        super().__init__(noting, tls=self._tls_context(Path(self._folder.name)))

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        identity = self._authority.issue_client("client")
        write_kubeconfig(
            self.kubeconfig, url=self.url, ca_pem=self._authority.certificate_pem, user="client", identity=identity
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await super().__aexit__(kind, error, traceback)
        await self._upstream.aclose()
        self._folder.cleanup()

    @property
    def kubeconfig(self) -> Path:
        """A kubeconfig for clients of the proxy, with everything embedded; it goes away with it."""
        return Path(self._folder.name) / "kubeconfig"

    @property
    def config(self) -> Config:
        """What a client of the proxy needs. Reads the kubeconfig."""
        return load_config(self.kubeconfig)

    def _tls_context(self, folder: Path) -> ssl.SSLContext:
        certificate, key = folder / "tls.crt", folder / "tls.key"
        self._authority.issue_server([HOST, "localhost"]).write(certificate, key)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cadata=self._authority.certificate_pem.decode())
        context.load_cert_chain(certificate, key)
        context.verify_mode = ssl.CERT_REQUIRED
        return context


class _Noting:
    """Writes down the writes."""

    def __init__(self, inner: Transport, writes: list[Write]) -> None:
        self._inner = inner
        self._writes = writes

    async def send(self, request: Request) -> Response:
        self._note(request)
        return await self._inner.send(request)

    async def stream(self, request: Request) -> ResponseStream:
        self._note(request)
        return await self._inner.stream(request)

    async def aclose(self) -> None:
        await self._inner.aclose()

    def _note(self, request: Request) -> None:
        if write := Write.of(request):
            self._writes.append(write)
