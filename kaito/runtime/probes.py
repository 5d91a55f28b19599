"""Probes: /healthz, /readyz, /metrics and /debug/queues as HTTP handlers that answer while the main loop is blocked."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from kaito.runtime.health import Checks, Report
from kaito.runtime.side_thread import MainLoop, Unanswered
from kaito.runtime.watchdog import Watchdog

# Kubernetes gives a probe one second, unless told otherwise.
ANSWER_S = 0.5
SCRAPE_S = 5.0

LOOP = "loop"
"""The check that the watchdog answers, whatever the loop does."""

Refusal = tuple[int, str]
Guard = Callable[[str, str, str], Awaitable[Refusal | None]]
"""Whether somebody (an Authorization header) may do something (a verb) at a path: None, or status and reason why not.

Called in the main loop.
"""


class HealthProbes:
    """Answers for some checks. They are asked in the main loop; while that is busy, what they said last counts, and
    once it is blocked, the watchdog's own check fails.

    Args:
        checks: what is asked.
        main_loop: where.
        watchdog: knows whether that is blocked.
        presumed_well: before the loop has ever answered, nothing has failed.
    """

    def __init__(self, checks: Checks, main_loop: MainLoop, watchdog: Watchdog, *, presumed_well: bool) -> None:
        self._presumed_well = presumed_well
        self._checks = checks
        self._main_loop = main_loop
        self._watchdog = watchdog
        self._last: dict[str, str | None] = {}

    def add_routes(self, app: web.Application, path: str) -> None:
        """Answers at a path, and below it for single checks."""
        app.router.add_get(path, self.all)
        app.router.add_get(f"{path}/{{name:.+}}", self.one)

    async def all(self, request: web.Request) -> web.Response:
        """All checks; ``?verbose``, ``?exclude=NAME`` (again and again), ``?format=json`` or an Accept header."""
        report = Report.of(await self._results(), request.query.getall("exclude", []))
        return _answer(request, report, verbose="verbose" in request.query)

    async def one(self, request: web.Request) -> web.Response:
        """One check, by its name."""
        name, results = request.match_info["name"], await self._results()
        if name not in results:
            return web.Response(status=404, text=f"no check is named {name}; there are: {', '.join(results)}\n")
        return _answer(request, Report({name: results[name]}), verbose="verbose" in request.query)

    async def _results(self) -> dict[str, str | None]:
        if (fault := self._watchdog.fault()) is not None:
            return {LOOP: fault, **self._last}
        try:
            self._last = await self._main_loop.ask(self._checks.results, ANSWER_S)
        except Unanswered as error:
            if not self._last and not self._presumed_well:
                return {LOOP: self._watchdog.fault(), "checks": f"not asked yet: {error}"}
        return {LOOP: self._watchdog.fault(), **self._last}


def _answer(request: web.Request, report: Report, *, verbose: bool) -> web.Response:
    status = 200 if report.passed else 503
    if request.query.get("format") == "json" or "application/json" in request.headers.get("Accept", ""):
        return web.Response(status=status, text=report.json(), content_type="application/json")
    return web.Response(status=status, text=report.text(verbose=verbose))


def metrics_handler(
    registry: CollectorRegistry, main_loop: MainLoop, guard: Guard | None
) -> Callable[[web.Request], Awaitable[web.Response]]:
    """Prints a registry. It is collected in one step of the main loop, whose thread alone changes what is in it.

    Args:
        registry: what is printed.
        main_loop: where it is collected.
        guard: says who may; None: everybody.
    """

    async def handle(request: web.Request) -> web.Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        try:
            if guard is not None and (refusal := await _refusal(main_loop, guard, request)) is not None:
                return web.Response(status=refusal[0], text=f"{refusal[1]}\n")
            body = await main_loop.ask(lambda: encode(registry), SCRAPE_S)
        except Unanswered as error:
            return web.Response(status=503, text=f"{error}; /healthz says more\n")
        return web.Response(body=body, headers={"Content-Type": content_type})

    return handle


async def _refusal(main_loop: MainLoop, guard: Guard, request: web.Request) -> Refusal | None:
    header, path, verb = request.headers.get("Authorization", ""), request.path, request.method.lower()

    async def ask() -> Refusal | None:
        return await guard(header, path, verb)

    return await main_loop.wait_for(ask, 2 * SCRAPE_S)


def debug_handler(
    describe: Callable[[], Mapping[str, object]], main_loop: MainLoop, watchdog: Watchdog
) -> Callable[[web.Request], Awaitable[web.Response]]:
    """Prints as JSON what a function in the main loop describes."""

    async def handle(_: web.Request) -> web.Response:
        try:
            text = await main_loop.ask(lambda: json.dumps(describe(), indent=1, default=str), SCRAPE_S)
        except Unanswered as error:
            return web.Response(status=503, text=f"{watchdog.fault() or error}\n")
        return web.Response(text=text, content_type="application/json")

    return handle
