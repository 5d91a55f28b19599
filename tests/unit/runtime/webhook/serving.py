"""What the tests of the server stand on: certificates in a directory, a running server, and a client over TLS."""

from __future__ import annotations

import asyncio
import io
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
from prometheus_client import CollectorRegistry

from kaito.client import Client
from kaito.kube.admissionregistration_v1 import MutatingWebhookConfiguration, ValidatingWebhookConfiguration
from kaito.runtime.clocks import utc_now
from kaito.runtime.webhook import AtUrl, CertificateSource, Keeper, Unmanaged, Webhook, WebhookServer
from kaito.runtime.webhook.certificates import KeyPair, issue, new_authority
from kaito.testing import eventually
from kaito.testing.fake_api import FakeApi

PATH = "/validate-example-com-v1-gadget"
NAMES = ("127.0.0.1", "localhost")


def authority(days: float = 1) -> KeyPair:
    return new_authority("tests", utc_now(), timedelta(days=days))


def serving(ca: KeyPair, days: float = 1) -> KeyPair:
    return issue(ca, NAMES, utc_now(), timedelta(days=days))


def write(directory: Path, pair: KeyPair, ca: KeyPair | None = None) -> Path:
    """Delete-then-create, as people and scripts do."""
    files = {"tls.crt": pair.certificate, "tls.key": pair.key}
    for name, content in (files | ({"ca.crt": ca.certificate} if ca else {})).items():
        (directory / name).unlink(missing_ok=True)
        (directory / name).write_bytes(content)
    return directory


def mount(directory: Path, pair: KeyPair, version: str) -> Path:
    """A symbolic link that is swapped, as the kubelet does."""
    data = directory / f"..{version}"
    data.mkdir()
    write(data, pair)
    os.symlink(data.name, directory / "..data_tmp")
    os.replace(directory / "..data_tmp", directory / "..data")
    for name in ("tls.crt", "tls.key"):
        if not (directory / name).is_symlink():
            os.symlink(f"..data/{name}", directory / name)
    return directory


@dataclass
class Host:
    """What of a manager a server needs."""

    api: FakeApi = field(default_factory=FakeApi)
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    name: str = "gadgets"

    def __post_init__(self) -> None:
        keys = {"webhooks": ("name",), "webhooks.matchConditions": ("name",)}
        for kind in (ValidatingWebhookConfiguration, MutatingWebhookConfiguration):
            self.api.register(kind, merge_keys=keys)
        self.api_reader = Client(self.api.transport(), field_owner=self.name)

    def get(self, path: str) -> dict[str, Any]:
        """What the API server has."""
        return deepcopy(self.api.call("GET", path))

    def sample(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, labels)


@asynccontextmanager
async def running(
    host: Host, *webhooks: Webhook, certificates: CertificateSource, keeper: Keeper | None = None, **options: Any
) -> AsyncIterator[WebhookServer]:
    options = {"address": "127.0.0.1:0", "linger_s": 0.0, "reached": AtUrl("https://127.0.0.1:9443"), **options}
    server = WebhookServer(host, *webhooks, certificates=certificates, configuration=keeper or Unmanaged(), **options)
    task = asyncio.create_task(server.run())
    try:
        await eventually(lambda: server.fault() is None, message="ready", interval_s=0.01)
        yield server
    finally:
        await stopped(task)


async def stopped(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.result()


def trusting(*authorities: KeyPair, newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=b"".join(ca.certificate for ca in authorities).decode())
    context.maximum_version = newest
    return context


async def post(
    server: WebhookServer,
    trust: ssl.SSLContext,
    body: bytes,
    content_type: str = "application/json",
    path: str = f"{PATH}?timeout=10s",
) -> tuple[int, bytes]:
    """One review on a connection of its own: a handshake each time."""
    assert server.bound is not None
    url = f"https://127.0.0.1:{server.bound.port}{path}"
    connector = aiohttp.TCPConnector(ssl=trust, force_close=True)
    async with aiohttp.ClientSession(connector=connector) as session:
        headers = {"Content-Type": content_type} if content_type else {}
        async with session.post(
            url, data=io.BytesIO(body), headers=headers, skip_auto_headers=["Content-Type"]
        ) as response:
            return response.status, await response.read()
