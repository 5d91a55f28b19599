"""Pull: an image's blobs into a folder, each verified, and each continued where an earlier try ended."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from kaito.oci.client import Document, Registry
from kaito.oci.digest import Digest
from kaito.oci.errors import BrokenOffError, DigestMismatchError, ManifestError, NotFoundError, UnreachableError
from kaito.oci.manifests import Descriptor, Index, Manifest, choose, parse_manifest

PARALLEL = 3
_CHUNK_BYTES = 1 << 18

Report = Callable[[int, int], None]
"""Is told how many bytes are there, and of how many."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """What a reference stands for.

    Attributes:
        digest: of what the tag names, which may be an index.
        manifest: of the image that was chosen.
    """

    digest: Digest
    manifest: Manifest


async def resolve(registry: Registry) -> Resolved:
    """Asks for a reference's manifest; of an index, that of the image for this machine.

    Raises:
        OciError: As `Registry` does, or the manifest is none, or none of the images is for this machine.
    """
    what = str(registry.reference)
    first = await registry.manifest()
    read = parse_manifest(first.content, what)
    if isinstance(read, Index):
        chosen: Document = await registry.manifest(str(choose(read, what).digest))
        read = parse_manifest(chosen.content, what)
    if isinstance(read, Index):
        raise ManifestError(f"{what}: is an index of indexes, which is not supported")
    return Resolved(first.digest, read)


async def fetch(
    registry: Registry, descriptors: Sequence[Descriptor], folder: Path, report: Report | None = None
) -> list[Path]:
    """Fetches blobs, some at the same time; what is there already is not asked for again.

    A cancelled or failed fetch leaves what came, and the next one goes on from there.

    Args:
        registry: that has them.
        descriptors: of the blobs.
        folder: that they go to, each named by its digest; made if it is not there.
        report: told about progress.

    Returns:
        Their files, in the order of the descriptors.

    Raises:
        DigestMismatchError: The registry's content is not what its digest names.
        OciError: As `Registry` does.
        OSError: The folder cannot be written to.
    """
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    unique = {str(each.digest): each for each in descriptors}
    progress = _Progress(sum(each.size for each in unique.values()), report)
    slots = asyncio.Semaphore(PARALLEL)

    async def one(descriptor: Descriptor) -> None:
        async with slots:
            await _Blob(registry, descriptor, folder, progress).fetch()

    try:
        async with asyncio.TaskGroup() as group:
            for each in unique.values():
                group.create_task(one(each))
    except* Exception as failures:
        raise _first(failures) from None
    return [blob_path(folder, each.digest) for each in descriptors]


def blob_path(folder: Path, digest: Digest) -> Path:
    """Where a blob is kept."""
    return folder / f"{digest.algorithm}-{digest.hex}"


class _Progress:
    def __init__(self, total: int, report: Report | None) -> None:
        self._total, self._report = total, report
        self._done: dict[str, int] = {}

    def reach(self, digest: Digest, done: int) -> None:
        self._done[str(digest)] = done
        if self._report is not None:
            self._report(sum(self._done.values()), self._total)


class _Blob:
    """One blob on its way into its file."""

    def __init__(self, registry: Registry, descriptor: Descriptor, folder: Path, progress: _Progress) -> None:
        self._registry, self._descriptor, self._progress = registry, descriptor, progress
        self._path = blob_path(folder, descriptor.digest)
        self._file = _PartialFile(self._path.with_name(f"{self._path.name}.partial"), descriptor)

    async def fetch(self) -> None:
        digest, size = self._descriptor.digest, self._descriptor.size
        if not self._path.exists():
            await asyncio.to_thread(self._file.open)
            with contextlib.closing(self._file):
                await self._receive()
                if self._file.is_pieced and not self._file.is_right():
                    # What an earlier try left may be broken, or a server has put the pieces wrong: once more as one.
                    self._file.restart()
                    await self._receive()
                if not self._file.is_right():
                    self._file.remove()
                    raise DigestMismatchError(
                        f"{self._registry.reference}: the registry's blob {digest} has other bytes than its digest "
                        "says; it is broken there or on the way; have it removed there, and push it again"
                    )
                await asyncio.to_thread(self._file.rename, self._path)
        self._progress.reach(digest, size)

    async def _receive(self) -> None:
        failures, furthest = 0, self._file.received
        while self._file.received < self._descriptor.size:
            try:
                await self._receive_once()
            except BrokenOffError as error:
                # However often it breaks off, as long as it gets on.
                failures = 1 if self._file.received > furthest else failures + 1
                furthest = max(furthest, self._file.received)
                if failures >= self._registry.retries.attempts:
                    raise UnreachableError(str(error)) from None
                await self._registry.pause(failures, error)

    async def _receive_once(self) -> None:
        descriptor, start = self._descriptor, self._file.received
        self._file.is_pieced = start > 0
        headers = {"Range": f"bytes={start}-"} if start else {}
        what = f"{self._registry.reference}: blob {descriptor.digest}"
        path, expected = f"blobs/{descriptor.digest}", (200, 206, 416)
        try:
            async with self._registry.request("GET", path, what=what, expected=expected, headers=headers) as response:
                goes_on = response.headers.get("Content-Range", "").startswith(f"bytes {start}-")
                if start and (response.status != 206 or not goes_on):
                    self._file.restart()
                if response.status != 416:
                    await self._take(response, what)
                elif start:
                    return
        except NotFoundError as error:
            if descriptor.urls:
                # Base layers of Windows, which no registry but its maker's may hand on.
                raise ManifestError(f"{error}; it is a foreign layer, which is not fetched from elsewhere") from None
            raise
        if self._file.received < descriptor.size:
            raise BrokenOffError(f"{what} ended after {self._file.received} of {descriptor.size} bytes")

    async def _take(self, response: aiohttp.ClientResponse, what: str) -> None:
        size = self._descriptor.size
        async for chunk in self._registry.chunks(response):
            if self._file.received + len(chunk) > size:
                response.close()
                raise DigestMismatchError(f"{what} is longer than the {size} bytes that it should have")
            self._file.append(chunk)
            self._progress.reach(self._descriptor.digest, self._file.received)


class _PartialFile:
    """A file that grows, and the digest of what it has.

    Attributes:
        received: bytes that are in it.
        is_pieced: whether they came in more than one go.
    """

    def __init__(self, path: Path, descriptor: Descriptor) -> None:
        self._path, self._descriptor = path, descriptor
        self.received = 0
        self.is_pieced = False

    def open(self) -> None:
        """Goes on with what is there."""
        self._hasher = self._descriptor.digest.hasher()
        # Without a buffer, so that all that was received is there after a kill.
        self._output = self._path.open("a+b", buffering=0)
        self._output.seek(0)
        while chunk := self._output.read(_CHUNK_BYTES):
            self._hasher.update(chunk)
            self.received += len(chunk)
        if self.received > self._descriptor.size:
            self.restart()
        self.is_pieced = self.received > 0

    def append(self, chunk: bytes) -> None:
        left = memoryview(chunk)
        while left:
            left = left[self._output.write(left) :]
        self._hasher.update(chunk)
        self.received += len(chunk)

    def restart(self) -> None:
        self._output.truncate(0)
        self._hasher = self._descriptor.digest.hasher()
        self.received = 0
        self.is_pieced = False

    def is_right(self) -> bool:
        return self._hasher.hexdigest() == self._descriptor.digest.hex

    def close(self) -> None:
        self._output.close()

    def remove(self) -> None:
        self._path.unlink()

    def rename(self, path: Path) -> None:
        # By its name it is trusted later, also after a power cut.
        os.fsync(self._output.fileno())
        self._path.rename(path)


def _first(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    first = failures.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first
