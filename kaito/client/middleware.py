"""Middleware: what happens around every call, as a chain of small functions around the transport."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias
from urllib.parse import urlsplit

from prometheus_client import CollectorRegistry, Counter, Histogram

from kaito.client.errors import TransportError
from kaito.client.transport import Request, Response

Handler: TypeAlias = Callable[[Request], Awaitable[Response]]
Middleware: TypeAlias = Callable[[Request, Handler], Awaitable[Response]]

log = logging.getLogger(__name__)

MAX_RETRIES = 10
MAX_WAIT_S = 10.0
RESET_WAIT_S = 1.0
RETRY_STATUSES = frozenset({429, 500, 502, 503, 504})
LATENCY_BUCKETS_S = (0.005, 0.025, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60)


def chain(middleware: Sequence[Middleware], handler: Handler) -> Handler:
    """Returns a handler that runs a request through the middleware, the first outermost, and then the handler."""
    for outer in reversed(middleware):
        handler = _bind(outer, handler)
    return handler


def _bind(outer: Middleware, inner: Handler) -> Handler:
    async def handle(request: Request) -> Response:
        return await outer(request, inner)

    return handle


class RetryMiddleware:
    """Tries again what is safe to try again (client-go's rules).

    429 and 5xx answers that carry Retry-After were refused before they took effect: any verb is sent again. A GET is
    also sent again when its connection broke, the first time at once (a kept connection that the server had closed);
    a write never is, since it may have happened. What timed out is not sent again: its caller has waited long enough.
    A 401 is tried once more with fresh credentials.

    Waits add up to at most `MAX_WAIT_S`: what the server wants to see later is the caller's to schedule, who gets the
    answer with its ``retry_after_s``, and does not hold a worker meanwhile.

    Args:
        rng: source of jitter; waits are 1 to 1.25 times what the server asked for.
    """

    def __init__(self, rng: random.Random | None = None) -> None:
        self._rng = rng or random.Random()

    async def __call__(self, request: Request, handler: Handler) -> Response:
        """Runs the request, at most `MAX_RETRIES` times more."""
        refreshed = False
        waited_s = 0.0
        for attempt in range(MAX_RETRIES):
            try:
                response = await handler(request)
            except TransportError as error:
                if request.is_write or not error.sent or error.timed_out:
                    raise
                await self._wait(RESET_WAIT_S if attempt else 0.0)
                continue
            if response.status == 401 and not refreshed:
                refreshed = True
                continue
            wait_s = _retry_after_s(response)
            if wait_s is None or waited_s + wait_s > MAX_WAIT_S:
                return response
            waited_s += wait_s
            log.info("request throttled", extra={"request": request.describe(), "wait_s": wait_s})
            await self._wait(wait_s)
        return await handler(request)

    async def _wait(self, seconds: float) -> None:
        await asyncio.sleep(seconds * (1 + 0.25 * self._rng.random()))


def _retry_after_s(response: Response) -> float | None:
    value = response.headers.get("retry-after", "")
    return float(value) if response.status in RETRY_STATUSES and value.isdigit() else None


class WarningMiddleware:
    """Logs each distinct ``Warning:`` header of the API server once."""

    def __init__(self, remember: int = 1000) -> None:
        self._seen: set[str] = set()
        self._remember = remember

    async def __call__(self, request: Request, handler: Handler) -> Response:
        """Runs the request and looks at the answer's headers."""
        response = await handler(request)
        warning = response.headers.get("warning")
        if warning and warning not in self._seen and len(self._seen) < self._remember:
            self._seen.add(warning)
            log.warning("API server warns", extra={"request": request.describe(), "warning": warning})
        return response


class MetricsMiddleware:
    """Counts and times requests under client-go's metric names.

    Args:
        registry: where the metrics are registered.
        host: base URL of the API server; its host and port become the label.
    """

    def __init__(self, registry: CollectorRegistry, host: str) -> None:
        self._host = urlsplit(host).netloc or host
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

    async def __call__(self, request: Request, handler: Handler) -> Response:
        """Runs the request and records its outcome."""
        began = time.perf_counter()
        code = "<error>"
        try:
            response = await handler(request)
            code = str(response.status)
            return response
        finally:
            self._requests.labels(code, request.method, self._host).inc()
            self._latency.labels(request.verb, self._host).observe(time.perf_counter() - began)
