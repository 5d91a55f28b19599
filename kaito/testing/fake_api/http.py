"""FakeApiServer: a FakeApi over HTTP on a loopback port, for clients that know no `Transport`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kaito.client.config import Config
from kaito.testing.transport_server import TransportServer

if TYPE_CHECKING:
    from kaito.testing.fake_api.server import FakeApi


class FakeApiServer(TransportServer):
    """Serves a `FakeApi` as plain HTTP; its faults, latencies and log are the same as behind `FakeApi.transport`.

    Use it as ``async with FakeApiServer(api) as server``, in real time. Nobody has to prove who they are.

    Args:
        api: the server.
    """

    def __init__(self, api: FakeApi) -> None:
        super().__init__(api.transport())
        self.api = api

    @property
    def config(self) -> Config:
        """What a client needs."""
        return Config(host=self.url)
