"""WebhookServer: answers admission reviews over TLS, and keeps its certificate and configuration in order."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from functools import partial
from typing import Protocol

from aiohttp import web
from prometheus_client import CollectorRegistry
from pydantic import ValidationError

from kaito.client.client import Client
from kaito.client.errors import KubeError
from kaito.runtime.access import Access
from kaito.runtime.clocks import utc_now
from kaito.runtime.servers import Address, CannotListen, parse_address
from kaito.runtime.service import Service, Stage
from kaito.runtime.webhook.admission import Webhook
from kaito.runtime.webhook.certificates import CertificateError, KeyPair, SwappableContext
from kaito.runtime.webhook.configuration import Installed, Keeper
from kaito.runtime.webhook.conversion import ConversionEndpoint, Converter
from kaito.runtime.webhook.endpoint import Answer, Endpoint, Served
from kaito.runtime.webhook.identity import own_service_account
from kaito.runtime.webhook.metrics import WebhookMetrics
from kaito.runtime.webhook.reach import Reach
from kaito.runtime.webhook.sources import CertificateSource, Material

log = logging.getLogger(__name__)

_BODY_S = 30.0
_DIAL_S = 5.0
_IDLE_S = 300.0  # longer than the API server keeps idle connections (90 s), so that no request meets one just closed
_UNREAD_S = 0.5  # how long a sender may go on who was told that it is too much
_FIRST_RETRY_S = 0.5


class Host(Protocol):
    """What of a manager a server needs."""

    @property
    def name(self) -> str:
        """In names of configurations, and the field owner."""
        ...

    @property
    def api_reader(self) -> Client:
        """Reads live."""
        ...

    @property
    def registry(self) -> CollectorRegistry:
        """Where metrics go."""
        ...


class WebhookServer(Service):
    """Serves webhooks: ``manager.add(WebhookServer(manager, Webhook(Widget, validate=check), …))``.

    Not ready before the configuration is in place with our authority, and the listener answers by our certificate. When
    stopped, it goes on for `linger_s`, while connections are let go of; then it listens no more, and what is being
    judged has `drain_s` to end.

    Args:
        host: the manager.
        webhooks: what is served; each kind and role once.
        reached: how the API server gets here: `InService` or `AtUrl`.
        certificates: where certificates come from: `OwnAuthority` or `Files`.
        configuration: who keeps the webhook configurations; default: we install them (`Installed`).
        conversions: kinds whose versions are converted here, at ``/convert``; `Conversion`.
        address: where it listens, such as ``:9443``.
        linger_s: seconds between the wish to stop and the end of listening.
        drain_s: seconds that reviews in progress then have.
        needs: permissions that judging takes, beside those that the server itself needs.
        after: what must come before the first verdict, such as the load of what verdicts rest on: nothing listens until
            then, so that the API server asks another replica, or refuses. Other stages wait no longer than ever.
        clock: the time of day.

    Raises:
        ValueError: the address is malformed or none, or a kind has two webhooks in one role.
    """

    stage = Stage.WEBHOOKS

    def __init__(
        self,
        host: Host,
        *webhooks: Webhook,
        reached: Reach,
        certificates: CertificateSource,
        configuration: Keeper | None = None,
        conversions: Sequence[Converter] = (),
        address: str = ":9443",
        linger_s: float = 2.0,
        drain_s: float = 10.0,
        needs: Sequence[Access] = (),
        after: Callable[[], Awaitable[None]] | None = None,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        parsed = parse_address(address)
        if parsed is None:
            raise ValueError(f"WebhookServer: address {address!r}: expected HOST:PORT or :PORT")
        self._client = host.api_reader
        self._address = parsed
        self._names = reached.names
        self._certificates = certificates
        self._metrics = WebhookMetrics(host.registry)
        self._endpoints = _endpoints(webhooks, conversions, self._metrics)
        self._keeper = configuration or Installed()
        self._keeper.bind(host.api_reader, host.name, reached, webhooks, self._metrics, clock)
        self._linger_s, self._drain_s = linger_s, drain_s
        self._judging_needs = tuple(needs)
        self._after = after
        self._clock = clock
        self._tls = SwappableContext()
        self._serving: KeyPair | None = None
        self._expires = datetime.max
        self._certificate_fault: str | None = "no certificate yet"
        self._answers_as: Material | None = None
        self._dial_fault: str | None = "the listener was not tried yet"
        self._state = "not listening yet"
        self._begun = asyncio.Event()
        self._wake = asyncio.Event()
        self.bound: Address | None = None

    @property
    def name(self) -> str:
        """See `Service.name`."""
        return "webhooks"

    @property
    def needs(self) -> Sequence[Access]:
        """Certificates and configurations, where they are ours to keep, and what judging takes."""
        return (*self._certificates.needs, *self._keeper.needs, *self._judging_needs)

    def fault(self) -> str | None:
        """See `Service.fault`. Trouble that does not touch what is served is logged, and no fault."""
        if self._state:
            return self._state
        if self._serving is None:
            return self._certificate_fault
        if self._clock() >= self._expires:
            why = self._certificate_fault or "renewal is under way"
            return f"the certificate expired at {self._expires:%Y-%m-%d %H:%M:%S} UTC: {why}"
        return self._dial_fault or self._keeper.fault

    async def started(self) -> None:
        """Returns once it listens and has a certificate."""
        await self._begun.wait()

    async def run(self) -> None:
        """Serves until cancelled.

        Raises:
            CannotListen: the address is taken or not ours.
        """
        if self._after is not None:
            await self._after()
        runner = web.AppRunner(
            self._app(),
            access_log=None,
            shutdown_timeout=self._drain_s,
            keepalive_timeout=_IDLE_S,
            lingering_time=_UNREAD_S,
            handle_signals=False,
        )
        await runner.setup()
        try:
            await self._listen(runner)
            self._state = ""
            async with asyncio.TaskGroup() as group:
                group.create_task(self._tend(), name="webhook certificates and configuration")
                group.create_task(self._keeper.watch(self._wake), name="webhook configuration watch")
        finally:
            self._state = "stopping"
            try:
                await self._let_go()
            finally:
                await runner.cleanup()
                self.bound = None
                await self._end_abandoned()

    async def _listen(self, runner: web.AppRunner) -> None:
        host, port = self._address
        try:
            await web.TCPSite(runner, host, port, ssl_context=self._tls.context).start()
        except OSError as error:
            raise CannotListen(error, ("webhook",), self._address) from error
        bound, at = runner.addresses[0][:2]
        self.bound = Address(str(bound), int(at))
        log.info("webhook server listens", extra={"address": str(self.bound)})

    async def _let_go(self) -> None:
        """Answers on, until those who would connect have heard that we are not ready."""
        if self._begun.is_set() and self.bound is not None:
            await asyncio.sleep(self._linger_s)

    async def _end_abandoned(self) -> None:
        """Waits for code that was cancelled when its time was up, and holds on; for a bounded time."""
        try:
            async with asyncio.timeout(self._drain_s):
                for endpoint in self._endpoints.values():
                    await endpoint.aclose()
        except TimeoutError:
            log.warning("webhook code that was cancelled goes on", extra={"drain_s": self._drain_s})

    async def _tend(self) -> None:
        retry_s = _FIRST_RETRY_S
        while True:
            self._wake.clear()
            ok = await self._look_after()
            poll_s = self._certificates.poll_s
            wait_s = min(poll_s if ok else retry_s, poll_s, self._keeper.due_s())
            retry_s = _FIRST_RETRY_S if ok else 2 * retry_s
            try:
                async with asyncio.timeout(wait_s):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def _look_after(self) -> bool:
        """One round: certificate, listener, configuration. Whether all went well."""
        try:
            material = await self._certificates.look(self._names, self._keeper.trusted_since)
            self._take(material)
        except (CertificateError, KubeError, ValidationError) as error:
            if self._certificate_fault != str(error):
                log.warning("no new webhook certificate", extra={"why": str(error)})
            self._certificate_fault = str(error)
            return False
        self._certificate_fault = None
        await self._dial(material)
        await self._find_own_name()
        kept = await self._keeper.keep(material.authorities)
        return kept and self._dial_fault is None

    def _take(self, material: Material) -> None:
        if material.serving == self._serving:
            return
        self._tls.load(material.serving)
        self._serving = material.serving
        self._expires = material.serving.expires
        self._metrics.expiry.labels().set(self._expires.timestamp())
        self._begun.set()
        log.info("webhook certificate loaded", extra={"expires": self._expires.isoformat()})

    async def _dial(self, material: Material) -> None:
        """Calls itself as the API server would, once for each certificate."""
        if material == self._answers_as or self.bound is None:
            return
        host = self.bound.host if self.bound.host not in ("0.0.0.0", "::", None) else "localhost"
        try:
            context = _client_context(material)
            async with asyncio.timeout(_DIAL_S):
                _, writer = await asyncio.open_connection(
                    host, self.bound.port, ssl=context, server_hostname=self._names[0]
                )
            writer.close()
        except (OSError, ssl.SSLError, TimeoutError) as error:
            fault = f"the listener on {self.bound} does not answer as {self._names[0]}: {error!r}"
            if fault != self._dial_fault:
                log.warning("webhook listener does not answer", extra={"why": fault})
            self._dial_fault = fault
            return
        self._dial_fault, self._answers_as = None, material

    async def _find_own_name(self) -> None:
        if self._keeper.own_user is None:
            self._keeper.own_user = await own_service_account(self._client)
            for endpoint in self._endpoints.values():
                endpoint.own_user = self._keeper.own_user or ""

    def _app(self) -> web.Application:
        app = web.Application()
        for endpoint in self._endpoints.values():
            app.router.add_post(endpoint.path, partial(self._handle, endpoint))
        return app

    async def _handle(self, endpoint: Served, request: web.Request) -> web.Response:
        now = asyncio.get_running_loop().time
        began, code = now(), 500
        endpoint.metrics.began()
        try:
            answer = await _answer(endpoint, request)
            code = answer.code
        finally:
            endpoint.metrics.ended(code, now() - began)
        response = web.Response(status=code, body=answer.body, content_type=answer.content_type)
        if self._state:
            response.force_close()  # the next request is better sent to another replica
        return response


async def _answer(endpoint: Served, request: web.Request) -> Answer:
    if request.content_type != "application/json" or (request.charset or "utf-8").lower() not in ("utf-8", "utf8"):
        given = request.headers.get("Content-Type", "none")
        return Answer.sentence(400, f"content type {given}: expected application/json")
    limit = endpoint.limit_bytes
    if (request.content_length or 0) > limit:
        return _too_large(limit)
    try:
        async with asyncio.timeout(_BODY_S):
            body = await request.clone(client_max_size=limit).read()
    except web.HTTPRequestEntityTooLarge:
        return _too_large(limit)
    except TimeoutError:
        return Answer.sentence(408, f"the body did not come within {_BODY_S:.0f} s")
    return await endpoint.answer(body, _seconds(request.query.get("timeout", "")))


def _too_large(limit: int) -> Answer:
    return Answer.sentence(413, f"the body is larger than {limit} bytes, which is the limit")


def _seconds(text: str) -> float | None:
    """Reads the timeout that the API server adds to the URL, ``10s``; other forms of durations it does not use."""
    number = text.removesuffix("s")
    return float(number) if number.replace(".", "", 1).isdecimal() else None


def _endpoints(
    webhooks: Sequence[Webhook], conversions: Sequence[Converter], metrics: WebhookMetrics
) -> dict[str, Served]:
    endpoints: dict[str, Served] = {}
    if conversions:
        converting = ConversionEndpoint(conversions, metrics)
        endpoints[converting.path] = converting
    for webhook in webhooks:
        for role in webhook.parts:
            path = webhook.path(role)
            if path in endpoints:
                raise ValueError(f"WebhookServer: two webhooks {role} {webhook.place.group_kind}; make them one")
            endpoints[path] = Endpoint(webhook, role, metrics)
    return endpoints


def _client_context(material: Material) -> ssl.SSLContext:
    if material.authorities:
        return ssl.create_default_context(cadata=material.authorities.decode())
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # whoever installs the configuration knows whom to trust
    return context
