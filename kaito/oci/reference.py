"""Image references, read as Docker reads them: `[REGISTRY/]REPOSITORY[:TAG][@DIGEST]`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from kaito.hosts import is_loopback
from kaito.oci.digest import Digest
from kaito.oci.errors import ManifestError, ReferenceFormatError

DOCKER_HUB = "docker.io"
_DOCKER_HUB_NAMES = ("docker.io", "index.docker.io")
# Docker Hub's name and the host that serves its images are two.
_DOCKER_HUB_HOST = "registry-1.docker.io"
_MAX_NAME = 255
_MAX_PORT = 65535

_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_REGISTRY = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-fA-F:]+\])(?::[0-9]+)?")
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_PART}(?:/{_PART})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


@dataclass(frozen=True, slots=True)
class Reference:
    """Which image of which registry.

    Attributes:
        registry: host and port, as people write them; `docker.io` for Docker Hub.
        repository: such as `library/busybox`.
        tag: none where only a digest was given.
        digest: of the manifest; it wins over the tag.
    """

    registry: str
    repository: str
    tag: str | None = None
    digest: Digest | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads a reference; without tag and digest, the tag is `latest`.

        Raises:
            ReferenceFormatError: It is none; says which part is wrong and what is allowed.
        """
        name, at, digest = text.partition("@")
        # A colon before the last slash is that of a port.
        folders, slash, last = name.rpartition("/")
        last, colon, tag = last.partition(":")
        registry, repository = _split(folders + slash + last)
        if not _REGISTRY.fullmatch(registry):
            raise _wrong(text, f"the registry {registry!r} is no HOST or HOST:PORT")
        if _port(registry) > _MAX_PORT:
            raise _wrong(text, f"the registry {registry!r} has a port above {_MAX_PORT}")
        if not _REPOSITORY.fullmatch(repository):
            allowed = "lower case letters and digits, with '.', '_', '__' or '-' between them, in parts split by '/'"
            raise _wrong(text, f"the repository {repository!r} may have {allowed}")
        if len(f"{registry}/{repository}") > _MAX_NAME:
            raise _wrong(text, f"registry and repository have more than {_MAX_NAME} characters")
        if colon and not _TAG.fullmatch(tag):
            raise _wrong(text, f"the tag {tag!r} may have up to 128 letters, digits, '_', '.' and '-'")
        return cls(
            registry,
            repository,
            tag if colon else None if at else "latest",
            _digest(text, digest) if at else None,
        )

    @property
    def host(self) -> str:
        """Host and port that serve it."""
        return _DOCKER_HUB_HOST if self.registry == DOCKER_HUB else self.registry

    @property
    def is_loopback(self) -> bool:
        """Whether the registry is on this machine, where nobody can listen in."""
        return is_loopback(re.sub(r":[0-9]+$", "", self.registry).strip("[]"))

    @property
    def version(self) -> str:
        """By what the registry is asked for its manifest: the digest, else the tag."""
        return str(self.digest) if self.digest is not None else self.tag or "latest"

    @property
    def name(self) -> str:
        """Registry and repository."""
        return f"{self.registry}/{self.repository}"

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.name}{tag}{f'@{self.digest}' if self.digest else ''}"


def _port(registry: str) -> int:
    found = re.search(r":([0-9]+)$", registry)
    return int(found[1][:6]) if found else 0


def _split(name: str) -> tuple[str, str]:
    """Registry and repository, by the rule of Docker: what looks like a host is one."""
    first, slash, rest = name.partition("/")
    if not slash or not (set(".:") & set(first) or first == "localhost" or first != first.lower()):
        first, rest = DOCKER_HUB, name
    if first in _DOCKER_HUB_NAMES:
        return DOCKER_HUB, rest if "/" in rest else f"library/{rest}"
    return first, rest


def _digest(text: str, digest: str) -> Digest:
    try:
        return Digest.parse(digest)
    except ManifestError as error:
        raise _wrong(text, str(error)) from None


def _wrong(text: str, why: str) -> ReferenceFormatError:
    shown = text if len(text) <= 200 else f"{text[:200]}…"
    form = "[REGISTRY/]REPOSITORY[:TAG][@DIGEST], such as myregistry.azurecr.io/adapters/phi-3:0.0.1"
    return ReferenceFormatError(f"{shown!r} is no image reference: {why}; write {form}")
