"""The server on the wire: what HTTP and TLS clients see of it, when it is ready, and how it stops."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from kaito.kube.object_key import ObjectKey
from kaito.runtime.servers import CannotListen
from kaito.runtime.service import Stage
from kaito.runtime.webhook import (
    AdmissionRequest,
    AtUrl,
    Denied,
    Files,
    InService,
    OwnAuthority,
    Unmanaged,
    Webhook,
    WebhookServer,
)
from kaito.runtime.webhook.certificates import KeyPair
from kaito.runtime.webhook.endpoint import LIMIT_BYTES
from kaito.testing import eventually
from tests.unit.runtime.webhook.reviews import Gadget, gadget, review
from tests.unit.runtime.webhook.serving import (
    PATH,
    Host,
    authority,
    mount,
    post,
    running,
    serving,
    stopped,
    trusting,
    write,
)


def small(obj: Gadget, _request: AdmissionRequest) -> None:
    if obj.spec.size > 10:
        raise Denied(message="too big")


SMALL = Webhook(Gadget, validate=small)


@pytest.fixture
def ca() -> KeyPair:
    return authority()


@pytest.fixture
def files(tmp_path: Path, ca: KeyPair) -> Files:
    return Files(write(tmp_path, serving(ca), ca), poll_s=0.02)


@pytest.fixture
def host() -> Host:
    return Host()


@pytest.fixture
async def server(host: Host, files: Files) -> AsyncIterator[WebhookServer]:
    async with running(host, SMALL, certificates=files) as it:
        yield it


async def test_reviews_are_answered_over_tls(server: WebhookServer, ca: KeyPair) -> None:
    status, body = await post(server, trusting(ca), review(obj=gadget(size=11)))

    assert status == 200
    assert json.loads(body)["response"]["status"]["message"] == "too big"


@pytest.mark.parametrize(
    ("content_type", "body", "status", "text"),
    [
        ("application/json; charset=utf-8", review(obj=gadget()), 200, "allowed"),
        ("application/json;charset=UTF-8", review(obj=gadget()), 200, "allowed"),
        ("text/plain", review(obj=gadget()), 400, "content type text/plain: expected application/json"),
        ("application/json; charset=latin-1", review(obj=gadget()), 400, "expected application/json"),
        ("", review(obj=gadget()), 400, "content type none: expected application/json"),
        ("application/json", b"", 400, "the body is empty"),
        ("application/json", b"\xff\xfe", 400, "no AdmissionReview"),
        ("application/json", b" " * (LIMIT_BYTES + 1), 413, f"larger than {LIMIT_BYTES} bytes"),
    ],
)
async def test_t80_what_http_asks_for_is_held_to(
    server: WebhookServer, host: Host, ca: KeyPair, content_type: str, body: bytes, status: int, text: str
) -> None:
    answer = await post(server, trusting(ca), body, content_type)

    assert answer[0] == status
    assert text in answer[1].decode()
    assert host.sample("controller_runtime_webhook_requests_total", webhook=PATH, code=str(status)) == 1


async def test_t80_a_body_that_does_not_say_how_long_it_is_is_bounded_too(server: WebhookServer, ca: KeyPair) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(8):
            yield b" " * 1024 * 1024

    assert server.bound is not None
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trusting(ca))) as session,
        session.post(
            f"https://127.0.0.1:{server.bound.port}{PATH}",
            data=endless(),
            headers={"Content-Type": "application/json"},
        ) as response,
    ):
        assert response.status == 413


async def test_a_review_of_almost_the_limit_is_read(server: WebhookServer, ca: KeyPair) -> None:
    obj = gadget(size=11, filler="x" * (LIMIT_BYTES - 2000))

    status, body = await post(server, trusting(ca), review(obj=obj))

    assert (status, json.loads(body)["response"]["allowed"]) == (200, False)


async def test_metrics_count_and_time_requests(server: WebhookServer, host: Host, ca: KeyPair) -> None:
    assert host.sample("controller_runtime_webhook_requests_total", webhook=PATH, code="500") == 0
    await post(server, trusting(ca), review(obj=gadget()))

    assert host.sample("controller_runtime_webhook_requests_total", webhook=PATH, code="200") == 1
    assert host.sample("controller_runtime_webhook_latency_seconds_count", webhook=PATH) == 1
    assert host.sample("controller_runtime_webhook_requests_in_flight", webhook=PATH) == 0
    assert host.sample("controller_runtime_webhook_panics_total") == 0


async def test_other_paths_and_methods_are_not_served(server: WebhookServer, ca: KeyPair) -> None:
    assert (await post(server, trusting(ca), b"{}", path="/mutate-example-com-v1-gadget"))[0] == 404
    assert server.bound is not None
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trusting(ca))) as session,
        session.get(f"https://127.0.0.1:{server.bound.port}{PATH}") as response,
    ):
        assert response.status == 405


async def shake(server: WebhookServer, context: ssl.SSLContext, host: str = "127.0.0.1") -> tuple[str, bytes]:
    """One handshake: the version of TLS, and the certificate."""
    assert server.bound is not None
    _, writer = await asyncio.open_connection("127.0.0.1", server.bound.port, ssl=context, server_hostname=host)
    tls = writer.get_extra_info("ssl_object")
    version, certificate = tls.version(), tls.getpeercert(binary_form=True)
    writer.close()
    await writer.wait_closed()
    return version, certificate


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
async def test_tls_is_1_2_or_newer_with_and_without_a_host_name(server: WebhookServer, ca: KeyPair, name: str) -> None:
    assert (await shake(server, trusting(ca), name))[0] == "TLSv1.3"
    assert (await shake(server, trusting(ca, newest=ssl.TLSVersion.TLSv1_2), name))[0] == "TLSv1.2"
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(OSError, match=r"(?i)protocol|reset|alert|closed"):
        await shake(server, old, name)


async def test_clients_that_trust_somebody_else_refuse_us(server: WebhookServer) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        await shake(server, trusting(authority()))


async def serves(server: WebhookServer, ca: KeyPair) -> bool:
    try:
        return bool(await shake(server, trusting(ca)))
    except ssl.SSLError:
        return False


async def test_t83_files_that_are_deleted_and_created_are_served_and_a_broken_state_between_is_not(
    host: Host, tmp_path: Path, ca: KeyPair
) -> None:
    other = authority()
    async with running(host, SMALL, certificates=Files(write(tmp_path, serving(ca)), poll_s=0.01)) as server:
        before = host.sample("controller_webhook_certificate_expiry_seconds")
        (tmp_path / "tls.crt").write_bytes(serving(other).certificate)  # beside the key of the old one
        await eventually(lambda: "belong together" in (server._certificate_fault or ""))
        assert await serves(server, ca)
        (tmp_path / "tls.key").unlink()
        await eventually(lambda: "tls.key: No such file" in (server._certificate_fault or ""))
        assert await serves(server, ca)
        assert server.fault() is None, "what is served is good still"
        write(tmp_path, serving(other, days=0.5))
        await eventually(lambda: serves(server, other))
        assert host.sample("controller_webhook_certificate_expiry_seconds") != before


async def test_t83_a_swapped_symbolic_link_is_followed(host: Host, tmp_path: Path, ca: KeyPair) -> None:
    other = authority()
    async with running(host, SMALL, certificates=Files(mount(tmp_path, serving(ca), "1"), poll_s=0.01)) as server:
        assert await serves(server, ca)
        mount(tmp_path, serving(other), "2")
        await eventually(lambda: serves(server, other))


def test_t83_files_are_looked_at_more_often_than_every_ten_seconds(tmp_path: Path) -> None:
    assert Files(tmp_path).poll_s <= 10


async def test_t83_no_handshake_fails_while_files_are_replaced_under_load(host: Host, tmp_path: Path) -> None:
    first, second = authority(), authority()
    both = trusting(first, second)
    handshakes = 0
    seen: set[bytes] = set()

    async with running(host, SMALL, certificates=Files(write(tmp_path, serving(first)), poll_s=0.005)) as server:
        done = asyncio.Event()

        async def load() -> None:
            nonlocal handshakes
            while not done.is_set():
                seen.add((await shake(server, both))[1])
                status, _ = await post(server, both, review(obj=gadget()))
                assert status == 200
                handshakes += 2

        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(load())
            await eventually(lambda: len(seen) == 1, interval_s=0.005)
            for number, ca in enumerate((second, first, second), start=2):
                write(tmp_path, serving(ca))
                await eventually(lambda wanted=number: len(seen) >= wanted, interval_s=0.005)  # type: ignore[misc]
            done.set()

    assert len(seen) == 4
    assert handshakes >= 8


async def test_it_is_not_ready_before_it_has_a_certificate_and_says_what_it_looked_for(
    host: Host, tmp_path: Path, ca: KeyPair
) -> None:
    server = WebhookServer(
        host,
        SMALL,
        certificates=Files(tmp_path, poll_s=0.01),
        configuration=Unmanaged(),
        reached=AtUrl("https://127.0.0.1:9443"),
        address="127.0.0.1:0",
        linger_s=0,
    )
    assert server.fault() == "not listening yet"
    task = asyncio.create_task(server.run())
    await eventually(lambda: "tls.crt: No such file or directory; is the Secret mounted" in (server.fault() or ""))
    waiting = asyncio.create_task(server.started())
    await asyncio.sleep(0)
    assert not waiting.done()
    write(tmp_path, serving(ca), ca)
    await waiting
    await eventually(lambda: server.fault() is None)
    await stopped(task)
    assert server.fault() == "stopping"


async def test_a_certificate_for_another_name_keeps_it_from_being_ready(host: Host, files: Files) -> None:
    server = WebhookServer(
        host,
        SMALL,
        certificates=files,
        configuration=Unmanaged(),
        reached=InService("demo", "gadgets"),
        address="127.0.0.1:0",
        linger_s=0,
    )
    task = asyncio.create_task(server.run())
    await eventually(lambda: "does not answer as gadgets.demo.svc" in (server.fault() or ""))
    await stopped(task)


async def test_a_port_in_use_is_one_line(host: Host, files: Files) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        server = WebhookServer(
            host,
            SMALL,
            certificates=files,
            reached=AtUrl("https://127.0.0.1:9443"),
            address=f"127.0.0.1:{port}",
        )
        with pytest.raises(CannotListen, match=f"webhook server: cannot listen on 127.0.0.1:{port}: Address already"):
            await server.run()


async def test_a_stop_lets_reviews_in_progress_end_and_then_listens_no_more(
    host: Host, files: Files, ca: KeyPair
) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow(_obj: Gadget, _request: AdmissionRequest) -> None:
        begun.set()
        await go_on.wait()

    async with running(host, Webhook(Gadget, validate=slow), certificates=files) as server:
        review_task = asyncio.create_task(post(server, trusting(ca), review(obj=gadget())))
        await begun.wait()
        address = server.bound
        assert address is not None
        asyncio.get_running_loop().call_later(0.1, go_on.set)
    assert (await review_task)[0] == 200
    with pytest.raises(OSError, match="Connect call failed"):
        await asyncio.open_connection(address.host, address.port)


async def test_a_stop_waits_for_a_bounded_time_only(host: Host, files: Files, ca: KeyPair) -> None:
    begun = asyncio.Event()

    async def endless(_obj: Gadget, _request: AdmissionRequest) -> None:
        begun.set()
        await asyncio.Event().wait()

    async with running(host, Webhook(Gadget, validate=endless), certificates=files, drain_s=0.05) as server:
        review_task = asyncio.create_task(post(server, trusting(ca), review(obj=gadget())))
        await begun.wait()
    with pytest.raises(aiohttp.ClientError):
        await review_task


async def test_a_stop_waits_for_code_that_was_given_up_and_holds_on(
    host: Host, files: Files, ca: KeyPair, caplog: pytest.LogCaptureFixture
) -> None:
    ended = asyncio.Event()

    async def stubborn(_obj: Gadget, _request: AdmissionRequest) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.1)
            ended.set()

    async with running(host, Webhook(Gadget, validate=stubborn), certificates=files) as server:
        path = f"{PATH}?timeout=0.05s"
        status, body = await post(server, trusting(ca), review(obj=gadget()), path=path)
        assert (status, json.loads(body)["response"]["status"]["code"]) == (200, 504)
        assert not ended.is_set()
    assert ended.is_set()


async def test_while_it_lingers_it_answers_and_lets_go_of_connections(host: Host, files: Files, ca: KeyPair) -> None:
    server = WebhookServer(
        host,
        SMALL,
        certificates=files,
        configuration=Unmanaged(),
        reached=AtUrl("https://127.0.0.1:9443"),
        address="127.0.0.1:0",
        linger_s=0.3,
    )
    task = asyncio.create_task(server.run())
    await eventually(lambda: server.fault() is None)
    assert server.bound is not None
    url = f"https://127.0.0.1:{server.bound.port}{PATH}"
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trusting(ca))) as session:
        seen: list[Any] = []
        for stop in (False, True):
            if stop:
                task.cancel()
                await eventually(lambda: server.fault() == "stopping", interval_s=0.001)
            async with session.post(url, json=json.loads(review(obj=gadget()))) as response:
                seen.append((response.status, response.headers.get("Connection")))
    await stopped(task)
    assert seen == [(200, None), (200, "close")]


def test_two_webhooks_of_a_kind_in_one_role_are_refused(host: Host, files: Files) -> None:
    with pytest.raises(ValueError, match=r"two webhooks validate Gadget.example.com; make them one"):
        WebhookServer(host, SMALL, SMALL, certificates=files, reached=AtUrl("https://h"))
    with pytest.raises(ValueError, match="expected HOST:PORT or :PORT"):
        WebhookServer(Host(), SMALL, certificates=files, reached=AtUrl("https://h"), address="0")


@pytest.mark.parametrize(
    "url", ["http://h", "https://", "h:1", "https://h?x=1", "https://u:p@h", "https://h:99999", "https://[h"]
)
def test_a_url_that_an_api_server_would_not_call_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="expected https://HOST"):
        AtUrl(url)


async def test_nothing_listens_before_that_has_come_which_verdicts_rest_on(
    host: Host, files: Files, ca: KeyPair
) -> None:
    come = asyncio.Event()

    async def wait() -> None:
        await come.wait()

    server = WebhookServer(
        host,
        SMALL,
        certificates=files,
        reached=AtUrl("https://127.0.0.1"),
        configuration=Unmanaged(),
        address="127.0.0.1:0",
        linger_s=0.0,
        after=wait,
    )
    task = asyncio.create_task(server.run())
    for _ in range(5):
        await asyncio.sleep(0)
    assert (server.bound, server.fault()) == (None, "not listening yet")
    come.set()
    await eventually(lambda: server.fault() is None)
    assert server.bound is not None
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def test_it_starts_before_the_caches(host: Host, files: Files) -> None:
    server = WebhookServer(host, SMALL, certificates=files, reached=InService("demo", "w"))

    assert server.stage is Stage.WEBHOOKS


def test_what_it_needs_is_declared_by_name(host: Host) -> None:
    certificates = OwnAuthority(host.api_reader, ObjectKey("keys", "demo"))
    server = WebhookServer(host, SMALL, certificates=certificates, reached=InService("demo", "w"))

    assert [(each.resource, *each.verbs, *each.names, each.namespace) for each in server.needs] == [
        ("secrets", "get", "update", "keys", "demo"),
        ("secrets", "create", "demo"),
        *(
            (f"{kind}webhookconfigurations", "get", "list", "watch", "patch", "delete", "gadgets", None)
            for kind in ("validating", "mutating")
        ),
        *((f"{kind}webhookconfigurations", "create", None) for kind in ("validating", "mutating")),
    ]
