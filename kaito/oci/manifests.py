"""Manifests and indexes, of OCI and of Docker: what an image or artifact consists of."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationError
from pydantic.alias_generators import to_camel

from kaito.oci.digest import Digest
from kaito.oci.errors import ManifestError

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
EMPTY_CONFIG = "application/vnd.oci.empty.v1+json"
_DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
MANIFEST_TYPES = (OCI_MANIFEST, OCI_INDEX, _DOCKER_MANIFEST, _DOCKER_INDEX)

TITLE = "org.opencontainers.image.title"
"""Annotation of an artifact's layer: the name of the file that it is."""
UNPACK = "io.deis.oras.content.unpack"
"""Annotation by which oras marks a layer that is an archive of a folder."""
_NO_IMAGE = "vnd.docker.reference.type"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm"}


def _digest(value: Any) -> Digest:
    if isinstance(value, Digest):
        return value
    try:
        return Digest.parse(str(value))
    except ManifestError as error:
        raise ValueError(str(error)) from None


DigestField = Annotated[Digest, BeforeValidator(_digest), PlainSerializer(str)]


class _Part(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True)


class Platform(_Part):
    """What an image runs on, in Go's words."""

    os: str = ""
    architecture: str = ""

    def __str__(self) -> str:
        return f"{self.os}/{self.architecture}"


class Descriptor(_Part):
    """Content by digest, size and kind."""

    media_type: str
    digest: DigestField
    size: int = Field(ge=0)
    annotations: Mapping[str, str] | None = None
    platform: Platform | None = None
    urls: tuple[str, ...] | None = None

    @property
    def title(self) -> str | None:
        """The file that it is, in an artifact."""
        return (self.annotations or {}).get(TITLE)


class Manifest(_Part):
    """An image, or an artifact."""

    schema_version: int = 2
    media_type: str = OCI_MANIFEST
    artifact_type: str | None = None
    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: Mapping[str, str] | None = None

    @property
    def is_artifact(self) -> bool:
        """Whether its layers are files with names rather than parts of a file system."""
        return any(layer.title is not None for layer in self.layers)


class Index(_Part):
    """Images for several platforms."""

    manifests: tuple[Descriptor, ...]


def parse_manifest(content: bytes, what: str) -> Manifest | Index:
    """Reads either.

    Args:
        content: JSON.
        what: whose it is, in messages.

    Raises:
        ManifestError: It is neither.
    """
    try:
        document = _Kind.model_validate_json(content)
        if document.schema_version == 1:
            raise ManifestError(
                f"{what}: is an image of Docker's schema 1, of before 2017, which is not read; push it again with a "
                "docker of today"
            )
        if document.manifests is not None and document.layers is not None:
            # Under one digest it would be one image to us, and another one to whoever reads the other half.
            raise ManifestError(f"{what}: has layers and manifests, so it may be an image or an index; push it again")
        kind: type[Manifest | Index] = Index if document.manifests is not None else Manifest
        return kind.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the document"
        raise ManifestError(f"{what}: its manifest is none of OCI or Docker: {where}: {first['msg']}") from None


def choose(index: Index, what: str) -> Descriptor:
    """The image for this machine; the only one, if there is but one.

    Raises:
        ManifestError: There are several, and none for this machine.
    """
    images = [each for each in index.manifests if _NO_IMAGE not in (each.annotations or {})]
    here = Platform(os="linux", architecture=_ARCHITECTURES.get(platform.machine(), platform.machine()))
    fitting = [each for each in images if each.platform is not None and str(each.platform) == str(here)]
    if fitting:
        return fitting[0]
    if len(images) == 1:
        return images[0]
    offered = ", ".join(str(each.platform or "unknown") for each in images) or "nothing"
    raise ManifestError(f"{what}: has no image for {here}, but for {offered}")


class _Kind(_Part):
    schema_version: Any = None
    manifests: Any = None
    layers: Any = None
