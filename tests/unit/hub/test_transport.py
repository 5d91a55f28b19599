"""The hub's transport: which proxy it takes, and whose passwords it does not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import RawTestServer

from kaito.hub.transport import connect


class Listener(RawTestServer):
    """An HTTP server on loopback that keeps what it is asked."""

    def __init__(self) -> None:
        super().__init__(self._answer)
        self.seen: list[web.BaseRequest] = []

    async def _answer(self, request: web.BaseRequest) -> web.Response:
        self.seen.append(request)
        return web.Response(text="{}")


@pytest.fixture
async def listener() -> AsyncIterator[Listener]:
    listening = Listener()
    async with listening:
        yield listening


async def test_passwords_of_netrc_are_the_hubs_neither_with_a_token_nor_without(
    listener: Listener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("default login somebody password secret")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    async with connect() as transport:
        for headers in ({"Authorization": "Bearer hf_token"}, {}):
            answer = await transport.get(str(listener.make_url("/api")), headers, 10)
            assert (answer.status, answer.body) == (200, b"{}")
    assert [each.headers.get("Authorization") for each in listener.seen] == ["Bearer hf_token", None]


async def test_it_goes_through_the_proxy_of_the_environment(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", str(listener.make_url("/").with_user("user").with_password("pass")))
    monkeypatch.setenv("no_proxy", "")
    async with connect() as transport:
        assert (await transport.get("http://hub.test/api", {}, 10)).status == 200
    [asked] = listener.seen
    assert asked.headers["Host"] == "hub.test"
    assert asked.headers["Proxy-Authorization"] == "Basic dXNlcjpwYXNz"
