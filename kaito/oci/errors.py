"""What can go wrong between here and a registry; each message is one line for people.

OciError                    every error of this package
├── ReferenceFormatError    no image reference
├── CredentialsError        a file or a program with credentials cannot be used
├── FolderError             a folder cannot be made a layer of
├── LayerError              an archive that must not, or cannot, be unpacked
├── ManifestError           a manifest that is none, or has nothing for this machine
├── DigestMismatchError     the bytes are not those that their digest names
├── UnreachableError        nothing answers there, or not to the end
│   └── BrokenOffError      an answer that ended too early; what came is kept
└── RegistryError           the registry refused a request; has its status
    ├── NotFoundError
    └── UnauthorizedError   says which credentials were used, and from where
"""

from __future__ import annotations


class OciError(Exception):
    """Every error of this package; one line that says what, why and what to do."""


class ReferenceFormatError(OciError):
    """It is no image reference; says what was given and what is allowed."""


class CredentialsError(OciError):
    """A file with credentials, or the helper that one names, cannot be used."""


class FolderError(OciError):
    """A folder holds what cannot go into a layer."""


class LayerError(OciError):
    """An archive is broken, or holds what must not be written."""


class ManifestError(OciError):
    """A manifest is not what the image specification says, or has nothing for this machine."""


class DigestMismatchError(OciError):
    """The bytes that came are not those that the digest names."""


class UnreachableError(OciError):
    """The registry cannot be reached, or broke off again and again."""


class BrokenOffError(UnreachableError):
    """An answer ended before it was all there."""


class RegistryError(OciError):
    """The registry refused a request.

    Attributes:
        status: HTTP status of its answer.
        retry_after_s: how long it asks to be left alone.
    """

    def __init__(self, message: str, *, status: int, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.status, self.retry_after_s = status, retry_after_s


class NotFoundError(RegistryError):
    """The registry has no such repository, manifest or blob."""


class UnauthorizedError(RegistryError):
    """The registry does not let these credentials, or nobody without any, do that."""
