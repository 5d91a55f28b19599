"""Adapter image: from a registry into the folder that the server looks into, whole or not at all."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import shutil
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from kaito.inference.errors import StartError
from kaito.inference.wording import some
from kaito.locks import FileLock
from kaito.oci.client import Registry
from kaito.oci.errors import LayerError, RegistryError, UnreachableError
from kaito.oci.layers import check_links
from kaito.oci.pull import Report, Resolved, fetch, resolve
from kaito.oci.unpack import Unpacked, check_readable, unpack

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_RECORD = ".kaito-pull.json"
_STAGING = ".kaito-pull"
_MAX_LISTED = 6
_LOCK_POLL_S, _LOCK_TELL_S = 0.2, 5.0
# What file systems say that know no locks, such as some of NFS.
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)

Say = Callable[[str], None]
"""Is told what is waited for, in one line."""


@dataclass(frozen=True, slots=True)
class Record:
    """What a folder was filled with.

    Attributes:
        reference: as it was asked for.
        digest: that it stood for.
        path: of the image, what was taken.
        files: bytes by name.
    """

    reference: str
    digest: str
    path: str
    files: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Pulled:
    """What was done.

    Attributes:
        record: what the folder now holds.
        fetched: whether anything had to be.
        warning: what a person should know; empty for nothing.
    """

    record: Record
    fetched: bool
    warning: str = ""


async def pull_adapter(
    registry: Registry, folder: Path, *, path: str, report: Report | None = None, say: Say = lambda _: None
) -> Pulled:
    """Fills a folder with an adapter, unless it holds that very one.

    A folder that is not there appears when it is complete. In one that is, such as a volume's, adapter_config.json,
    by which the server knows an adapter, comes last. What was fetched before a failure is kept beside, or hidden in
    the folder, for the next try. Of several that fill one folder, one works and the others wait for it.

    Args:
        registry: of the image.
        folder: to fill.
        path: of an image, where in it the adapter is.
        report: told about progress.
        say: told whom this waits for.

    Raises:
        StartError: There is no adapter in the image, or the folder cannot be written to.
        OciError: The image cannot be had.
    """
    reference = str(registry.reference)
    there = await asyncio.to_thread(_Place(folder).record, reference, path)
    pinned = registry.reference.digest
    if there is not None and pinned is not None and there.digest == str(pinned):
        return Pulled(there, fetched=False)
    try:
        image = await resolve(registry)
    except (UnreachableError, RegistryError) as error:
        if there is None or (isinstance(error, RegistryError) and error.status < 500):
            raise
        return Pulled(there, fetched=False, warning=f"{error}; what was pulled of it earlier is used")
    if there is not None and there.digest == str(image.digest):
        return Pulled(there, fetched=False)
    async with _alone(folder, f"pulling {reference}", say):
        place = _Place(folder)
        there = await asyncio.to_thread(place.record, reference, path)
        if there is not None and there.digest == str(image.digest):
            return Pulled(there, fetched=False)  # by whom this has waited for
        return await _pull(registry, image, place, Record(reference, str(image.digest), path), report)


@contextlib.asynccontextmanager
async def _alone(folder: Path, purpose: str, say: Say) -> AsyncIterator[None]:
    """Keeps others that would fill the folder waiting. A killed one holds nobody up."""
    told_s = -_LOCK_TELL_S
    while True:
        staging = _Place(folder).staging
        lock = FileLock(staging.with_name(f"{staging.name}.lock"), purpose)
        try:
            free = lock.try_acquire()
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            free = True
        if free and _Place(folder).staging == staging:
            break
        lock.remove()  # the folder has come into being meanwhile, so its lock is another
        if not free and time.monotonic() - told_s >= _LOCK_TELL_S:
            told_s = time.monotonic()
            say(f"{folder} is being filled by {lock.owner()}; waiting for its end")
        await asyncio.sleep(_LOCK_POLL_S)
    try:
        yield
    finally:
        lock.remove()


async def _pull(registry: Registry, image: Resolved, place: _Place, record: Record, report: Report | None) -> Pulled:
    try:
        check_readable(image.manifest)
    except LayerError as error:
        raise LayerError(f"{record.reference}: {error}") from None
    staging = await asyncio.to_thread(place.prepare, image)
    blobs = await fetch(registry, image.manifest.layers, staging / "blobs", report)
    files = staging / "files"
    unpacked = await asyncio.to_thread(unpack, image.manifest, blobs, files, path=record.path)
    source = await asyncio.to_thread(_adapter_in, files, unpacked, record, image.manifest.is_artifact)
    await asyncio.to_thread(_check_names, source, record)
    return Pulled(await asyncio.to_thread(place.install, source, record), fetched=True)


def _adapter_in(files: Path, unpacked: Unpacked, record: Record, is_artifact: bool) -> Path:
    """The folder with the adapter's two files: the top one, or the only one in it."""
    for folder in (files, *sorted(each for each in files.iterdir() if each.is_dir())):
        if (folder / CONFIG).is_file() and (folder / WEIGHTS).is_file():
            return folder
    missing = [name for name in (CONFIG, WEIGHTS) if not any(each.endswith(name) for each in unpacked.files)]
    what = f"{record.reference} holds no adapter: "
    where = "it" if is_artifact else record.path
    if unpacked.files:
        listed = some(unpacked.files, _MAX_LISTED)
        lacks = f"has no {' and no '.join(missing)}" if missing else f"has {CONFIG} and {WEIGHTS} in different folders"
        raise StartError(f"{what}{where} {lacks}, but {listed}")
    if unpacked.others:
        listed = some(unpacked.others, _MAX_LISTED)
        raise StartError(f"{what}{where} is empty or not there; at its top the image has {listed}; see --path")
    raise StartError(f"{what}it is empty")


def _check_names(source: Path, record: Record) -> None:
    """Nothing of the image may take the place of what is the puller's, or lead out of the folder it is moved to."""
    check_links(source)
    if own := [each.name for each in source.iterdir() if each.name.startswith(_STAGING)]:
        raise StartError(f"{record.reference} holds {own[0]}, which is a name of the puller's own; take it out")


class _Place:
    """The folder to fill, and the one beside it, or in it, where it is prepared.

    Attributes:
        staging: the latter.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._is_there = folder.is_dir()
        # Of a volume that is mounted there, the place in it is the only one in the same file system.
        self.staging = folder / _STAGING if self._is_there else folder.with_name(f".{folder.name}{_STAGING}")

    def record(self, reference: str, path: str) -> Record | None:
        """What the folder holds of an image; none if it was not filled to the end, or files are gone."""
        record = self._read_record()
        if record is None or (record.reference, record.path) != (reference, path):
            return None
        try:
            sizes = {name: (self._folder / name).stat().st_size for name in record.files}
        except (OSError, ValueError):
            return None
        return record if sizes == record.files else None

    def _read_record(self) -> Record | None:
        try:
            return Record(**json.loads((self._folder / _RECORD).read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def prepare(self, image: Resolved) -> Path:
        """The folder to work in, with what an earlier try has fetched of the same image."""
        if not self._is_there and self._folder.exists():
            raise StartError(f"{self._folder} is no folder; name another one, or move it away")
        wanted = {f"{layer.digest.algorithm}-{layer.digest.hex}" for layer in image.manifest.layers}
        shutil.rmtree(self.staging / "files", ignore_errors=True)
        (self.staging / "files").mkdir(parents=True)
        for blob in (self.staging / "blobs").glob("*"):
            if blob.name.removesuffix(".partial") not in wanted:
                blob.unlink()
        return self.staging

    def install(self, source: Path, record: Record) -> Record:
        """Gives the files their final place, and removes the working folder."""
        files = {
            each.relative_to(source).as_posix(): each.stat().st_size for each in source.rglob("*") if each.is_file()
        }
        record = Record(record.reference, record.digest, record.path, files)
        (source / _RECORD).write_text(json.dumps(asdict(record)))
        if self._is_there:
            self._move_in(source)
        else:
            source.rename(self._folder)
        shutil.rmtree(self.staging, ignore_errors=True)
        return record

    def _move_in(self, source: Path) -> None:
        # The record last: whoever is killed before still has it to know what is to go.
        old = self._read_record()
        (self._folder / CONFIG).unlink(missing_ok=True)
        for name in old.files if old is not None else ():
            if not os.path.isabs(name) and ".." not in name.split("/"):
                with contextlib.suppress(FileNotFoundError, NotADirectoryError, IsADirectoryError):
                    (self._folder / name).unlink()
        (self._folder / _RECORD).unlink(missing_ok=True)
        last = (CONFIG, _RECORD)
        names = sorted(each.name for each in source.iterdir() if each.name not in last)
        for name in (*names, *last):
            target = self._folder / name
            if target.is_dir() and not target.is_symlink():
                shutil.rmtree(target)
            (source / name).replace(target)
