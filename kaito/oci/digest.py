"""Digests: what content is called by, `sha256:…`."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

from kaito.oci.errors import ManifestError

_HEX_DIGITS = {"sha256": 64, "sha512": 128}


class Hasher(Protocol):
    """What `hashlib` gives."""

    def update(self, data: bytes, /) -> None:
        """Takes more bytes in."""

    def hexdigest(self) -> str:
        """Of all that were taken in."""


@dataclass(frozen=True, slots=True)
class Digest:
    """The name of some bytes.

    Attributes:
        algorithm: sha256 or sha512.
        hex: lower case digits.
    """

    algorithm: str
    hex: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads `sha256:…`.

        Raises:
            ManifestError: It is none, or of an algorithm that is not known here.
        """
        algorithm, _, digits = text.partition(":")
        length = _HEX_DIGITS.get(algorithm)
        if length is None or not re.fullmatch(rf"[0-9a-f]{{{length}}}", digits):
            raise ManifestError(f"{text!r} is no digest: sha256: and 64 digits of 0-9a-f, or sha512: and 128, is one")
        return cls(algorithm, digits)

    @classmethod
    def of(cls, content: bytes) -> Self:
        """The sha256 of some bytes."""
        return cls("sha256", hashlib.sha256(content).hexdigest())

    @classmethod
    def of_file(cls, path: Path) -> Self:
        """The sha256 of a file."""
        with path.open("rb") as file:
            return cls("sha256", hashlib.file_digest(file, "sha256").hexdigest())

    def hasher(self) -> Hasher:
        """To compute one of the same algorithm."""
        return hashlib.new(self.algorithm)

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"
