"""Access to a repository: from a registry's challenge to the header that opens it, token servers included."""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

import aiohttp

from kaito.hosts import proxy_for
from kaito.oci.answers import BROKEN, error_text, read_json
from kaito.oci.credentials import Credential
from kaito.oci.errors import OciError, RegistryError, UnauthorizedError, UnreachableError
from kaito.oci.reference import Reference
from kaito.oci.retries import RETRIED_STATUSES, Retries, retry_after_s

_CLIENT_ID = "kaito"
_PAIR = re.compile(r'([a-zA-Z_]+)=(?:"((?:[^"\\]|\\.)*)"|([^\s",]+))')


def parse_challenge(header: str) -> tuple[str, dict[str, str]]:
    """Scheme, in lower case, and parameters of a `WWW-Authenticate` header."""
    scheme, _, rest = header.strip().partition(" ")
    return scheme.lower(), {name.lower(): quoted or plain for name, quoted, plain in _PAIR.findall(rest)}


class Access:
    """What opens one repository, found out when the registry first asks for it.

    Args:
        session: to ask token servers with.
        reference: of what the access is to.
        credentials: to try, one after the other; none: as nobody.
        looked_at: what is said where none are known.
        secure: whether the registry is reached over TLS.
        retries: how often a token server is asked.
        pause: waits before it is asked again.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        reference: Reference,
        credentials: Sequence[Credential],
        *,
        looked_at: str,
        secure: bool,
        retries: Retries,
        pause: Callable[[int, object, float | None], Awaitable[None]],
    ) -> None:
        self._session, self._reference, self._retries, self._pause = session, reference, retries, pause
        self._candidates: list[Credential | None] = [*credentials] or [None]
        self._looked_at, self._secure = looked_at, secure
        self._lock = asyncio.Lock()
        self._tried = 0
        self._worked = False
        self._actions, self._also_from = "pull", ""
        self.header: str | None = None

    def use(self, actions: str, also_from: str | None = None) -> None:
        """From now on do so much: `pull`, or `pull,push`; and pull from another repository, too."""
        if (actions, also_from or "") != (self._actions, self._also_from):
            self._actions, self._also_from, self.header = actions, also_from or "", None

    def worked(self) -> None:
        """The header was taken; if it is refused later, it has run out."""
        self._worked = self.header is not None

    async def renew(self, refused: str | None, challenges: Sequence[str], said: str, status: int) -> None:
        """Makes another header, after one was refused.

        Raises:
            UnauthorizedError: There is nothing more to try.
            UnreachableError: The token server does not answer.
        """
        async with self._lock:
            if self.header != refused:
                return  # somebody else was faster
            if refused is not None:
                # The same once more if it is a token that has worked: it has run out.
                self._tried += 0 if self._worked and status == 401 else 1
            self._worked = False
            while self._tried < len(self._candidates):
                candidate = self._candidates[self._tried]
                header, refusal = await self._make(candidate, challenges)
                if header is not None and header != refused:
                    self.header = header
                    return
                said = refusal or said
                self._tried += 1
            raise self._refused(said, status)

    async def _make(self, candidate: Credential | None, challenges: Sequence[str]) -> tuple[str | None, str]:
        parsed = dict(parse_challenge(header) for header in challenges)
        if "bearer" in parsed and parsed["bearer"].get("realm"):
            return await self._token(candidate, parsed["bearer"])
        if "basic" in parsed and candidate is not None:
            return _basic(candidate), ""
        return None, ""

    async def _token(self, candidate: Credential | None, challenge: Mapping[str, str]) -> tuple[str | None, str]:
        realm = challenge["realm"]
        if self._secure and not realm.startswith("https://"):
            raise OciError(f"{self._reference.registry} sends its clients' passwords to {realm}, which is not https")
        if not realm.startswith(("https://", "http://")):
            raise OciError(f"{self._reference.registry} has its tokens at {realm!r}, which is no address")
        scopes = self._scopes(challenge.get("scope", ""))
        asked = [("service", challenge["service"])] if challenge.get("service") else []
        asked += [("scope", scope) for scope in scopes]
        request: dict[str, Any]
        if candidate is not None and candidate.identity_token:
            # OAuth2 knows one scope, with blanks in it.
            form = {**dict(asked), "scope": " ".join(scopes), "client_id": _CLIENT_ID}
            form |= {"grant_type": "refresh_token", "refresh_token": candidate.identity_token}
            request = {"method": "POST", "data": form}
        else:
            headers = {"Authorization": _basic(candidate)} if candidate is not None else {}
            request = {"method": "GET", "params": asked, "headers": headers}
        status, answer = await self._ask(realm, request)
        if status in (400, 401, 403):
            return None, error_text(answer)
        token = answer.get("token") or answer.get("access_token") if isinstance(answer, dict) else None
        # What has line breaks in it is no token either.
        if status != 200 or not isinstance(token, str) or not (token.isascii() and token.isprintable()):
            said = error_text(answer)
            why = f"answers {status} without a token{f': {said}' if said else ''}"
            raise RegistryError(f"{realm}, the token server of {self._reference.registry}, {why}", status=status)
        return f"Bearer {token}", ""

    def _scopes(self, challenged: str) -> list[str]:
        """What this asks for, and what the registry says is needed: it may know the repository by another name."""
        scopes = [f"repository:{self._reference.repository}:{self._actions}"]
        scopes += [f"repository:{self._also_from}:pull"] if self._also_from else []
        known = {scope.rpartition(":")[0] for scope in scopes}
        return [*scopes, *(each for each in challenged.split() if each.rpartition(":")[0] not in known)]

    async def _ask(self, realm: str, request: dict[str, Any]) -> tuple[int, Any]:
        failures, place = 0, f"{realm}, the token server of {self._reference.registry}"
        while True:
            try:
                # No redirects: they would carry the password on.
                proxied = {**request, "proxy": proxy_for(realm)}
                async with self._session.request(url=realm, allow_redirects=False, **proxied) as response:
                    answer = await read_json(response)
                    wait_s = retry_after_s(response.headers.get("Retry-After"))
                    failures += 1
                    if response.status not in RETRIED_STATUSES or failures >= self._retries.attempts:
                        return response.status, answer
                    why = f"{place}, answers {response.status}"
            except (*BROKEN, ValueError) as error:
                failures, wait_s = failures + 1, None
                reason = " ".join(str(error).split()) or "it does not answer in time"
                why = f"{place}, cannot be reached: {reason}"
                if failures >= self._retries.attempts or isinstance(error, ValueError | aiohttp.ClientSSLError):
                    raise UnreachableError(why) from None
            await self._pause(failures, why, wait_s)

    def _refused(self, said: str, status: int) -> UnauthorizedError:
        used = [str(each) for each in self._candidates if each is not None]
        what = "push to" if "push" in self._actions else "pull from"
        reason = f" ({said})" if said else ""
        if used:
            text = f"refuses {_listed(used)} to {what} it{reason}; check user, password and rights"
        else:
            way = f"docker login {self._reference.registry}, or --auth-dir with a file that has some"
            text = f"lets nobody {what} it without credentials{reason}; {self._looked_at}: {way}"
        return UnauthorizedError(f"{self._reference.name}: the registry {text}", status=status)


def _basic(credential: Credential) -> str:
    pair = f"{credential.username}:{credential.password or credential.identity_token}"
    return f"Basic {base64.b64encode(pair.encode()).decode()}"


def _listed(names: Iterable[str]) -> str:
    return " and ".join(names)
