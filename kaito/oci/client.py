"""The registry API: one repository, with access, retries and redirects taken care of."""

from __future__ import annotations

import contextlib
import io
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
from kaito.oci.answers import error_text, read_body, read_json, refusal
from kaito.oci.credentials import Keyring
from kaito.oci.digest import Digest
from kaito.oci.errors import DigestMismatchError, OciError, UnreachableError
from kaito.oci.manifests import MANIFEST_TYPES
from kaito.oci.reference import Reference
from kaito.oci.retries import RETRIED_STATUSES, Retries, retry_after_s

_CONNECT_S = 10.0
_SILENCE_S = 60.0
_MAX_MANIFEST_BYTES = 4 << 20
_READS = ("GET", "HEAD")

BROKEN = (aiohttp.ClientError, OSError, TimeoutError)
"""What is raised where a connection cannot be made, or breaks."""


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
    ) -> None:
        self.reference = reference
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
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S, sock_read=_SILENCE_S),
                trust_env=not self.reference.is_loopback,
            )
        )
        self._access = Access(
            self._session,
            self.reference,
            credentials,
            looked_at=self._keyring.describe(),
            secure=self._secure,
            retries=self.retries,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._closing.aclose()

    def allow_push(self) -> None:
        """From now on ask for the right to write, too."""
        self._access.use("pull,push")

    async def manifest(self, version: str | None = None) -> Document:
        """The manifest, or index, of a tag or digest; that of the reference by default.

        Raises:
            DigestMismatchError: It was asked for by a digest, which is not that of what came.
        """
        asked = version or self.reference.version
        what = f"{self.reference.name}{'@' if ':' in asked else ':'}{asked}"
        headers = {"Accept": ", ".join(MANIFEST_TYPES)}
        async with self.request("GET", f"manifests/{asked}", what=what, headers=headers) as response:
            content = await read_body(response, _MAX_MANIFEST_BYTES)
            media_type = response.headers.get("Content-Type", "").partition(";")[0].strip()
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
        async with self.request("HEAD", f"blobs/{digest}", what=str(digest), expected=(200, 404)) as response:
            return response.status == 200

    @contextlib.asynccontextmanager
    async def request(
        self,
        method: str,
        path: str,
        *,
        what: str,
        expected: Collection[int] = (200,),
        headers: Mapping[str, str] | None = None,
        data: bytes | None = None,
        tries: int | None = None,
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
        """
        response = await self._send(method, path, what, expected, dict(headers or {}), data, tries)
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
        headers: dict[str, str],
        data: bytes | None,
        tries: int | None,
    ) -> aiohttp.ClientResponse:
        url = urljoin(self._base, path)
        failures, attempts = 0, tries or self.retries.attempts
        while True:
            header = self._access.header if _origin(url) == _origin(self._base) else None
            try:
                response = await self._session.request(
                    method,
                    url,
                    headers={**headers, **({"Authorization": header} if header else {})},
                    data=None if data is None else io.BytesIO(data),
                    # aiohttp leaves Authorization behind where a redirect leads to another host.
                    allow_redirects=method in _READS,
                )
            except BROKEN as error:
                failures += 1
                if failures >= attempts or isinstance(error, aiohttp.ClientSSLError | aiohttp.InvalidURL):
                    raise self.unreachable(error) from None
                await self.pause(failures, self.unreachable(error))
                continue
            if response.status in expected:
                self._access.worked()
                return response
            failures += 1
            async with response:
                if response.status in (401, 403) and _origin(str(response.url)) == _origin(self._base):
                    said = error_text(await read_json(response)) if method != "HEAD" else ""
                    challenges = response.headers.getall("WWW-Authenticate", [])
                    await self._access.renew(header, challenges, said, response.status)
                    failures -= 1
                    continue
                if response.status not in RETRIED_STATUSES or failures >= attempts:
                    raise await refusal(response, what, self._hint())
                wished_s = retry_after_s(response.headers.get("Retry-After"))
            await self.pause(failures, f"{what}: the registry answers {response.status}", wished_s)

    async def pause(self, failures: int, why: object, wished_s: float | None = None) -> None:
        """Waits before something is tried again, and says why."""
        if self._say is not None:
            self._say(f"{why}; trying again")
        await self.retries.wait(failures, wished_s)

    def unreachable(self, error: BaseException) -> UnreachableError:
        """The error for one of `BROKEN`."""
        place = f"the registry {self.reference.registry}"
        cause = error.certificate_error if isinstance(error, aiohttp.ClientConnectorCertificateError) else error
        why = " ".join(str(cause).split()) or type(error).__name__
        if isinstance(cause, ssl.SSLCertVerificationError):
            why = f"its certificate is not trusted ({cause.verify_message}); name its authority in SSL_CERT_FILE"
        elif isinstance(error, aiohttp.ClientSSLError):
            why = f"it does not speak TLS ({type(error).__name__}); with --plain-http it is asked without"
        elif isinstance(error, aiohttp.ServerDisconnectedError | aiohttp.ClientPayloadError):
            why = "it breaks connections off"
        elif isinstance(error, aiohttp.ClientConnectorDNSError):
            why = "there is no such host"
        elif isinstance(error, aiohttp.ClientConnectorError) and error.os_error.errno:
            why = os.strerror(error.os_error.errno)
        elif isinstance(error, TimeoutError):
            why = f"it does not answer in time ({_CONNECT_S:g} s to connect, {_SILENCE_S:g} s of silence)"
        return UnreachableError(f"{place} cannot be reached: {why}")

    def _hint(self) -> str:
        return "; check registry, repository and tag"


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc


def location(response: aiohttp.ClientResponse) -> str:
    """Where an answer leads.

    Raises:
        OciError: It does not say.
    """
    where = response.headers.get("Location")
    if not where:
        raise OciError(
            f"{response.url.host} does not say where to upload to; it is no registry of the API's second version"
        )
    return urljoin(str(response.url), where)
