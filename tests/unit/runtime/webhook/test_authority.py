"""The Secret of our own authority: who makes it, who shares it, and what becomes of one that was tampered with."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import ssl
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from kaito.client import Client
from kaito.kube.admissionregistration_v1 import ValidatingWebhookConfiguration
from kaito.kube.core_v1 import Secret
from kaito.kube.object_key import ObjectKey
from kaito.runtime.clocks import utc_now
from kaito.runtime.webhook import AtUrl, Installed, OwnAuthority, Policy, Webhook
from kaito.runtime.webhook.authority import OURS
from kaito.runtime.webhook.certificates import CertificateError, KeyPair, names_of, new_authority, parse
from kaito.testing import eventually
from tests.unit.runtime.webhook.reviews import Gadget, gadget, review
from tests.unit.runtime.webhook.serving import NAMES, Host, post, running

KEY = ObjectKey("keys", "default")
PATH = "/api/v1/namespaces/default/secrets"


@pytest.fixture
def host() -> Host:
    host = Host()
    host.api.register(Secret)
    return host


def never(_authority: bytes) -> None:
    return None


def source(host: Host, **options: Any) -> OwnAuthority:
    return OwnAuthority(Client(host.api.transport(), field_owner="gadgets"), KEY, **options)


async def test_whoever_comes_first_makes_the_secret_and_all_serve_the_same(host: Host) -> None:
    first, second = source(host), source(host)

    materials = await asyncio.gather(first.look(NAMES, never), second.look(NAMES, never))

    assert materials[0] == materials[1]
    assert names_of(materials[0].serving.parsed) == set(NAMES)
    secret = host.get(f"{PATH}/keys")
    assert sorted(secret["data"]) == ["ca.crt", "ca.key", "tls.crt", "tls.key"]
    assert secret["metadata"]["labels"] == {OURS: "true"}


async def test_a_look_at_what_is_in_order_writes_nothing(host: Host) -> None:
    it = source(host)
    await it.look(NAMES, never)
    version = host.get(f"{PATH}/keys")["metadata"]["resourceVersion"]

    await it.look(NAMES, never)
    await source(host).look(NAMES, never)

    assert host.get(f"{PATH}/keys")["metadata"]["resourceVersion"] == version


async def test_a_secret_that_was_deleted_comes_back_from_memory(host: Host) -> None:
    it = source(host)
    before = await it.look(NAMES, never)
    host.api.call("DELETE", f"{PATH}/keys")

    assert await it.look(NAMES, never) == before
    assert await source(host).look(NAMES, never) == before


def spoil(host: Host, change: Callable[[dict[str, Any]], object], labels: dict[str, str] | None = None) -> None:
    secret = host.get(f"{PATH}/keys")
    change(secret["data"])
    if labels is not None:
        secret["metadata"]["labels"] = labels
    host.api.call("PUT", f"{PATH}/keys", secret)


def other_key() -> str:
    return base64.b64encode(new_authority("x", utc_now(), timedelta(days=1)).key).decode()


def without_a_known_curve(name: str) -> Callable[[dict[str, Any]], object]:
    """P-256 becomes a curve that does not exist: well-formed, and of no use to anybody."""

    def change(data: dict[str, Any]) -> None:
        begin, middle, end = re.split(rb"(?<=-----\n)|(?=-----END)", base64.b64decode(data[name]), maxsplit=2)
        der = base64.b64decode(middle).replace(
            bytes.fromhex("06082a8648ce3d030107"), bytes.fromhex("06082a8648ce3d03017f")
        )
        data[name] = base64.b64encode(begin + base64.encodebytes(der) + end).decode()

    return change


SPOILT: list[tuple[Callable[[dict[str, Any]], object], str]] = [
    (lambda data: data.pop("tls.key"), "tls.key is missing"),
    (lambda data: data.update({"ca.crt": "AAAA"}), "no PEM certificate"),
    (lambda data: data.update({"tls.key": other_key()}), "the certificate and the key do not belong together"),
    (lambda data: data.update({"ca.key": other_key()}), "ca.key belongs to no certificate in ca.crt"),
    (lambda data: data.update({"tls.key": base64.b64encode(b"x").decode()}), "no PEM key"),
    (without_a_known_curve("ca.key"), "ca.key belongs to no certificate"),
    (without_a_known_curve("tls.key"), "no PEM key"),
    (without_a_known_curve("tls.crt"), "no key that is known here"),
]


@pytest.mark.parametrize(("change", "why"), SPOILT)
async def test_our_secret_that_was_spoilt_is_put_right_from_memory_or_made_anew(
    host: Host, change: Callable[[dict[str, Any]], object], why: str, caplog: pytest.LogCaptureFixture
) -> None:
    it = source(host)
    before = await it.look(NAMES, never)

    spoil(host, change)
    assert await it.look(NAMES, never) == before
    assert any(why in str(getattr(record, "why", "")) for record in caplog.records)

    spoil(host, change)
    anew = await source(host).look(NAMES, never)
    assert anew.authorities != before.authorities
    assert await it.look(NAMES, never) == anew


@pytest.mark.parametrize(("change", "why"), SPOILT)
async def test_a_secret_that_is_not_ours_is_left_alone_and_named(
    host: Host, change: Callable[[dict[str, Any]], object], why: str
) -> None:
    await source(host).look(NAMES, never)
    spoil(host, change, labels={})
    before = host.get(f"{PATH}/keys")

    with pytest.raises(CertificateError, match=rf"Secret default/keys: .*{why}.*delete it, or choose another name"):
        await source(host).look(NAMES, never)
    assert host.get(f"{PATH}/keys") == before


async def test_a_secret_that_was_made_empty_beforehand_is_filled(host: Host) -> None:
    host.api.call("POST", PATH, {"metadata": {"name": "keys", "labels": {"chart": "x"}}})

    material = await source(host).look(NAMES, never)

    secret = host.get(f"{PATH}/keys")
    assert base64.b64decode(secret["data"]["tls.crt"]) == material.serving.certificate
    assert secret["metadata"]["labels"] == {"chart": "x", OURS: "true"}


def test_keys_show_in_no_repr() -> None:
    pair = new_authority("x", utc_now(), timedelta(days=1))

    assert "PRIVATE" not in repr(pair)
    assert "PRIVATE" in pair.key.decode()


class Clock:
    """The time of day, some days ago."""

    def __init__(self, days: float) -> None:
        self.days = days

    def __call__(self) -> datetime:
        return utc_now() - timedelta(days=self.days)


POLICY = Policy(timedelta(days=90), timedelta(days=80))


async def test_t83_an_authority_is_replaced_under_load_on_two_replicas_without_one_failed_handshake(
    host: Host,
) -> None:
    # What is made 62 days ago is still valid today, and due for renewal today: clients check against the real time.
    clock = Clock(62)
    other = Host(api=host.api)
    webhook = Webhook(Gadget, validate=lambda _obj, _request: None)
    failures: list[Exception] = []
    served: set[bytes] = set()
    reviews = 0
    done = asyncio.Event()

    async def api_server(server: Any) -> None:
        """Trusts what the configuration says at the moment, and calls on a new connection each time."""
        nonlocal reviews
        while not done.is_set():
            configuration = await host.api_reader.get(ValidatingWebhookConfiguration, ObjectKey("gadgets"))
            bundle = base64.b64decode(configuration.webhooks[0].client_config.ca_bundle or "")
            try:
                trust = ssl.create_default_context(cadata=bundle.decode())
                status, body = await post(server, trust, review(obj=gadget()))
                assert status == 200
                assert json.loads(body)["response"]["allowed"]
                reviews += 1
                served.add(server._serving.certificate)
            except Exception as error:
                failures.append(error)

    def certificates(of: Host) -> OwnAuthority:
        return OwnAuthority(of.api_reader, KEY, policy=POLICY, poll_s=0.02, clock=clock)

    async def coming() -> bool:
        return "next-ca.crt" in (await host.api_reader.get(Secret, KEY)).data

    def replaced() -> bool:
        clock.days -= 1 / 1440  # a minute on, until it was trusted for long enough
        return one._serving == two._serving and _issuer(one._serving) != _issuer(first)

    async with (
        running(host, webhook, certificates=certificates(host), keeper=Installed(), clock=clock) as one,
        running(other, webhook, certificates=certificates(other), keeper=Installed(), clock=clock) as two,
        asyncio.TaskGroup() as load,
    ):
        for server in (one, two, one, two):
            load.create_task(api_server(server))
        await eventually(lambda: reviews > 8)
        first = one._serving
        assert first is not None
        clock.days = 0
        await eventually(coming)
        await eventually(replaced)
        seen = reviews
        await eventually(lambda: reviews > seen + 8)
        done.set()

    assert failures == []
    assert len({parse(certificate)[0].issuer for certificate in served}) == 2


def _issuer(pair: KeyPair | None) -> object:
    return pair and pair.parsed.issuer


async def test_an_expired_certificate_is_a_fault_and_one_that_cannot_be_renewed_yet_is_none(host: Host) -> None:
    clock = Clock(62)
    certificates = OwnAuthority(host.api_reader, KEY, policy=POLICY, poll_s=0.02, clock=clock)
    webhook = Webhook(Gadget, validate=lambda _obj, _request: None)
    async with running(host, webhook, certificates=certificates, keeper=Installed(), clock=clock) as server:
        spoil(host, lambda data: data.pop("tls.key"), labels={})
        await eventually(lambda: server._certificate_fault is not None)
        assert server.fault() is None
        clock.days = -40
        assert "the certificate expired at" in (server.fault() or "")
        assert "delete it, or choose another name" in (server.fault() or "")
        expiry = host.sample("controller_webhook_certificate_expiry_seconds")
        assert expiry == pytest.approx((utc_now() + timedelta(days=18)).timestamp(), abs=10)


def test_a_url_names_its_host() -> None:
    assert AtUrl("https://10.1.2.3:9443/x/").names == ("10.1.2.3",)
    assert AtUrl("https://10.1.2.3:9443/x/").client_config("/validate-a") == {
        "url": "https://10.1.2.3:9443/x/validate-a"
    }
