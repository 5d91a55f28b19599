"""Handshaking: a webhook server that keeps no connection from one test to the next."""

from __future__ import annotations

from aiohttp import web

from kaito.runtime.webhook import WebhookServer
from kaito.runtime.webhook.endpoint import Served


class Handshaking(WebhookServer):
    """A server that ends each connection after one answer, so that each review is a handshake."""

    async def _handle(self, endpoint: Served, request: web.Request) -> web.Response:
        response = await super()._handle(endpoint, request)
        response.force_close()
        return response
