"""How a hub is spoken to: one GET at a time, no redirects, no more than so many bytes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import NamedTuple, Protocol

import aiohttp

from kaito.hosts import proxy_for

CHUNK_BYTES = 64 * 1024


class TooLarge(Exception):
    """An answer has more bytes than were allowed."""


class HubAnswer(NamedTuple):
    """An answer: HTTP status, headers by their names in lower case, body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class HubTransport(Protocol):
    """Sends requests; a fake is one method."""

    async def get(self, url: str, headers: Mapping[str, str], limit_bytes: int) -> HubAnswer:
        """GETs a URL, and follows no redirect.

        Raises:
            OSError: there was no answer; the text says why.
            TooLarge: the body has more bytes than `limit_bytes`.
        """
        ...


@asynccontextmanager
async def connect() -> AsyncIterator[HubTransport]:
    """Opens a transport over HTTP, through the proxy that the environment names, if any."""
    # Identity: what is counted is then what came over the wire, and nothing small unpacks into something big.
    headers = {"Accept-Encoding": "identity", "User-Agent": "kaito"}
    # No cookies: whatever one host sets is none of another's business.
    async with aiohttp.ClientSession(
        headers=headers,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None),
        auto_decompress=False,
    ) as session:
        yield _Http(session)


class _Http:
    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def get(self, url: str, headers: Mapping[str, str], limit_bytes: int) -> HubAnswer:
        try:
            async with self._session.get(url, headers=headers, allow_redirects=False, proxy=proxy_for(url)) as response:
                body = await _read(response, limit_bytes)
                return HubAnswer(response.status, {k.lower(): v for k, v in response.headers.items()}, body)
        except aiohttp.ClientError as error:
            raise ConnectionError(f"{type(error).__name__}: {error}".rstrip(": ")) from error


async def _read(response: aiohttp.ClientResponse, limit_bytes: int) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_chunked(CHUNK_BYTES):
        body += chunk
        if len(body) > limit_bytes:
            response.close()
            raise TooLarge
    return bytes(body)
