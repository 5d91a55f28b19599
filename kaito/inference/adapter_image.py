"""Adapter image: from a registry into the folder that the server looks into, whole or not at all."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from kaito.inference.errors import StartError
from kaito.inference.wording import some
from kaito.oci.client import Registry
from kaito.oci.errors import RegistryError, UnreachableError
from kaito.oci.pull import Report, Resolved, fetch, resolve
from kaito.oci.unpack import Unpacked, unpack

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_RECORD = ".kaito-pull.json"
_STAGING = ".kaito-pull"
_MAX_LISTED = 6


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


async def pull_adapter(registry: Registry, folder: Path, *, path: str, report: Report | None = None) -> Pulled:
    """Fills a folder with an adapter, unless it holds that very one.

    A folder that is not there appears when it is complete. In one that is, such as a volume's, adapter_config.json,
    by which the server knows an adapter, comes last. What was fetched before a failure is kept beside, or hidden in
    the folder, for the next try.

    Args:
        registry: of the image.
        folder: to fill.
        path: of an image, where in it the adapter is.
        report: told about progress.

    Raises:
        StartError: There is no adapter in the image, or the folder cannot be written to.
        OciError: The image cannot be had.
    """
    reference, place = str(registry.reference), _Place(folder)
    there = await asyncio.to_thread(place.record)
    if there is not None and (there.reference, there.path) != (reference, path):
        there = None
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
    return await _pull(registry, image, place, Record(reference, str(image.digest), path), report)


async def _pull(registry: Registry, image: Resolved, place: _Place, record: Record, report: Report | None) -> Pulled:
    staging = await asyncio.to_thread(place.prepare, image)
    blobs = await fetch(registry, image.manifest.layers, staging / "blobs", report)
    files = staging / "files"
    unpacked = await asyncio.to_thread(unpack, image.manifest, blobs, files, path=record.path)
    source = await asyncio.to_thread(_adapter_in, files, unpacked, record, image.manifest.is_artifact)
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


class _Place:
    """The folder to fill, and the one beside it, or in it, where it is prepared."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._is_there = folder.is_dir()
        # Of a volume that is mounted there, the place in it is the only one in the same file system.
        self._staging = folder / _STAGING if self._is_there else folder.with_name(f".{folder.name}{_STAGING}")

    def record(self) -> Record | None:
        """What the folder holds; none if it was not filled to the end, or files are gone."""
        try:
            record = Record(**json.loads((self._folder / _RECORD).read_text()))
            sizes = {name: (self._folder / name).stat().st_size for name in record.files}
        except (OSError, ValueError, TypeError):
            return None
        return record if sizes == record.files else None

    def prepare(self, image: Resolved) -> Path:
        """The folder to work in, with what an earlier try has fetched of the same image."""
        if not self._is_there and self._folder.exists():
            raise StartError(f"{self._folder} is no folder; name another one, or move it away")
        wanted = {f"{layer.digest.algorithm}-{layer.digest.hex}" for layer in image.manifest.layers}
        shutil.rmtree(self._staging / "files", ignore_errors=True)
        (self._staging / "files").mkdir(parents=True)
        for blob in (self._staging / "blobs").glob("*"):
            if blob.name.removesuffix(".partial") not in wanted:
                blob.unlink()
        return self._staging

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
        shutil.rmtree(self._staging, ignore_errors=True)
        return record

    def _move_in(self, source: Path) -> None:
        old = self.record()
        for name in (_RECORD, CONFIG, *(old.files if old is not None else ())):
            (self._folder / name).unlink(missing_ok=True)
        last = (CONFIG, _RECORD)
        names = sorted(each.name for each in source.iterdir() if each.name not in last)
        for name in (*names, *last):
            target = self._folder / name
            if target.is_dir() and not target.is_symlink():
                shutil.rmtree(target)
            (source / name).replace(target)
