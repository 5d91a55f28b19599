"""Transport: how one request reaches an API server. Two methods, so that a fake is easily written."""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from typing import TYPE_CHECKING, Protocol
from urllib.parse import quote

import aiohttp
from aiohttp.abc import AbstractStreamWriter
from aiohttp.payload import BytesIOPayload
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from kaito.client.errors import TransportError
from kaito.client.sockets import Sockets

if TYPE_CHECKING:
    from kaito.client.config import Config
    from kaito.kube.object_key import ObjectKey
    from kaito.kube.resource import ResourceType

CALL_TIMEOUT_S = 30.0
CONNECT_TIMEOUT_S = 10.0
CALL_CONNECTIONS = 64
# An idle connection is closed by us before a server or load balancer does it, behind the back of a write.
IDLE_CONNECTION_S = 30.0
_NO_HEADERS = CIMultiDictProxy(CIMultiDict[str]())
_LARGE_BODY = 1 << 20
# What RFC 3986 allows in a path as it is. Names of RBAC objects may hold what it does not, "?" for one.
_PATH_CHARACTERS = "/:@!$&'()*+,;=~"


@dataclass(frozen=True, slots=True)
class Request:
    """One request, before credentials are added.

    Attributes:
        method: HTTP method.
        path: URL path, such as ``/apis/apps/v1/namespaces/ns/deployments/web``.
        verb: what it is to Kubernetes: get, list, watch, create, update, patch, apply, delete, deletecollection.
        query: query parameters, in order.
        body: JSON bytes, or None.
        content_type: media type of the body.
        headers: further headers.
        resource: the kind asked for, when known; for metrics, errors and read-your-writes.
        key: the object asked for, when there is one.
        subresource: ``status``, ``scale`` …; empty for the object itself.
        timeout_s: for calls, the time until the whole answer; for watches, the longest silence.
        guard: called when the connection is there, right before bytes go out; what it raises is raised, and nothing was
            sent. It is asked before each try; a transport that does not know it, may ask it never.
        chunked: sends the body without its length. Go's reverse proxies, such as the API server's to pods and Services,
            now and then break off an answer that begins right after a body whose length they know.
    """

    method: str
    path: str
    verb: str
    query: tuple[tuple[str, str], ...] = ()
    # Bodies and headers can hold secrets: they are in no repr.
    body: bytes | None = field(default=None, repr=False)
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    resource: ResourceType | None = None
    key: ObjectKey | None = None
    subresource: str = ""
    timeout_s: float = CALL_TIMEOUT_S
    guard: Callable[[], None] | None = field(default=None, repr=False, compare=False)
    chunked: bool = False

    @property
    def is_write(self) -> bool:
        """True when it changes something (dry runs included)."""
        return self.method != "GET"

    def describe(self) -> str:
        """What is asked for, in a person's words: ``apply deployments.apps demo/web``."""
        if self.resource is None:
            return f"{self.method} {self.path}"
        group = f".{self.resource.group}" if self.resource.group else ""
        what = f"{self.resource.plural}{group}" + (f"/{self.subresource}" if self.subresource else "")
        return f"{self.verb} {what}" + (f" {self.key}" if self.key else "")


@dataclass(frozen=True, slots=True)
class Response:
    """A whole answer. Header names are lower case."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


class ResponseStream(Protocol):
    """An answer whose body comes in pieces for as long as the server likes."""

    status: int
    headers: Mapping[str, str]

    def chunks(self) -> AsyncIterator[bytes]:
        """Yields the body as it comes, cut anywhere.

        Raises:
            TransportError: the connection broke, or was silent for the request's ``timeout_s``.
        """
        ...

    async def aclose(self) -> None:
        """Drops the connection. Safe to call twice."""
        ...


class Transport(Protocol):
    """Sends requests. Implementations add credentials, and renew those that are refused; all else is the caller's."""

    async def send(self, request: Request) -> Response:
        """Sends a request and reads the whole answer.

        Raises:
            TransportError: no answer came.
        """
        ...

    async def stream(self, request: Request) -> ResponseStream:
        """Sends a request and returns once the answer has begun; the caller must ``aclose`` it.

        Raises:
            TransportError: no answer came.
        """
        ...

    async def aclose(self) -> None:
        """Closes all connections."""
        ...


class AiohttpTransport:
    """The transport over aiohttp: one connection pool for calls, another without a limit for watches.

    Watches hold a connection each over HTTP/1.1; in a shared pool of 100 they would starve every other call.
    Sessions are made on first use, inside the running loop. A request that is answered by 401 is sent once more if the
    credentials, read again, are others than before.

    Args:
        config: which API server, and as whom.
        user_agent: what the server's audit log shows.
        connect_timeout_s: seconds until a connection must stand, TLS included.
    """

    def __init__(
        self, config: Config, *, user_agent: str = "kaito", connect_timeout_s: float = CONNECT_TIMEOUT_S
    ) -> None:
        self._config = config
        self._user_agent = user_agent
        self._connect_timeout_s = connect_timeout_s
        self._proxy, self._proxy_proof = _proxy(config.proxy)
        self._calls: aiohttp.ClientSession | None = None
        self._watches: aiohttp.ClientSession | None = None
        self._sockets = Sockets()

    def __repr__(self) -> str:
        return f"AiohttpTransport({self._config.host!r})"

    async def send(self, request: Request) -> Response:
        """See `Transport.send`."""
        if self._calls is None:
            self._calls = self._session(CALL_CONNECTIONS)
        limits = aiohttp.ClientTimeout(total=request.timeout_s, sock_connect=self._connect_timeout_s)
        response = await self._open(self._calls, request, limits)
        try:
            body = await response.read()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise _broken(request, error, sent=True) from error
        finally:
            response.release()
        return Response(response.status, _lower(response.headers), body)

    async def stream(self, request: Request) -> ResponseStream:
        """See `Transport.stream`."""
        if self._watches is None:
            self._watches = self._session(0)
        limits = aiohttp.ClientTimeout(total=None, sock_connect=self._connect_timeout_s, sock_read=request.timeout_s)
        return _AiohttpStream(request, await self._open(self._watches, request, limits))

    async def aclose(self) -> None:
        """Closes all connections and waits until their sockets are gone."""
        for session in (self._calls, self._watches):
            if session is not None:
                await session.close()
        self._calls = self._watches = None
        await self._sockets.gone()

    def _session(self, limit: int) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            limit=limit,
            keepalive_timeout=IDLE_CONNECTION_S,
            ssl=self._config.ssl if self._config.ssl is not None else True,
            socket_factory=self._sockets,
            enable_cleanup_closed=False,
        )
        session = aiohttp.ClientSession(
            connector=connector,
            trust_env=False,
            auto_decompress=True,
            # Compressing on a loopback or cluster network costs both sides more time than it saves.
            headers={"User-Agent": self._user_agent, "Accept": "application/json", "Accept-Encoding": "identity"},
            read_bufsize=1 << 18,
        )
        # aiohttp sends a PUT or DELETE again, unasked, when a connection breaks. Whether it took effect the first time
        # nobody knows: the caller has to look. There is no public switch; aiohttp's own test client uses this one.
        session._retry_connection = False
        return session

    async def _open(
        self, session: aiohttp.ClientSession, request: Request, limits: aiohttp.ClientTimeout
    ) -> aiohttp.ClientResponse:
        credentials = self._config.credentials
        proof = await credentials.headers()
        response = await self._ask(session, request, limits, proof)
        if response.status != 401:
            return response
        credentials.invalidate(proof)
        try:
            renewed = await credentials.headers()
        except BaseException:
            response.close()
            raise
        if renewed == proof:
            return response
        response.release()
        response = await self._ask(session, request, limits, renewed)
        if response.status == 401:
            credentials.invalidate(renewed)
        return response

    async def _ask(
        self,
        session: aiohttp.ClientSession,
        request: Request,
        limits: aiohttp.ClientTimeout,
        proof: Mapping[str, str],
    ) -> aiohttp.ClientResponse:
        headers = {**request.headers, **proof}
        if self._config.host.startswith("http:"):
            headers |= self._proxy_proof  # without TLS there is no tunnel to open first
        if request.body is not None:
            headers["Content-Type"] = request.content_type
        payload = _payload(request)
        if request.guard is not None:
            request.guard()
            payload = _GuardedPayload(request.body or b"", request.guard)
        try:
            return await session.request(
                request.method,
                URL(self._config.host + quote(request.path, safe=_PATH_CHARACTERS), encoded=True),
                params=request.query,
                data=payload,
                headers=headers,
                skip_auto_headers=("Content-Type",),
                timeout=limits,
                proxy=self._proxy,
                proxy_headers=self._proxy_proof,
                server_hostname=self._config.server_hostname,
                allow_redirects=False,
            )
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise _broken(request, error, sent=False) from error
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            if isinstance(payload, _GuardedPayload) and payload.refusal is not None:
                raise payload.refusal from None
            raise _broken(request, error, sent=True) from error


class _AiohttpStream:
    def __init__(self, request: Request, response: aiohttp.ClientResponse) -> None:
        self._request = request
        self._response = response
        self.status = response.status
        self.headers: Mapping[str, str] = _lower(response.headers)

    async def chunks(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._response.content.iter_any():
                yield chunk
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise _broken(self._request, error, sent=True) from error

    async def aclose(self) -> None:
        self._response.close()
        # The transport's close callback runs on the loop's next turn; without it the socket outlives the caller.
        await asyncio.sleep(0)


class _GuardedPayload(BytesIOPayload):
    """A body that asks before it goes out; aiohttp keeps the headers back until then, to send both at once."""

    def __init__(self, body: bytes, guard: Callable[[], None]) -> None:
        super().__init__(BytesIO(body))
        self._guard = guard
        self.refusal: Exception | None = None

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        try:
            self._guard()
        except Exception as error:
            self.refusal = error
            raise
        await super().write_with_length(writer, content_length)


def _payload(request: Request) -> bytes | BytesIOPayload | AsyncIterator[bytes] | None:
    """Large bodies as files, which aiohttp sends in pieces: bytes it sends in one go, and warns of that."""
    body = request.body
    if body is not None and request.chunked:
        return _in_pieces(body)
    if body is None or len(body) < _LARGE_BODY:
        return body
    return BytesIOPayload(BytesIO(body))


async def _in_pieces(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), _LARGE_BODY):
        yield body[start : start + _LARGE_BODY]


def _broken(request: Request, error: Exception, *, sent: bool) -> TransportError:
    if isinstance(error, aiohttp.ClientResponseError):
        # It carries the request's headers, and shows them in its repr: what stays as the cause must not.
        asked = error.request_info
        error.request_info = aiohttp.RequestInfo(asked.url, asked.method, _NO_HEADERS, asked.real_url)
        error.args = (error.message,)
    timed_out = isinstance(error, TimeoutError)
    cause = "timed out" if timed_out else _cause(error)
    return TransportError(f"{request.describe()}: {cause}", sent=sent, timed_out=timed_out)


def _cause(error: Exception) -> str:
    """Why nothing came back; of a connection that could not be made, in the system's words."""
    if isinstance(error, aiohttp.ClientConnectorError) and not isinstance(error, aiohttp.ClientSSLError):
        why = error.os_error
        known = os.strerror(why.errno) if why.errno and why.errno > 0 else ""  # a host name's errors have numbers below
        return f"cannot connect to {error.host}:{error.port}: {known or why.strerror or why}"
    return str(error) or type(error).__name__


def _proxy(url: str | None) -> tuple[URL | None, dict[str, str]]:
    """The proxy, and apart from it its user and password: aiohttp's errors would show them with the URL."""
    if url is None:
        return None, {}
    full = URL(url)
    if not full.user and not full.password:
        return full, {}
    proof = base64.b64encode(f"{full.user or ''}:{full.password or ''}".encode()).decode()
    return full.with_user(None), {"Proxy-Authorization": f"Basic {proof}"}


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    lower: dict[str, str] = {}
    for name, value in headers.items():
        # Some, such as Warning, come several times.
        lower[name.lower()] = f"{lower[name.lower()]}, {value}" if name.lower() in lower else value
    return lower
