"""Where serving certificates come from: the protocol, and a directory of files that somebody else renews."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple, Protocol

from kaito.runtime.access import Access
from kaito.runtime.webhook.certificates import CertificateError, KeyPair, parse, server_context


class Material(NamedTuple):
    """What is to be served and trusted now.

    Attributes:
        serving: the certificate with its key.
        authorities: what the API server is to trust, PEM (the caBundle); empty: that is somebody else's care.
    """

    serving: KeyPair
    authorities: bytes = b""


TrustedSince = Callable[[bytes], datetime | None]
"""Since when the API server is known to trust an authority, given as PEM; None: it does not, as far as we know."""


class CertificateSource(Protocol):
    """Where certificates come from.

    Attributes:
        poll_s: how often `look` is called.
        needs: the permissions that it takes.
    """

    poll_s: float

    @property
    def needs(self) -> Sequence[Access]:
        """The permissions that it takes."""
        ...

    async def look(self, names: Sequence[str], trusted_since: TrustedSince) -> Material:
        """Looks what is to be served now, and renews it if that is due.

        Args:
            names: host names and addresses that the certificate must be for.
            trusted_since: which authorities may sign what is served.

        Raises:
            CertificateError: there is none that is usable.
            ApiError, TransportError: the API server has it, and does not answer.
        """
        ...


class Files:
    """Certificates from a directory with ``tls.crt``, ``tls.key`` and, perhaps, ``ca.crt``: a mounted Secret, for one.

    They are read every few seconds, whatever way they were changed (the kubelet swaps a symbolic link; others delete
    and create). What is not whole, such as a new certificate beside the old key, is not taken.

    Args:
        directory: where they are.
        poll_s: seconds between two looks; Kubernetes takes up to two minutes to bring a changed Secret there anyway.
    """

    def __init__(self, directory: str | Path, *, poll_s: float = 5.0) -> None:
        self._directory = Path(directory)
        self.poll_s = poll_s

    @property
    def needs(self) -> Sequence[Access]:
        """None."""
        return ()

    async def look(self, names: Sequence[str], trusted_since: TrustedSince) -> Material:
        """See `CertificateSource.look`. The names are whoever's who wrote the files."""
        try:
            pair = KeyPair(self._read("tls.crt"), self._read("tls.key"))
            authorities = self._read("ca.crt") if (self._directory / "ca.crt").exists() else b""
        except OSError as error:
            raise CertificateError(f"{error.filename}: {error.strerror}; is the Secret mounted there?") from error
        try:
            server_context(pair)
            if authorities:
                parse(authorities)
        except CertificateError as error:
            raise CertificateError(f"{self._directory}: {error}") from error
        return Material(pair, authorities)

    def _read(self, name: str) -> bytes:
        return (self._directory / name).read_bytes()
