"""Credentials: renewed when they must be, never shown, and clear about what is missing."""

from __future__ import annotations

import asyncio
import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from kaito.client.credentials import CredentialsError, ExecCredentials, StaticCredentials, TokenFileCredentials


async def test_static_headers_stay_as_they_are() -> None:
    credentials = StaticCredentials({"Authorization": "Bearer x"})
    credentials.invalidate(await credentials.headers())
    assert await credentials.headers() == {"Authorization": "Bearer x"}
    assert await StaticCredentials().headers() == {}


async def test_a_token_file_is_read_again_after_a_minute_and_after_a_401(tmp_path: Path) -> None:
    now = 0.0
    path = tmp_path / "token"
    credentials = TokenFileCredentials(path, monotonic=lambda: now)

    async def token() -> str:
        return (await credentials.headers())["Authorization"]

    path.write_text("one\n")
    assert await token() == "Bearer one"
    path.write_text("two")
    now = 59.0
    assert await token() == "Bearer one"
    now = 60.0
    assert await token() == "Bearer two"
    path.write_text("three")
    credentials.invalidate(await credentials.headers())
    assert await token() == "Bearer three"


async def test_a_token_file_that_is_missing_for_a_moment_is_no_failure_once_it_was_read(tmp_path: Path) -> None:
    path = tmp_path / "token"
    credentials = TokenFileCredentials(path)
    with pytest.raises(CredentialsError, match=f"token file {path}: No such file"):
        await credentials.headers()
    path.write_text("one")
    await credentials.headers()
    path.unlink()
    credentials.invalidate(await credentials.headers())
    assert await credentials.headers() == {"Authorization": "Bearer one"}
    path.write_text("two")
    assert await credentials.headers() == {"Authorization": "Bearer two"}


class Plugin:
    """A credential plugin: a script that prints what it was told to, and counts its runs."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "plugin"
        self.runs = folder / "runs"
        self.says = folder / "says"
        code = (
            f"#!{sys.executable} -S\nimport os, sys\n"
            f"open({str(self.runs)!r}, 'a').write(os.environ['KUBERNETES_EXEC_INFO'] + chr(10))\n"
            f"print(eval(open({str(self.says)!r}).read()))\n"
        )
        self.path.write_text(code)
        self.path.chmod(0o755)

    def say(self, code: str) -> None:
        self.says.write_text(code)

    def give(self, token: str, expires_at: str | None = None) -> None:
        status = {"token": token} | ({"expirationTimestamp": expires_at} if expires_at else {})
        self.say(repr(json.dumps({"kind": "ExecCredential", "status": status})))

    @property
    def count(self) -> int:
        return len(self.runs.read_text().splitlines()) if self.runs.exists() else 0

    def credentials(self, hint: str = "") -> ExecCredentials:
        return ExecCredentials(str(self.path), (), {}, "client.authentication.k8s.io/v1", hint)


@pytest.fixture
def plugin(tmp_path: Path) -> Plugin:
    return Plugin(tmp_path)


def after(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


async def test_a_plugin_is_run_once_for_many_requests_and_told_the_version(plugin: Plugin) -> None:
    plugin.give("one", after(3600))
    credentials = plugin.credentials()
    headers = await asyncio.gather(*(credentials.headers() for _ in range(10)))
    assert {each["Authorization"] for each in headers} == {"Bearer one"}
    assert plugin.count == 1
    assert json.loads(plugin.runs.read_text()) == {
        "apiVersion": "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "spec": {"interactive": False},
    }


async def test_a_plugin_is_run_again_shortly_before_its_token_expires_and_after_a_401(plugin: Plugin) -> None:
    credentials = plugin.credentials()
    plugin.give("one", after(5))  # nearer than the leeway
    await credentials.headers()
    plugin.give("two")
    assert await credentials.headers() == {"Authorization": "Bearer two"}
    plugin.give("three")
    assert await credentials.headers() == {"Authorization": "Bearer two"}
    credentials.invalidate(await credentials.headers())
    assert await credentials.headers() == {"Authorization": "Bearer three"}
    assert plugin.count == 3


async def test_an_expiry_without_a_zone_is_taken_as_utc(plugin: Plugin) -> None:
    plugin.give("one", after(3600).rstrip("Z"))
    credentials = plugin.credentials()
    await credentials.headers()
    await credentials.headers()
    assert plugin.count == 1


@pytest.mark.parametrize(
    ("says", "text"),
    [
        ("sys.exit('login first')", "exited with 1: login first"),
        ("'no json'", "printed no ExecCredential"),
        ("'{}'", "printed no ExecCredential"),
        ("'[]'", "printed no ExecCredential"),
        ("'{\"status\": {}}'", "gave no status.token"),
        ('\'{"status": {"token": "s3cret", "expirationTimestamp": "tomorrow"}}\'', "expirationTimestamp"),
    ],
)
async def test_a_plugin_that_fails_says_how_and_never_shows_a_token(plugin: Plugin, says: str, text: str) -> None:
    plugin.say(says)
    credentials = plugin.credentials()
    with pytest.raises(CredentialsError, match=text) as raised:
        await credentials.headers()
    assert "s3cret" not in str(raised.value)
    plugin.give("works")
    assert await credentials.headers() == {"Authorization": "Bearer works"}


async def test_a_plugin_that_is_not_there_brings_its_hint() -> None:
    credentials = ExecCredentials("no-such-plugin", (), {}, "v1", "Install it with pip.")
    with pytest.raises(CredentialsError, match=r"'no-such-plugin' is not on PATH. Install it with pip\."):
        await credentials.headers()


async def test_a_plugin_that_is_no_program_is_a_credentials_error(tmp_path: Path) -> None:
    path = tmp_path / "plugin"
    path.write_bytes(b"\x00\x01")
    path.chmod(0o755)
    with pytest.raises(CredentialsError, match="cannot be run: Exec format error"):
        await ExecCredentials(str(path), (), {}, "v1", "").headers()


async def test_a_request_that_is_given_up_while_the_plugin_runs_ends_the_plugin(plugin: Plugin) -> None:
    plugin.say("__import__('time').sleep(60)")
    credentials = plugin.credentials()
    asking = asyncio.create_task(credentials.headers())
    while not plugin.count:  # noqa: ASYNC110 - it is another process that changes it
        await asyncio.sleep(0.01)
    asking.cancel()
    await asyncio.wait([asking])
    assert asking.cancelled()  # and the guard of conftest.py sees no child process
    plugin.give("works")
    assert await credentials.headers() == {"Authorization": "Bearer works"}


def test_no_token_is_in_a_repr(tmp_path: Path) -> None:
    assert repr(StaticCredentials({"Authorization": "s3cret"})) == "StaticCredentials(headers=['Authorization'])"
    assert repr(TokenFileCredentials(tmp_path)) == f"TokenFileCredentials({str(tmp_path)!r})"
    assert "s3cret" not in repr(ExecCredentials("plugin", ("s3cret",), {"T": "s3cret"}, "v1", ""))


async def test_late_news_of_an_old_token_does_not_cost_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("one")
    credentials = TokenFileCredentials(path, monotonic=lambda: 0.0)
    old = await credentials.headers()
    credentials.invalidate(old)
    path.write_text("two")
    new = await credentials.headers()
    credentials.invalidate(old)
    path.write_text("three")
    assert await credentials.headers() is new
