"""Unpack: what was pulled, as files in a folder: of an image one of its folders, of an artifact its files."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kaito.oci.errors import LayerError
from kaito.oci.layers import MAX_UNPACKED_BYTES, NO_ZSTD, Unpacker, check_links, explained
from kaito.oci.manifests import UNPACK, Descriptor, Manifest


@dataclass(frozen=True, slots=True)
class Unpacked:
    """What came out.

    Attributes:
        files: by their names in the folder, sorted.
        others: of an image, what it has at its top beside the folder that was asked for.
    """

    files: tuple[str, ...]
    others: tuple[str, ...] = ()


def check_readable(manifest: Manifest, *, limit_bytes: int = MAX_UNPACKED_BYTES) -> None:
    """Looks, before anything is fetched, whether it could be unpacked.

    Args:
        manifest: of the image or artifact.
        limit_bytes: that it may have.

    Raises:
        LayerError: A layer is of a kind that is not read, or there is more than the limit.
    """
    for layer in manifest.layers:
        if layer.media_type.endswith("zstd") and not (manifest.is_artifact and layer.title and not _is_folder(layer)):
            raise LayerError(f"layer {layer.digest}: {NO_ZSTD}")
    if (total := sum(layer.size for layer in manifest.layers)) > limit_bytes:
        raise LayerError(f"its layers have {total} bytes, more than the {limit_bytes} that are allowed")


def unpack(
    manifest: Manifest, blobs: Sequence[Path], folder: Path, *, path: str, limit_bytes: int = MAX_UNPACKED_BYTES
) -> Unpacked:
    """Writes the files to a folder, which is empty.

    Args:
        manifest: of the image or artifact.
        blobs: files of its layers, in their order.
        folder: to write to.
        path: of an image, the folder that is wanted, such as `/data`.
        limit_bytes: that they may unpack to.

    Raises:
        LayerError: A layer is broken or holds what must not be written.
        OSError: The folder cannot be written to.
    """
    unpacker = Unpacker(folder, "" if manifest.is_artifact else path, limit_bytes)
    for layer, blob in zip(manifest.layers, blobs, strict=True):
        if not manifest.is_artifact:
            unpacker.apply(blob, f"layer {layer.digest}")
        elif layer.title is not None:
            _take(unpacker, layer, blob)
    check_links(folder)
    names = (
        each.relative_to(folder).as_posix() for each in folder.rglob("*") if not each.is_dir() or each.is_symlink()
    )
    return Unpacked(tuple(sorted(names)), tuple(sorted(unpacker.others)))


def _take(unpacker: Unpacker, layer: Descriptor, blob: Path) -> None:
    if _is_folder(layer):
        unpacker.apply(blob, f"layer {layer.title}")
        return
    with explained(f"layer {layer.title}"):
        shutil.copyfile(blob, unpacker.place(layer.title or ""))


def _is_folder(layer: Descriptor) -> bool:
    return (layer.annotations or {}).get(UNPACK) == "true"
