"""Exchange: one request and its answer, redirects followed with care, and bodies watched while they are sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urljoin, urlsplit

import aiohttp
from yarl import URL

from kaito.hosts import proxy_for
from kaito.oci.answers import BROKEN
from kaito.oci.errors import OciError

_READS = ("GET", "HEAD")
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
# What keeps method and body.
_WRITE_REDIRECTS = frozenset({307, 308})
_MAX_REDIRECTS = 5
_PORTS = {"http": 80, "https": 443}
_PIECE_BYTES = 1 << 18


class Body(Protocol):
    """What is sent, of which only the piece under way is in memory; `bytes` is one."""

    def __len__(self) -> int:
        """Bytes of it."""

    def __getitem__(self, span: slice, /) -> bytes:
        """Some of them; may be called by another thread."""


Sent = Callable[[int], None]
"""Is told how many bytes of a body have been sent."""


class BrokenExchange(Exception):
    """No answer came.

    Attributes:
        error: one of `BROKEN`.
        url: who was asked, after all redirects.
    """

    def __init__(self, error: Exception, url: str) -> None:
        super().__init__(error)
        self.error, self.url = error, url


@dataclass(frozen=True, slots=True)
class Answer:
    """What came.

    Attributes:
        response: not read yet.
        authorization: the header that it was sent for; None where none went along.
        url: who answered, after all redirects.
    """

    response: aiohttp.ClientResponse
    authorization: str | None
    url: str


@dataclass(frozen=True, slots=True)
class Exchange:
    """Sends requests of one repository.

    Args:
        session: to send with.
        base: address of the repository; Authorization goes to its origin only.
        silence_s: after so long without a byte taken, a body is given up.
    """

    session: aiohttp.ClientSession
    base: str
    silence_s: float

    async def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        data: Body | None,
        authorization: Callable[[], str | None],
        sent: Sent | None = None,
    ) -> Answer:
        """Sends a request, to wherever it is sent on.

        Raises:
            BrokenExchange: No answer came.
            OciError: It is sent on for ever, or to where nothing may be sent.
        """
        visited = [url]
        while True:
            header = authorization() if self.is_home(url) else None
            more = {"Authorization": header} if header else {}
            try:
                response = await self._once(method, url, {**headers, **more}, data, sent)
            except BROKEN as error:
                raise BrokenExchange(error, url) from None
            except ValueError as error:
                # Of the host's name, which only its look-up takes apart.
                raise OciError(f"{_shown(url)} is no address that can be asked: {error}") from None
            if response.status not in (_REDIRECTS if method in _READS else _WRITE_REDIRECTS):
                return Answer(response, header, url)
            try:
                url = location(response, url)
            finally:
                response.release()
            visited.append(url)
            if len(visited) > _MAX_REDIRECTS + 1:
                raise OciError(
                    f"{_host(self.base)} sends its clients on again and again, the last times to "
                    f"{_shown(visited[-2])} and {_shown(url)}; its administrator has to mend that"
                )

    def is_home(self, url: str) -> bool:
        """Whether it is the registry itself, not a store that it sends its clients to."""
        return _origin(url) == _origin(self.base) and "@" not in urlsplit(url).netloc

    async def _once(
        self, method: str, url: str, headers: dict[str, str], data: Body | None, sent: Sent | None
    ) -> aiohttp.ClientResponse:
        # Never written anew: addresses are signed.
        target, proxy = URL(url, encoded=True), proxy_for(url)
        if data is None:
            return await self.session.request(method, target, headers=headers, allow_redirects=False, proxy=proxy)
        async with asyncio.timeout(self.silence_s) as limit:
            headers["Content-Length"] = str(len(data))
            body = _watched(data, limit, self.silence_s, sent)
            return await self.session.request(
                method, target, headers=headers, data=body, allow_redirects=False, proxy=proxy
            )


async def _watched(data: Body, limit: asyncio.Timeout, silence_s: float, sent: Sent | None) -> AsyncIterator[bytes]:
    """The pieces of a body; aiohttp's own limit on silence begins only when all are sent."""
    clock = asyncio.get_running_loop().time
    for start in range(0, len(data), _PIECE_BYTES):
        limit.reschedule(clock() + silence_s)
        yield await asyncio.to_thread(data.__getitem__, slice(start, start + _PIECE_BYTES))
        if sent is not None:
            sent(min(start + _PIECE_BYTES, len(data)))
    if not limit.expired():
        limit.reschedule(None)


def location(response: aiohttp.ClientResponse, url: str) -> str:
    """Where an answer to a request at an address leads.

    Raises:
        OciError: It does not say, or it leads to where nothing may be sent.
    """
    where = response.headers.get("Location")
    if not where:
        raise OciError(f"{_host(url)} does not say where to go on; it is no registry of the API's second version")
    try:
        there = urljoin(url, where)
        parts = urlsplit(there)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        usable = usable and there.isascii() and there.isprintable()
    except ValueError:
        usable = False
    if not usable or " " in where:
        raise OciError(f"{_host(url)} sends its clients on to {where[:200]!r}, which is no address")
    if url.startswith("https://") and parts.scheme != "https":
        raise OciError(
            f"{_host(url)} sends its clients on to {_shown(there)}, which is not https, and is not followed there; "
            "its administrator has to set the address that it is reached by"
        )
    return there


def _origin(url: str) -> tuple[str, str, int]:
    """Also the same where one address names the port that the other one means."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 0)


def _host(url: str) -> str:
    return urlsplit(url).netloc.rpartition("@")[2]


def _shown(url: str) -> str:
    """Without what it is signed with."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{_host(url)}{parts.path}"
