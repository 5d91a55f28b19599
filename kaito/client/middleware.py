"""Middleware: what happens around every call, as a chain of small functions around the transport."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

import msgspec
from prometheus_client import CollectorRegistry, Gauge, Histogram

from kaito.client.errors import TransportError, retry_after_s
from kaito.client.transport import CALL_CONNECTIONS, Request, Response

Handler: TypeAlias = Callable[[Request], Awaitable[Response]]
Middleware: TypeAlias = Callable[[Request, Handler], Awaitable[Response]]

log = logging.getLogger(__name__)

MAX_RETRIES = 10
MAX_WAIT_S = 10.0
RESET_WAIT_S = 1.0
RETRY_STATUSES = frozenset({429, 500, 502, 503, 504})
# Half the connections that calls have: however many writes are under way, a read finds one.
WRITES_IN_FLIGHT = CALL_CONNECTIONS // 2
WAIT_BUCKETS_S = (0.005, 0.025, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60)


def usual_middleware(
    *,
    outer: Sequence[Middleware] = (),
    inner: Sequence[Middleware] = (),
    rng: random.Random | None = None,
    registry: CollectorRegistry | None = None,
    writes_in_flight: int = WRITES_IN_FLIGHT,
) -> list[Middleware]:
    """Returns the chain that clients and managers have; the one place that says what stands around what.

    From the outside in:

    1. `outer`: sees each call once, whatever it takes.
    2. Retries.
    3. The limit of concurrent writes: inside retries, so that a write that waits for its next try holds no place.
    4. `inner`: sees each try. Read-your-writes floors stand here: a write that is cancelled while it waits for its
       place never happened, and must not leave its object in doubt.
    5. The transport, which is counted and timed (`kaito.client.observed`), as streams are that pass no middleware.

    Args:
        outer: run around all else.
        inner: run around each try.
        rng: source of jitter.
        registry: where metrics of the waiting go; None: nowhere.
        writes_in_flight: how many writes may be under way at a time.
    """
    return [*outer, RetryMiddleware(rng), WriteLimitMiddleware(writes_in_flight, registry), *inner]


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
    Expired credentials are the transport's to renew.

    Waits add up to at most `MAX_WAIT_S`: what the server wants to see later is the caller's to schedule, who gets the
    answer with its ``retry_after_s``, and does not hold a worker meanwhile.

    Args:
        rng: source of jitter; waits are 1 to 1.25 times what the server asked for.
    """

    def __init__(self, rng: random.Random | None = None) -> None:
        self._rng = rng or random.Random()

    async def __call__(self, request: Request, handler: Handler) -> Response:
        """Runs the request, at most `MAX_RETRIES` times more."""
        waited_s = 0.0
        for attempt in range(MAX_RETRIES):
            try:
                response = await handler(request)
            except TransportError as error:
                if request.is_write or not error.sent or error.timed_out:
                    raise
                await self._wait(RESET_WAIT_S if attempt else 0.0)
                continue
            wait_s = retry_after_s(response.headers) if response.status in RETRY_STATUSES else None
            if wait_s is None or waited_s + wait_s > MAX_WAIT_S:
                return response
            waited_s += wait_s
            log.info("request throttled", extra={"request": request.describe(), "wait_s": wait_s})
            await self._wait(wait_s)
        return await handler(request)

    async def _wait(self, seconds: float) -> None:
        await asyncio.sleep(seconds * (1 + 0.25 * self._rng.random()))


class WriteLimitMiddleware:
    """Lets so many writes be under way at a time, and the others wait, first come, first served.

    A controller that starts on thousands of objects would otherwise send all of its writes at once, and what the API
    server then refuses, or answers too late, has to be done again. Reads never wait here. What must not wait behind
    other writes, the renewal of a lease for one, needs a client of its own.

    Args:
        limit: how many writes, at least one; dry runs count.
        registry: where ``rest_client_rate_limiter_duration_seconds`` (client-go's name for the same wait) and
            ``rest_client_writes_waiting`` go; None: nowhere.

    Raises:
        ValueError: the limit lets nothing through.
    """

    def __init__(self, limit: int = WRITES_IN_FLIGHT, registry: CollectorRegistry | None = None) -> None:
        if limit < 1:
            raise ValueError(f"WriteLimitMiddleware: limit {limit}: must be at least 1")
        self._places = asyncio.Semaphore(limit)
        self._metrics = _WaitMetrics(registry) if registry is not None else None

    async def __call__(self, request: Request, handler: Handler) -> Response:
        """Runs the request when its turn comes. Cancelled while it waits, it was never sent, and holds nobody up."""
        if not request.is_write:
            return await handler(request)
        await self._take_place(request)
        try:
            return await handler(request)
        finally:
            self._places.release()

    async def _take_place(self, request: Request) -> None:
        if self._metrics is None:
            await self._places.acquire()
            return
        loop = asyncio.get_running_loop()
        began = loop.time()
        with self._metrics.waiting.track_inprogress():
            await self._places.acquire()
        self._metrics.waited.labels(request.verb).observe(loop.time() - began)


class _WaitMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self.waiting = Gauge("rest_client_writes_waiting", "Writes that wait for their turn.", registry=registry)
        self.waited = Histogram(
            "rest_client_rate_limiter_duration_seconds",
            "How long writes waited for their turn, in seconds. Broken down by verb.",
            ("verb",),
            buckets=WAIT_BUCKETS_S,
            registry=registry,
        )


async def dry_run(request: Request, handler: Handler) -> Response:
    """Middleware that makes every write a dry run: the API server checks and answers, and stores nothing."""
    if request.is_write and ("dryRun", "All") not in request.query:
        request = dataclasses.replace(request, query=(*request.query, ("dryRun", "All")))
        if request.method == "DELETE" and request.body:
            # The server takes options from the body, where there is one, and then ignores those of the query.
            options = msgspec.json.decode(request.body) | {"dryRun": ["All"]}
            request = dataclasses.replace(request, body=msgspec.json.encode(options))
    return await handler(request)
