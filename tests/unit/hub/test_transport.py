"""The hub's transport: which proxy it takes, and whose passwords it does not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from kaito.hub.transport import connect


class Listener:
    """An HTTP server on loopback that keeps the headers of what it is asked."""

    def __init__(self) -> None:
        self.address = ""
        self.seen: list[web.BaseRequest] = []

    async def answer(self, request: web.BaseRequest) -> web.Response:
        """Answers anything."""
        self.seen.append(request)
        return web.Response(text="{}")


@pytest.fixture
async def listener() -> AsyncIterator[Listener]:
    made = Listener()
    runner = web.ServerRunner(web.Server(made.answer))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    made.address = f"{host}:{port}"
    yield made
    await runner.cleanup()


async def test_passwords_of_netrc_are_the_hubs_neither_with_a_token_nor_without(
    listener: Listener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("default login somebody password secret")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    async with connect() as transport:
        for headers in ({"Authorization": "Bearer hf_token"}, {}):
            answer = await transport.get(f"http://{listener.address}/api", headers, 10)
            assert (answer.status, answer.body) == (200, b"{}")
    assert [each.headers.get("Authorization") for each in listener.seen] == ["Bearer hf_token", None]


async def test_it_goes_through_the_proxy_of_the_environment(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", f"http://user:pass@{listener.address}")
    monkeypatch.setenv("no_proxy", "")
    async with connect() as transport:
        assert (await transport.get("http://hub.test/api", {}, 10)).status == 200
    [asked] = listener.seen
    assert asked.headers["Host"] == "hub.test"
    assert asked.headers["Proxy-Authorization"] == "Basic dXNlcjpwYXNz"
