"""Push: a folder as an image that holds it at a path, or as an artifact with a layer for each file."""

from __future__ import annotations

import asyncio
import json
import re
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kaito.oci.client import Registry
from kaito.oci.digest import Digest
from kaito.oci.errors import FolderError, NotFoundError, RegistryError, UnreachableError
from kaito.oci.exchange import Sent, location
from kaito.oci.manifests import EMPTY_CONFIG, OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, TITLE, Descriptor, Manifest
from kaito.oci.pack import Packed, pack, walk
from kaito.oci.pull import Report
from kaito.oci.retries import RETRIED_STATUSES

ARTIFACT_TYPE = "application/vnd.kaito.adapter.v1"
_FILE = "application/octet-stream"
# All at once, as docker sends them: some registries take no pieces. Then less, for proxies that answer 413 to that.
_PIECES_BYTES = (1 << 62, 16 << 20, 512 << 10)


@dataclass(frozen=True, slots=True)
class _Blob:
    descriptor: Descriptor
    content: bytes | Path


@dataclass(frozen=True, slots=True)
class Extras:
    """How a folder is pushed.

    Attributes:
        path: of an image, where in it the files lie.
        mount_from: a repository of the same registry that may have the content: then it is not sent again.
        annotations: of the manifest.
    """

    path: str = "/data"
    mount_from: str | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)


async def push_image(
    registry: Registry, folder: Path, extras: Extras | None = None, *, report: Report | None = None
) -> Digest:
    """Pushes a folder as an image of one layer, under the tag of the registry's reference.

    The same files make the same digest, whenever and wherever they are pushed.

    Args:
        registry: where to.
        folder: whose content goes in; what is hidden, and checkpoints of a training, stay out.
        extras: where in the image, and more.
        report: told about progress.

    Returns:
        The digest of the manifest.

    Raises:
        FolderError: The folder holds what cannot go into an image.
        OciError: As `Registry` does.
    """
    extras = extras or Extras()
    await _ask(registry, extras)
    with tempfile.TemporaryDirectory(prefix="kaito-push-") as scratch:
        packed = await _pack(folder, Path(scratch, "layer.tar.gz"), extras.path.strip("/"))
        # Of one platform, whatever machine it is made on: it holds no program, and digests should not differ.
        config = {
            "architecture": "amd64",
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{packed.diff_id}"]},
        }
        layer = await asyncio.to_thread(_of_file, packed.path, OCI_LAYER)
        manifest = _of_bytes(json.dumps(config, separators=(",", ":")).encode(), OCI_CONFIG)
        return await _push(registry, manifest, [layer], None, extras, report)


async def _pack(folder: Path, archive: Path, prefix: str) -> Packed:
    """Packs in a thread, which ends soon after this is called off: nobody waits for gigabytes that nobody wants."""
    is_off = threading.Event()

    def tick(_: int) -> None:
        if is_off.is_set():
            raise InterruptedError

    try:
        return await asyncio.to_thread(pack, folder, archive, prefix, tick=tick)
    finally:
        is_off.set()


async def push_artifact(
    registry: Registry, folder: Path, extras: Extras | None = None, *, report: Report | None = None
) -> Digest:
    """Pushes a folder as an artifact, as `oras push` does: a layer for each file, whose annotation has its name.

    Arguments, result and errors are those of `push_image`.
    """
    extras = extras or Extras()
    await _ask(registry, extras)
    files = [(name, path) for name, path in await asyncio.to_thread(lambda: list(walk(folder))) if not path.is_dir()]
    layers = [await asyncio.to_thread(_of_file, path, _FILE, {TITLE: name}) for name, path in files]
    config = _of_bytes(b"{}", EMPTY_CONFIG)
    return await _push(registry, config, layers, ARTIFACT_TYPE, extras, report)


async def _ask(registry: Registry, extras: Extras) -> None:
    """A wrong password, or a registry that is not there, is to be known before gigabytes are packed."""
    registry.allow_push(extras.mount_from)
    await registry.has_blob(Digest.of(b"{}"))


async def _push(
    registry: Registry,
    config: _Blob,
    layers: Sequence[_Blob],
    artifact_type: str | None,
    extras: Extras,
    report: Report | None,
) -> Digest:
    if not layers:
        raise FolderError("there is no file to push")
    blobs = (config, *layers)
    total, done = sum(blob.descriptor.size for blob in blobs), 0

    def reach(sent: int) -> None:
        if report is not None:
            report(done + sent, total)

    for blob in blobs:
        if not await registry.has_blob(blob.descriptor.digest):
            await _Upload(registry, blob, extras.mount_from, reach).send()
        reach(blob.descriptor.size)
        done += blob.descriptor.size
    manifest = Manifest(
        config=config.descriptor,
        layers=tuple(layer.descriptor for layer in layers),
        artifact_type=artifact_type,
        annotations=extras.annotations or None,
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

    def __init__(self, registry: Registry, blob: _Blob, mount_from: str | None, sent: Sent) -> None:
        self._registry, self._blob, self._mount_from, self._told = registry, blob, mount_from, sent
        self._what = f"{registry.reference}: upload of {blob.descriptor.digest}"
        self._url = ""
        self._is_pieced = False
        self._pieces_bytes = list(_PIECES_BYTES)

    async def send(self) -> None:
        if await self._begin():
            return None
        sent = furthest = failures = 0
        while True:
            try:
                if sent >= self._blob.descriptor.size:
                    return await self._finish()
                sent = await self._send_piece(sent)
                # However often it breaks off, as long as it gets on.
                failures = 0 if sent > furthest else failures + 1
                furthest = max(furthest, sent)
                if failures < self._registry.retries.attempts:
                    continue
                raise UnreachableError(f"{self._what}: the registry does not take more than {sent} bytes of it")
            except (UnreachableError, RegistryError) as error:
                if isinstance(error, RegistryError) and error.status == 413 and self._pieces_bytes[1:]:
                    del self._pieces_bytes[0]
                    sent = await self._restart()
                    continue
                failures += 1
                if failures >= self._registry.retries.attempts or not self._may_go_on(error):
                    raise
                wished_s = error.retry_after_s if isinstance(error, RegistryError) else None
                await self._registry.pause(failures, error, wished_s)
                sent = await (self._received() if self._is_kept(error) else self._restart())

    def _may_go_on(self, error: UnreachableError | RegistryError) -> bool:
        if isinstance(error, UnreachableError | NotFoundError):
            return True
        # What was put together of pieces may have come out wrong there.
        return error.status in RETRIED_STATUSES or (error.status == 400 and self._is_pieced)

    def _is_kept(self, error: UnreachableError | RegistryError) -> bool:
        return isinstance(error, UnreachableError) or error.status in RETRIED_STATUSES

    async def _restart(self) -> int:
        await self._begin()
        return 0

    async def _begin(self) -> bool:
        """Asks for an upload; True if none is needed, as the registry has the blob elsewhere."""
        path = "blobs/uploads/"
        if self._mount_from is not None:
            path += f"?mount={self._blob.descriptor.digest}&from={self._mount_from}"
        # Only the first time: where it was not there, it will not be later.
        self._mount_from, self._is_pieced = None, False
        async with self._registry.request("POST", path, what=self._what, expected=(201, 202)) as response:
            if response.status == 201:
                return True
            self._url = location(response, str(response.url))
            return False

    async def _send_piece(self, start: int) -> int:
        size = self._blob.descriptor.size
        end = min(start + self._pieces_bytes[0], size)
        headers = {"Content-Type": _FILE}
        if end - start < size:
            headers["Content-Range"] = f"{start}-{end - 1}"
        # Once only: after a break the registry may have a part of it.
        async with self._registry.request(
            *("PATCH", self._url),
            what=self._what,
            expected=(202, 416),
            headers=headers,
            data=_Part(self._blob.content, start, end),
            tries=1,
            sent=lambda count: self._told(start + count),
        ) as response:
            if response.status == 202:
                self._url = location(response, str(response.url))
                held = _held(response.headers.get("Range"))
                return min(held, end) if held else end
        return await self._received()

    async def _received(self) -> int:
        """How much the registry has; from the start in a new upload if it has forgotten this one."""
        try:
            async with self._registry.request("GET", self._url, what=self._what, expected=(204, 200)) as response:
                held = _held(response.headers.get("Range")) or 0
                if held <= self._blob.descriptor.size:
                    if "Location" in response.headers:
                        self._url = location(response, str(response.url))
                    self._is_pieced = held > 0
                    return held
        except RegistryError as error:
            if error.status not in (400, 404, 405):
                raise
        return await self._restart()

    async def _finish(self) -> None:
        joint = "&" if "?" in self._url else "?"
        url = f"{self._url}{joint}digest={self._blob.descriptor.digest}"
        try:
            async with self._registry.request("PUT", url, what=self._what, expected=(201,)):
                pass
        except NotFoundError:
            # It may have been done already, by a request whose answer was lost.
            if not await self._registry.has_blob(self._blob.descriptor.digest):
                raise


def _held(header: str | None) -> int | None:
    """Bytes that a `Range` header says are there; 0-0 is what registries say of none."""
    found = re.fullmatch(r"(?:bytes=)?0-([0-9]+)", header or "")
    return None if found is None else int(found[1]) + 1 if int(found[1]) else 0


def _of_bytes(content: bytes, media_type: str) -> _Blob:
    return _Blob(Descriptor(media_type=media_type, digest=Digest.of(content), size=len(content)), content)


def _of_file(path: Path, media_type: str, annotations: dict[str, str] | None = None) -> _Blob:
    digest, size = Digest.of_file(path), path.stat().st_size
    return _Blob(Descriptor(media_type=media_type, digest=digest, size=size, annotations=annotations), path)


@dataclass(frozen=True, slots=True)
class _Part:
    """A part of a blob, as a body."""

    content: bytes | Path
    start: int
    end: int

    def __len__(self) -> int:
        return self.end - self.start

    def __getitem__(self, span: slice, /) -> bytes:
        start, end = self.start + span.start, min(self.start + span.stop, self.end)
        if isinstance(self.content, bytes):
            return self.content[start:end]
        with self.content.open("rb") as file:
            file.seek(start)
            return file.read(end - start)
