"""ObservedTransport: what passes a transport is counted and timed, and the server's warnings are logged once."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Awaitable, Iterator, Mapping
from typing import Protocol, TypeVar
from urllib.parse import urlsplit

from prometheus_client import CollectorRegistry, Counter, Histogram

from kaito.client.transport import Request, Response, ResponseStream, Transport

log = logging.getLogger(__name__)

LATENCY_BUCKETS_S = (0.005, 0.025, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60)
REMEMBERED_WARNINGS = 1000

# warn-code, warn-agent, warn-text as a quoted string, and perhaps a date (RFC 7234, 5.5).
_WARNING = re.compile(r'(\d{3}) \S+ "((?:[^"\\]|\\.)*)"')


class _Answer(Protocol):
    @property
    def status(self) -> int: ...
    @property
    def headers(self) -> Mapping[str, str]: ...


A = TypeVar("A", bound=_Answer)


class ObservedTransport:
    """Watches every request of a transport, streams included, each try for itself.

    Counts and times them under client-go's names, ``rest_client_requests_total`` and
    ``rest_client_request_duration_seconds`` (of a stream: until its answer begins). Each distinct ``Warning: 299`` text
    of the API server, a deprecated version for one, is logged once.

    Args:
        transport: how requests travel.
        registry: where the metrics are registered; None: nothing is counted.
        host: base URL of the API server; its host and port become the label.
    """

    def __init__(self, transport: Transport, *, registry: CollectorRegistry | None = None, host: str = "") -> None:
        self._transport = transport
        self._metrics = _Metrics(registry, urlsplit(host).netloc or host) if registry is not None else None
        self._warned: dict[str, None] = {}

    def __repr__(self) -> str:
        return f"ObservedTransport({self._transport!r})"

    async def send(self, request: Request) -> Response:
        """See `Transport.send`."""
        return await self._observed(request, self._transport.send(request))

    async def stream(self, request: Request) -> ResponseStream:
        """See `Transport.stream`."""
        return await self._observed(request, self._transport.stream(request))

    async def aclose(self) -> None:
        """See `Transport.aclose`."""
        await self._transport.aclose()

    async def _observed(self, request: Request, answering: Awaitable[A]) -> A:
        began = time.perf_counter()
        code = "<error>"
        try:
            answer = await answering
            code = str(answer.status)
        finally:
            if self._metrics is not None:
                self._metrics.record(request, code, time.perf_counter() - began)
        for text in warnings(answer.headers.get("warning", "")):
            self._warn(request, text)
        return answer

    def _warn(self, request: Request, text: str) -> None:
        if text in self._warned:
            return
        self._warned[text] = None
        if len(self._warned) > REMEMBERED_WARNINGS:
            del self._warned[next(iter(self._warned))]
        log.warning("API server warns", extra={"request": request.describe(), "warning": text})


def warnings(header: str) -> Iterator[str]:
    """The texts of a Warning header that are meant for people: those with the code 299."""
    for code, text in _WARNING.findall(header):
        if code == "299":
            yield re.sub(r"\\(.)", r"\1", text)


class _Metrics:
    def __init__(self, registry: CollectorRegistry, host: str) -> None:
        self._host = host
        self._requests = Counter(
            "rest_client_requests",
            "Number of HTTP requests, partitioned by status code, method, and host.",
            ("code", "method", "host"),
            registry=registry,
        )
        self._latency = Histogram(
            "rest_client_request_duration_seconds",
            "Request latency in seconds. Broken down by verb, and host.",
            ("verb", "host"),
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        )

    def record(self, request: Request, code: str, seconds: float) -> None:
        self._requests.labels(code, request.method, self._host).inc()
        self._latency.labels(request.verb, self._host).observe(seconds)
