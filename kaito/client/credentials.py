"""Credentials: what proves who asks, renewed by ourselves (token files, exec plugins) instead of once at start."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from kaito.client.errors import KubeError

TOKEN_FILE_REREAD_S = 60.0
EXEC_TIMEOUT_S = 60.0
EXEC_LEEWAY_S = 10.0


class CredentialsError(KubeError):
    """Credentials could not be had; the text says from where and what to do."""


class Credentials(Protocol):
    """Headers that prove who asks."""

    async def headers(self) -> Mapping[str, str]:
        """Returns the headers for the next request.

        Raises:
            CredentialsError: there are none to be had.
        """
        ...

    def invalidate(self, refused: Mapping[str, str]) -> None:
        """The server refused headers (401): the next call must not answer with them from memory.

        Args:
            refused: as `headers` had returned them; late news of old ones must not cost the new ones.
        """
        ...


class StaticCredentials:
    """The same headers for ever; none at all for client certificates, which live in the SSL context."""

    def __init__(self, headers: Mapping[str, str] | None = None) -> None:
        self._headers = dict(headers or {})

    def __repr__(self) -> str:
        return f"StaticCredentials(headers={sorted(self._headers)})"

    async def headers(self) -> Mapping[str, str]:
        """See `Credentials.headers`."""
        return self._headers

    def invalidate(self, refused: Mapping[str, str]) -> None:
        """Nothing to renew."""


class TokenFileCredentials:
    """A bearer token from a file, read again at most once a minute and at once after a 401 (client-go's rule)."""

    def __init__(self, path: Path, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._monotonic = monotonic
        self._read_at = float("-inf")
        self._headers: Mapping[str, str] = {}

    def __repr__(self) -> str:
        return f"TokenFileCredentials({str(self._path)!r})"

    async def headers(self) -> Mapping[str, str]:
        """See `Credentials.headers`."""
        if self._monotonic() - self._read_at >= TOKEN_FILE_REREAD_S:
            try:
                # A projected token is about 1 KB on a memory file system: not worth a thread.
                token = self._path.read_text().strip()
            except OSError as error:
                if self._headers:
                    return self._headers
                raise CredentialsError(f"token file {self._path}: {error.strerror}") from error
            self._headers = {"Authorization": f"Bearer {token}"}
            self._read_at = self._monotonic()
        return self._headers

    def invalidate(self, refused: Mapping[str, str]) -> None:
        """See `Credentials.invalidate`."""
        if refused is self._headers:
            self._read_at = float("-inf")


class ExecCredentials:
    """A bearer token from a credential plugin (client.authentication.k8s.io), run at its expiry and after a 401."""

    def __init__(self, command: str, args: Sequence[str], env: Mapping[str, str], api_version: str, hint: str) -> None:
        self._command = command
        self._args = tuple(args)
        self._env = dict(env)
        self._api_version = api_version
        self._hint = hint
        self._expires_at: datetime | None = None
        self._headers: Mapping[str, str] | None = None
        self._lock = asyncio.Lock()

    def __repr__(self) -> str:
        return f"ExecCredentials({self._command!r})"

    async def headers(self) -> Mapping[str, str]:
        """See `Credentials.headers`. Concurrent callers share one run of the plugin."""
        async with self._lock:
            if self._headers is None or self._expired():
                status = await self._run()
                self._expires_at = self._expiry(status.get("expirationTimestamp"))
                self._headers = {"Authorization": f"Bearer {status['token']}"}
            return self._headers

    def invalidate(self, refused: Mapping[str, str]) -> None:
        """See `Credentials.invalidate`."""
        if refused is self._headers:
            self._headers = None

    def _expired(self) -> bool:
        if self._expires_at is None:
            return False
        return (self._expires_at - datetime.now(UTC)).total_seconds() < EXEC_LEEWAY_S

    def _expiry(self, text: object) -> datetime | None:
        try:
            moment = datetime.fromisoformat(str(text)) if text else None
        except ValueError as error:
            raise CredentialsError(f"credential plugin {self._command!r}: expirationTimestamp: {error}") from error
        return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment

    async def _run(self) -> dict[str, object]:
        if shutil.which(self._command) is None:
            raise CredentialsError(f"credential plugin {self._command!r} is not on PATH. {self._hint}".rstrip())
        info = {"apiVersion": self._api_version, "kind": "ExecCredential", "spec": {"interactive": False}}
        try:
            process = await asyncio.create_subprocess_exec(
                self._command,
                *self._args,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=os.environ | self._env | {"KUBERNETES_EXEC_INFO": json.dumps(info)},
            )
        except OSError as error:
            raise CredentialsError(f"credential plugin {self._command!r} cannot be run: {error.strerror}") from error
        try:
            out, err = await asyncio.wait_for(process.communicate(), EXEC_TIMEOUT_S)
        except TimeoutError:
            raise CredentialsError(
                f"credential plugin {self._command!r}: no answer in {EXEC_TIMEOUT_S:.0f} s"
            ) from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return self._parse(process.returncode or 0, out, err)

    def _parse(self, exit_code: int, out: bytes, err: bytes) -> dict[str, object]:
        if exit_code != 0:
            tail = err.decode(errors="replace").strip()[-500:]
            raise CredentialsError(f"credential plugin {self._command!r} exited with {exit_code}: {tail}")
        try:
            status = json.loads(out)["status"]
        except (ValueError, KeyError, TypeError) as error:
            raise CredentialsError(f"credential plugin {self._command!r} printed no ExecCredential: {error}") from error
        if not isinstance(status, dict) or not status.get("token"):
            raise CredentialsError(
                f"credential plugin {self._command!r} gave no status.token; certificates from plugins are not supported"
            )
        return status
