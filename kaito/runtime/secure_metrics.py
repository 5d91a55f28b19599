"""SecureMetrics: /metrics over TLS, for those who the API server says may read it."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path

from kaito.client.client import Client
from kaito.runtime.access import Access
from kaito.runtime.clocks import utc_now
from kaito.runtime.probes import Guard
from kaito.runtime.scrape_access import NEEDS, ScrapeAccess
from kaito.runtime.service import Service
from kaito.runtime.webhook.certificates import (
    CertificateError,
    KeyPair,
    SwappableContext,
    issue,
    new_authority,
)
from kaito.runtime.webhook.sources import CertificateSource, Files, Material, TrustedSince

log = logging.getLogger(__name__)

SELF_SIGNED_FOR = timedelta(days=365)
SELF_SIGNED_POLL_S = 3600.0


class SecureMetrics(Service):
    """What the metrics server asks of whoever comes, and the certificate that it shows them.

    A service, so that its permissions are declared and its faults are known; `Manager` makes it.

    Args:
        client: asks the API server who may read; not from a cache.
        directory: with ``tls.crt`` and ``tls.key``, read again when they change; None: a certificate of our own making,
            which nobody can verify.
        clock: the time of day.
    """

    def __init__(
        self, client: Client, directory: str | Path | None = None, *, clock: Callable[[], datetime] = utc_now
    ) -> None:
        self._access = ScrapeAccess(client)
        self._source: CertificateSource = SelfSigned(clock) if directory is None else Files(directory)
        self._clock = clock
        self._tls = SwappableContext()
        self._serving: KeyPair | None = None
        # Written by the servers' thread, read by the manager's: whole values, each in one step.
        self._problem: str | None = "no certificate yet"
        self._expires: datetime | None = None

    @property
    def name(self) -> str:
        """See `Service.name`."""
        return "secure-metrics"

    @property
    def needs(self) -> Sequence[Access]:
        """See `Service.needs`."""
        return NEEDS

    def fault(self) -> str | None:
        """See `Service.fault`: there is no certificate, or it has expired."""
        if self._expires is None:
            return self._problem
        if self._clock() >= self._expires:
            return f"the certificate expired at {self._expires:%Y-%m-%d %H:%M:%S} UTC: {self._problem or 'renew it'}"
        return None

    async def run(self) -> None:
        """See `Service.run`: all of its work is done where the servers are."""
        await asyncio.get_running_loop().create_future()

    @property
    def guard(self) -> Guard:
        """See `kaito.runtime.servers.Security`."""
        return self._access.refusal

    @property
    def context(self) -> ssl.SSLContext:
        """See `kaito.runtime.servers.Security`. Until a certificate is there, every handshake fails."""
        return self._tls.context

    async def keep_fresh(self, looked: Callable[[], None]) -> None:
        """See `kaito.runtime.servers.Security`."""
        while True:
            await self._look()
            looked()
            await asyncio.sleep(self._source.poll_s)

    async def _look(self) -> None:
        try:
            pair = (await self._source.look((), _trusted)).serving
            if pair != self._serving:
                self._tls.load(pair)
                self._serving, self._expires = pair, pair.expires
                log.info("metrics are served with another certificate", extra={"expires": str(pair.expires)})
            self._problem = None
        except CertificateError as error:
            if self._problem != str(error):
                log.warning(
                    "no usable certificate for metrics; what was there before stays", extra={"error": str(error)}
                )
            self._problem = str(error)


class SelfSigned:
    """Certificates for this host by an authority that nobody knows; for a cluster's own network. In memory only.

    Args:
        clock: the time of day.
    """

    poll_s = SELF_SIGNED_POLL_S

    def __init__(self, clock: Callable[[], datetime] = utc_now) -> None:
        self._clock = clock
        self._pair: KeyPair | None = None

    @property
    def needs(self) -> Sequence[Access]:
        """None."""
        return ()

    async def look(self, names: Sequence[str], trusted_since: TrustedSince) -> Material:
        """See `CertificateSource.look`. Makes another one when a third of the time is left."""
        now = self._clock()
        if self._pair is None or self._pair.expires - now < SELF_SIGNED_FOR / 3:
            authority = new_authority("metrics", now, SELF_SIGNED_FOR)
            self._pair = issue(authority, [socket.gethostname(), "localhost", "127.0.0.1"], now, SELF_SIGNED_FOR)
        return Material(self._pair)


def _trusted(_authority: bytes) -> datetime | None:
    return None
