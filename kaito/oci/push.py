"""Push: a folder as an image that holds it at a path, or as an artifact with a layer for each file."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kaito.oci.client import BROKEN, Registry, location
from kaito.oci.digest import Digest
from kaito.oci.errors import FolderError, NotFoundError, UnreachableError
from kaito.oci.layers import pack, walk
from kaito.oci.manifests import EMPTY_CONFIG, OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, TITLE, Descriptor, Manifest
from kaito.oci.pull import Report

ARTIFACT_TYPE = "application/vnd.kaito.adapter.v1"
_FILE = "application/octet-stream"
_CHUNK_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class _Blob:
    descriptor: Descriptor
    content: bytes | Path


async def push_image(registry: Registry, folder: Path, *, path: str = "/data", report: Report | None = None) -> Digest:
    """Pushes a folder as an image of one layer, under the tag of the registry's reference.

    The same files make the same digest, whenever and wherever they are pushed.

    Args:
        registry: where to.
        folder: whose content goes in; what is hidden stays out.
        path: where in the image.
        report: told about progress.

    Returns:
        The digest of the manifest.

    Raises:
        FolderError: The folder holds what cannot go into an image.
        OciError: As `Registry` does.
    """
    with tempfile.TemporaryDirectory(prefix="kaito-push-") as scratch:
        packed = await asyncio.to_thread(pack, folder, Path(scratch, "layer.tar.gz"), path.strip("/"))
        # Of one platform, whatever machine it is made on: it holds no program, and digests should not differ.
        config = {
            "architecture": "amd64",
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{packed.diff_id}"]},
        }
        layer = await asyncio.to_thread(_of_file, packed.path, OCI_LAYER)
        manifest = _of_bytes(json.dumps(config, separators=(",", ":")).encode(), OCI_CONFIG)
        return await _push(registry, manifest, [layer], None, report)


async def push_artifact(registry: Registry, folder: Path, *, report: Report | None = None) -> Digest:
    """Pushes a folder as an artifact, as `oras push` does: a layer for each file, whose annotation has its name.

    Arguments, result and errors are those of `push_image`.
    """
    files = [(name, path) for name, path in await asyncio.to_thread(lambda: list(walk(folder))) if not path.is_dir()]
    layers = [await asyncio.to_thread(_of_file, path, _FILE, {TITLE: name}) for name, path in files]
    return await _push(registry, _of_bytes(b"{}", EMPTY_CONFIG), layers, ARTIFACT_TYPE, report)


async def _push(
    registry: Registry, config: _Blob, layers: Sequence[_Blob], artifact_type: str | None, report: Report | None
) -> Digest:
    if not layers:
        raise FolderError("there is no file to push")
    registry.allow_push()
    total = sum(layer.descriptor.size for layer in layers)
    done = 0
    for blob in (config, *layers):
        if not await registry.has_blob(blob.descriptor.digest):
            await _Upload(registry, blob).send()
        done += blob.descriptor.size if blob is not config else 0
        if report is not None:
            report(done, total)
    manifest = Manifest(
        config=config.descriptor, layers=tuple(layer.descriptor for layer in layers), artifact_type=artifact_type
    )
    content = manifest.model_dump_json(by_alias=True, exclude_none=True).encode()
    what, headers = str(registry.reference), {"Content-Type": OCI_MANIFEST}
    version = registry.reference.tag or str(Digest.of(content))
    async with registry.request(
        "PUT", f"manifests/{version}", what=what, expected=(201,), headers=headers, data=content
    ):
        return Digest.of(content)


class _Upload:
    """One blob on its way to the registry, in pieces, each of which may break off."""

    def __init__(self, registry: Registry, blob: _Blob) -> None:
        self._registry, self._blob = registry, blob
        self._what = f"{registry.reference}: upload of {blob.descriptor.digest}"
        self._url = ""

    async def send(self) -> None:
        await self._begin()
        sent, failures, size = 0, 0, self._blob.descriptor.size
        while sent < size:
            before = sent
            try:
                sent = await self._send_piece(sent)
                failures = 0
            except (UnreachableError, *BROKEN) as error:
                failures += 1
                told = error if isinstance(error, UnreachableError) else self._registry.unreachable(error)
                if failures >= self._registry.retries.attempts:
                    raise told from None
                await self._registry.pause(failures, told)
                sent = await self._received()
                failures = 0 if sent > before else failures
        joint = "&" if "?" in self._url else "?"
        url = f"{self._url}{joint}digest={self._blob.descriptor.digest}"
        async with self._registry.request("PUT", url, what=self._what, expected=(201,)):
            pass

    async def _begin(self) -> None:
        async with self._registry.request("POST", "blobs/uploads/", what=self._what, expected=(202,)) as response:
            self._url = location(response)

    async def _send_piece(self, start: int) -> int:
        piece = await asyncio.to_thread(_piece, self._blob.content, start)
        end = start + len(piece)
        headers = {"Content-Type": _FILE, "Content-Range": f"{start}-{end - 1}"}
        # Once only: after a break the registry may have a part of it.
        async with self._registry.request(
            "PATCH", self._url, what=self._what, expected=(202, 416), headers=headers, data=piece, tries=1
        ) as response:
            if response.status == 416:
                return await self._received()
            self._url = location(response)
            return end

    async def _received(self) -> int:
        """How much the registry has; from the start in a new upload if it has forgotten this one."""
        with contextlib.suppress(NotFoundError):
            async with self._registry.request("GET", self._url, what=self._what, expected=(204, 200)) as response:
                self._url = location(response)
                held = re.fullmatch(r"(?:bytes=)?0-([0-9]+)", response.headers.get("Range", ""))
                return int(held[1]) + 1 if held and int(held[1]) else 0
        await self._begin()
        return 0


def _of_bytes(content: bytes, media_type: str) -> _Blob:
    return _Blob(Descriptor(media_type=media_type, digest=Digest.of(content), size=len(content)), content)


def _of_file(path: Path, media_type: str, annotations: dict[str, str] | None = None) -> _Blob:
    digest, size = Digest.of_file(path), path.stat().st_size
    return _Blob(Descriptor(media_type=media_type, digest=digest, size=size, annotations=annotations), path)


def _piece(content: bytes | Path, start: int) -> bytes:
    if isinstance(content, bytes):
        return content[start : start + _CHUNK_BYTES]
    with content.open("rb") as file:
        file.seek(start)
        return file.read(_CHUNK_BYTES)
