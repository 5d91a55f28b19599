"""SecureMetrics: TLS with certificates that come and go, and tokens that the API server knows, or not."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from kaito.kube.authentication_v1 import TokenReview
from kaito.kube.authorization_v1 import SubjectAccessReview
from kaito.runtime import Manager
from kaito.runtime.scrape_access import ALLOWED_S, AUTHENTICATED_S, DENIED_S, ScrapeAccess
from kaito.runtime.secure_metrics import SecureMetrics
from kaito.runtime.webhook.certificates import issue, new_authority
from kaito.testing import eventually, virtual_clock
from kaito.testing.fake_api import FakeApi, Fault, Refuse
from tests.unit.runtime.managers import manager
from tests.unit.runtime.reviewing import Reviewing

NOW = datetime.now(UTC)


def write_certificate(directory: Path, days: int, name: str = "metrics.test") -> bytes:
    """Returns the authority's certificate."""
    authority = new_authority("tests", NOW, timedelta(days=365))
    pair = issue(authority, [name, "127.0.0.1"], NOW, timedelta(days=days))
    (directory / "tls.crt").write_bytes(pair.certificate)
    (directory / "tls.key").write_bytes(pair.key)
    return authority.certificate


@asynccontextmanager
async def running(it: Manager) -> AsyncIterator[str]:
    task = asyncio.create_task(it.run())
    await eventually(lambda: "metrics" in it.addresses, interval_s=0.01)
    try:
        yield f"https://127.0.0.1:{it.addresses['metrics'].port}/metrics"
    finally:
        it.stop()
        await task


def secured(reviews: Reviewing, **options: Any) -> Manager:
    chosen: dict[str, Any] = {"metrics": "127.0.0.1:0", "secure_metrics": True, "check_permissions": False, **options}
    return Manager("tests", None, transport=reviews, health="0", **chosen)


async def scrape(url: str, token: str | None = None, trust: ssl.SSLContext | bool = False) -> tuple[int, str]:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers, ssl=trust) as response:
        return response.status, await response.text()


async def test_who_has_a_token_and_the_right_reads_metrics_and_others_are_told_why_not() -> None:
    reviews = Reviewing(users={"good": "ada", "other": "bob"}, allowed={"ada"})
    async with running(secured(reviews)) as url:
        status, text = await scrape(url, "good")
        assert status == 200
        assert "controller_loop_lag_seconds_count" in text
        status, text = await scrape(url, "other")
        assert (status, text) == (
            403,
            "bob may not get /metrics; bind a ClusterRole with nonResourceURLs [/metrics] and verbs [get] to it\n",
        )
        assert await scrape(url, "unknown") == (401, "the cluster does not know this token; it may have expired\n")
        assert await scrape(url) == (401, "give a token of the cluster: Authorization: Bearer TOKEN\n")
        with pytest.raises(aiohttp.ClientError):
            await scrape(url.replace("https:", "http:"), "good")


async def test_certificates_from_files_are_served_and_swapped_when_they_change(tmp_path: Path) -> None:
    first = ssl.create_default_context(cadata=write_certificate(tmp_path, 30).decode())
    reviews = Reviewing(users={"good": "ada"}, allowed={"ada"})
    it = secured(reviews, metrics_certificates=tmp_path)
    (security,) = [each for each in it.services if isinstance(each, SecureMetrics)]
    security._source.poll_s = 0.05
    async with running(it) as url:
        assert (await scrape(url, "good", first))[0] == 200
        assert security.fault() is None
        second = ssl.create_default_context(cadata=write_certificate(tmp_path, 60).decode())

        async def swapped() -> bool:
            return (await scrape(url, "good", second))[0] == 200

        await eventually(swapped, retry_on=(aiohttp.ClientError,), interval_s=0.02)
        (tmp_path / "tls.crt").write_text("half of it")
        await eventually(lambda: security._problem is not None, interval_s=0.02)
        assert await swapped()
        assert security.fault() is None


async def test_a_certificate_that_is_missing_or_over_makes_the_manager_not_ready_by_name(tmp_path: Path) -> None:
    it = SecureMetrics(manager(FakeApi()).api_reader, tmp_path)
    await it._look()
    fault = it.fault()
    assert fault is not None
    assert "tls.crt" in fault
    write_certificate(tmp_path, 1)
    later = SecureMetrics(manager(FakeApi()).api_reader, tmp_path, clock=lambda: NOW + timedelta(days=2))
    await later._look()
    fault = later.fault()
    assert fault is not None
    assert fault.startswith("the certificate expired at ")


def play(reviews: Reviewing, script: Any) -> None:
    async def main() -> None:
        it = Manager("tests", None, transport=reviews, metrics="0", health="0")
        await script(ScrapeAccess(it.api_reader))

    virtual_clock.run(main())


def test_answers_are_remembered_for_as_long_as_controller_runtime_remembers_them() -> None:
    reviews = Reviewing(users={"good": "ada", "other": "bob"}, allowed={"ada"})

    async def script(access: ScrapeAccess) -> None:
        for _ in range(10):
            assert await access.refusal("Bearer good", "/metrics", "get") is None
        assert reviews.asked == {TokenReview: 1, SubjectAccessReview: 1}
        await asyncio.sleep(AUTHENTICATED_S + 1)
        assert await access.refusal("Bearer good", "/metrics", "get") is None
        assert reviews.asked == {TokenReview: 2, SubjectAccessReview: 1}
        await asyncio.sleep(ALLOWED_S)
        assert await access.refusal("Bearer good", "/metrics", "get") is None
        assert reviews.asked == {TokenReview: 3, SubjectAccessReview: 2}
        refused = await access.refusal("Bearer other", "/metrics", "get")
        assert refused is not None
        reviews.allowed.add("bob")
        assert await access.refusal("Bearer other", "/metrics", "get") == refused
        await asyncio.sleep(DENIED_S + 1)
        assert await access.refusal("Bearer other", "/metrics", "get") is None

    play(reviews, script)


def test_many_at_once_ask_once() -> None:
    reviews = Reviewing(users={"good": "ada"}, allowed={"ada"}, takes_s=1.0)

    async def script(access: ScrapeAccess) -> None:
        await asyncio.gather(*(access.refusal("Bearer good", "/metrics", "get") for _ in range(20)))
        assert reviews.asked == {TokenReview: 1, SubjectAccessReview: 1}

    play(reviews, script)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Refuse(403, "Forbidden", "tokenreviews is forbidden"), "tokenreviews is forbidden"),
        (Refuse(503, "ServiceUnavailable", "away"), "away"),
    ],
)
def test_an_api_server_that_cannot_say_is_an_error_and_no_refusal(fault: Refuse, words: str) -> None:
    api = FakeApi()
    api.faults.add(Fault(fault, times=None))

    async def main() -> None:
        refusal = await ScrapeAccess(manager(api).api_reader).refusal("Bearer good", "/metrics", "get")
        assert refusal is not None
        assert refusal[0] == 500
        assert words in refusal[1]

    virtual_clock.run(main())
