"""The registry API: one repository, with access, retries and redirects taken care of."""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self
from urllib.parse import urljoin, urlsplit

import aiohttp

from kaito import __version__
from kaito.oci.access import Access
from kaito.oci.answers import BROKEN, is_page, read_body, read_error, refusal
from kaito.oci.credentials import Keyring
from kaito.oci.digest import Digest
from kaito.oci.errors import BrokenOffError, DigestMismatchError, OciError, UnreachableError
from kaito.oci.exchange import Body, BrokenExchange, Exchange, Sent
from kaito.oci.manifests import MANIFEST_TYPES
from kaito.oci.reference import Reference
from kaito.oci.retries import RETRIED_STATUSES, Retries

_CONNECT_S = 10.0
_SILENCE_S = 60.0
_MAX_MANIFEST_BYTES = 4 << 20
_CHUNK_BYTES = 1 << 18
# What those answer that have no HEAD.
_NO_HEAD = (405, 501)


@dataclass(frozen=True, slots=True)
class Document:
    """A manifest as it came.

    Attributes:
        content: its bytes.
        media_type: what the registry calls it.
        digest: of the bytes, computed here.
    """

    content: bytes
    media_type: str
    digest: Digest


class Registry:
    """One repository of a registry; an asynchronous context manager.

    Args:
        reference: which one.
        keyring: where credentials for it are looked for.
        plain_http: whether to talk without TLS; by default with registries on this machine only.
        retries: how often a request is tried.
        say: told why something is tried again, in one line.
        silence_s: after so long without a byte, a connection is given up.

    Raises, in every method:
        UnreachableError: It does not answer.
        UnauthorizedError: It does not let us.
        NotFoundError: It has no such thing.
        RegistryError: It refuses for another reason.
        CredentialsError: What a file says of this registry is broken.
    """

    def __init__(
        self,
        reference: Reference,
        keyring: Keyring | None = None,
        *,
        plain_http: bool | None = None,
        retries: Retries | None = None,
        say: Callable[[str], None] | None = None,
        silence_s: float = _SILENCE_S,
    ) -> None:
        self.reference = reference
        self._silence_s = silence_s
        self._say = say
        self.retries = retries or Retries()
        self._keyring = keyring or Keyring()
        self._secure = not (reference.is_loopback if plain_http is None else plain_http)
        self._base = f"{'https' if self._secure else 'http'}://{reference.host}/v2/{reference.repository}/"
        self._closing = contextlib.AsyncExitStack()
        self._session: aiohttp.ClientSession
        self._access: Access

    async def __aenter__(self) -> Self:
        credentials = await self._keyring.find(self.reference)
        self._session = await self._closing.enter_async_context(
            aiohttp.ClientSession(
                # What is counted and hashed are the bytes that the digest names, not what they unpack to.
                headers={"Accept-Encoding": "identity", "User-Agent": f"kaito/{__version__}"},
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S, sock_read=self._silence_s),
            )
        )
        self._exchange = Exchange(self._session, self._base, self._silence_s)
        self._access = Access(
            self._session,
            self.reference,
            credentials,
            looked_at=self._keyring.describe(),
            secure=self._secure,
            retries=self.retries,
            pause=self.pause,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._closing.aclose()

    def allow_push(self, also_from: str | None = None) -> None:
        """From now on ask for the right to write, too, and to read from another repository of the registry."""
        self._access.use("pull,push", also_from)

    async def manifest(self, version: str | None = None) -> Document:
        """The manifest, or index, of a tag or digest; that of the reference by default.

        Raises:
            DigestMismatchError: It was asked for by a digest, which is not that of what came.
        """
        asked = version or self.reference.version
        what = f"{self.reference.name}{'@' if ':' in asked else ':'}{asked}"
        content, media_type = await self._document(f"manifests/{asked}", what)
        digest = Digest.of(content)
        if ":" in asked:
            wanted = Digest.parse(asked)
            hasher = wanted.hasher()
            hasher.update(content)
            if hasher.hexdigest() != wanted.hex:
                raise DigestMismatchError(f"{what}: the registry sent a manifest with another digest, {digest}")
            digest = wanted
        return Document(content, media_type, digest)

    async def has_blob(self, digest: Digest) -> bool:
        """Whether the repository has a blob already."""
        expected = (200, 404, *_NO_HEAD)
        async with self.request("HEAD", f"blobs/{digest}", what=str(self.reference), expected=expected) as response:
            return response.status == 200

    async def chunks(self, response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        """The body of an answer, as it comes.

        Raises:
            BrokenOffError: The connection broke.
        """
        content = response.content.iter_chunked(_CHUNK_BYTES)
        while True:
            try:
                chunk = await anext(content, b"")
            except BROKEN as error:
                raise BrokenOffError(str(self._unreachable(error, str(response.url)))) from None
            if not chunk:
                return
            yield chunk

    async def _document(self, path: str, what: str) -> tuple[bytes, str]:
        headers = {"Accept": ", ".join(MANIFEST_TYPES)}
        failures = 0
        while True:
            async with self.request("GET", path, what=what, headers=headers) as response:
                try:
                    content = await read_body(response, _MAX_MANIFEST_BYTES)
                except BROKEN as error:
                    failures += 1
                    why = self._unreachable(error, str(response.url))
                    if failures >= self.retries.attempts:
                        raise why from None
                else:
                    if is_page(response):
                        raise OciError(
                            f"{what}: {response.url.host} answers with a web page instead of a manifest; "
                            "check the registry's name and port, and whether one must log in to this network first"
                        )
                    return content, response.headers.get("Content-Type", "").partition(";")[0].strip()
            await self.pause(failures, why)

    @contextlib.asynccontextmanager
    async def request(
        self,
        method: str,
        path: str,
        *,
        what: str,
        expected: Collection[int] = (200,),
        headers: Mapping[str, str] | None = None,
        data: Body | None = None,
        tries: int | None = None,
        sent: Sent | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Sends a request, again where that may help, and gives its answer.

        Args:
            method: HTTP's.
            path: below the repository, or a whole address.
            what: is asked for, in messages.
            expected: statuses that are no error.
            headers: more of them.
            data: the body.
            tries: instead of those of the registry.
            sent: told how much of the body is sent.
        """
        response = await self._send(method, path, what, expected, headers or {}, data, tries, sent)
        try:
            yield response
        finally:
            response.release()

    async def _send(
        self,
        method: str,
        path: str,
        what: str,
        expected: Collection[int],
        headers: Mapping[str, str],
        data: Body | None,
        tries: int | None,
        sent: Sent | None,
    ) -> aiohttp.ClientResponse:
        url = urljoin(self._base, path)
        failures, attempts = 0, tries or self.retries.attempts
        while True:
            try:
                answer = await self._exchange.send(method, url, headers, data, lambda: self._access.header, sent)
            except BrokenExchange as broken:
                failures += 1
                why = self._unreachable(broken.error, broken.url)
                if failures >= attempts or isinstance(broken.error, aiohttp.ClientSSLError | aiohttp.InvalidURL):
                    raise UnreachableError(f"{what}: {why}") from None
                await self.pause(failures, why)
                continue
            response = answer.response
            if response.status in expected:
                self._access.worked()
                return response
            failures += 1
            async with response:
                if response.status in (401, 403) and self._exchange.is_home(answer.url):
                    challenges = response.headers.getall("WWW-Authenticate", [])
                    said = await read_error(response)
                    await self._access.renew(answer.authorization, challenges, said, response.status)
                    failures -= 1
                    continue
                where = "the registry" if self._exchange.is_home(answer.url) else f"{response.url.host}"
                refused = await refusal(response, what, where, self._hint())
                if response.status not in RETRIED_STATUSES or failures >= attempts:
                    raise refused
            await self.pause(failures, refused, refused.retry_after_s)

    async def pause(self, failures: int, why: object, wished_s: float | None = None) -> None:
        """Waits before something is tried again, and says why and how long."""
        pause_s = self.retries.pause_s(failures, wished_s)
        if self._say is not None:
            wish = f", which asks for {wished_s:.0f} s" if wished_s and wished_s > pause_s else ""
            self._say(f"{why}{wish}; trying again in {pause_s:.1f} s")
        await asyncio.sleep(pause_s)

    def _unreachable(self, error: BaseException, url: str) -> UnreachableError:
        host = urlsplit(url).netloc.rpartition("@")[2]
        place = f"the registry {self.reference.registry}"
        if host != self.reference.host:
            place = f"{host}, to which {place} sends its clients,"
        cause = error.certificate_error if isinstance(error, aiohttp.ClientConnectorCertificateError) else error
        why = " ".join(str(cause).split()) or type(error).__name__
        if isinstance(cause, ssl.SSLCertVerificationError):
            why = f"its certificate is not trusted ({cause.verify_message}); name its authority in SSL_CERT_FILE"
        elif isinstance(error, aiohttp.ClientSSLError):
            why = f"it does not speak TLS ({type(error).__name__}); with --plain-http it is asked without"
        elif isinstance(error, aiohttp.ClientConnectorDNSError):
            why = "there is no such host; check its name"
        elif isinstance(error, aiohttp.ClientConnectorError) and error.os_error.errno:
            why = f"{os.strerror(error.os_error.errno)}; check that it runs, and its port"
        elif isinstance(error, TimeoutError):
            why = f"it does not answer in time ({_CONNECT_S:g} s to connect, {self._silence_s:g} s of silence)"
        elif isinstance(error, aiohttp.ServerDisconnectedError | aiohttp.ClientPayloadError | ConnectionError):
            why = "it breaks connections off"
        return UnreachableError(f"{place} cannot be reached: {why}")

    def _hint(self) -> str:
        return "; check registry, repository and tag"
