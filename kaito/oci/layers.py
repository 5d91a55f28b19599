"""Layers: archives unpacked without trusting them."""

from __future__ import annotations

import contextlib
import errno
import gzip
import io
import os
import posixpath
import shutil
import stat
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final, cast

from kaito.oci.errors import LayerError

MAX_UNPACKED_BYTES: Final = 64 << 30
"""Of all layers together; an adapter has megabytes."""
MAX_ENTRIES: Final = 100_000
_MAX_HEADER_BYTES: Final = 1 << 20
_CHUNK_BYTES: Final = 1 << 20
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_REMOVED, _EMPTIED = ".wh.", ".wh..wh..opq"
_UMASK: Final = 0o755
_BROKEN = (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error, ValueError, OverflowError)
# What file systems say of names.
_BAD_NAME = (errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL)
NO_ZSTD: Final = "is compressed with zstd; push the image with gzip (docker's default)"


@dataclass(slots=True)
class Unpacker:
    """Applies an image's layers to a folder, one after the other.

    Nothing is ever written outside of the folder, or through a link; a file system in which somebody else changes
    the folder meanwhile is another matter.

    Args:
        root: the folder; it exists.
        only: the path in the image whose content is wanted, such as `data`; empty: all.
        limit_bytes: that all layers may unpack to.
    """

    root: Path
    only: str = ""
    limit_bytes: int = MAX_UNPACKED_BYTES
    others: set[str] = field(default_factory=set)
    """Top names of what was left out."""
    _unpacked: int = 0
    _entries: int = 0

    def apply(self, layer: Path, what: str) -> None:
        """Applies one layer.

        Args:
            layer: a tar archive, compressed with gzip or not.
            what: its name in messages.

        Raises:
            LayerError: It is broken, or holds what must not be written; the folder then is to be thrown away.
        """
        written: set[tuple[str, ...]] = set()
        with explained(what), _opened(layer) as content:
            source = _Bounded(content, self.limit_bytes - self._unpacked, self.limit_bytes)
            with tarfile.open(fileobj=source, mode="r:") as tar:
                for entry in tar:
                    self._count()
                    self._take(tar, entry, written)
            self._unpacked += source.furthest

    def place(self, name: str) -> Path:
        """Where a single file of this name goes; nothing is there afterwards.

        Raises:
            LayerError: It leads out of the folder, or behind a link.
        """
        parts = parts_of(name)
        if not parts:
            raise LayerError(f"{name!r} is no name of a file")
        target = self._target(parts)
        _clear(target)
        return target

    def _count(self) -> None:
        self._entries += 1
        if self._entries > MAX_ENTRIES:
            raise LayerError(f"has more than {MAX_ENTRIES} entries")

    def _take(self, tar: tarfile.TarFile, entry: tarfile.TarInfo, written: set[tuple[str, ...]]) -> None:
        if entry.size < 0:
            raise LayerError(f"{entry.name!r} has {entry.size} bytes")
        parts = parts_of(entry.name)
        inside = self._inside(parts)
        if inside is None:
            if parts and not parts[-1].startswith(_REMOVED):
                self.others.add(parts[0])
            return
        if inside and inside[-1].startswith(_REMOVED):
            self._remove(inside, written)
            return
        if not inside:
            if not entry.isdir():
                raise LayerError(f"{entry.name!r} is no folder")
            return
        target = self._target(inside)
        if entry.isdir():
            self._make_folder(target)
        else:
            _clear(target)
            self._make(tar, entry, target, inside)
        written.update(inside[: end + 1] for end in range(len(inside)))

    def _inside(self, parts: tuple[str, ...]) -> tuple[str, ...] | None:
        """Below the wanted path; None if it is not below."""
        wanted = parts_of(self.only)
        if parts[: len(wanted)] == wanted:
            return parts[len(wanted) :]
        # The removal of the wanted path, or of one above it, empties the folder.
        if parts and parts[-1].startswith(_REMOVED):
            gone = parts[:-1] if parts[-1] == _EMPTIED else (*parts[:-1], parts[-1].removeprefix(_REMOVED))
            if wanted[: len(gone)] == gone:
                return (_EMPTIED,)
        return None

    def _target(self, inside: tuple[str, ...]) -> Path:
        folder = self.root
        for part in inside[:-1]:
            folder = folder / part
            with contextlib.suppress(FileNotFoundError):
                if stat.S_ISLNK(folder.lstat().st_mode):
                    raise LayerError(f"{'/'.join(inside)!r} lies behind the link {part!r}")
            folder.mkdir(exist_ok=True)
        return folder / inside[-1]

    def _make_folder(self, target: Path) -> None:
        if target.is_symlink() or not target.is_dir():
            _clear(target)
            target.mkdir()

    def _make(self, tar: tarfile.TarFile, entry: tarfile.TarInfo, target: Path, inside: tuple[str, ...]) -> None:
        if entry.issym():
            self._check_link(entry, inside)
            target.symlink_to(entry.linkname)
        elif entry.islnk():
            source = self._inside(parts_of(entry.linkname))
            if not source:
                raise LayerError(f"{entry.name!r} is a hard link to {entry.linkname!r}, which is outside")
            original = self._target(source)
            if original.is_symlink() or not original.is_file():
                raise LayerError(f"{entry.name!r} is a hard link to {entry.linkname!r}, which is no file here")
            os.link(original, target, follow_symlinks=False)
        elif entry.isreg() and not entry.issparse():
            content = tar.extractfile(entry)
            assert content is not None
            with content, _created(target, entry.mode) as output:
                shutil.copyfileobj(content, output, _CHUNK_BYTES)
        else:
            raise LayerError(f"{entry.name!r} is a device, a pipe or a sparse file, which is not unpacked")

    def _check_link(self, entry: tarfile.TarInfo, inside: tuple[str, ...]) -> None:
        usable = entry.linkname and "\0" not in entry.linkname
        leads = posixpath.normpath(posixpath.join(*inside[:-1], entry.linkname)) if usable else ".."
        if posixpath.isabs(leads) or leads == ".." or leads.startswith("../"):
            raise LayerError(f"{entry.name!r} is a link to {entry.linkname!r}, which is outside")

    def _remove(self, inside: tuple[str, ...], written: set[tuple[str, ...]]) -> None:
        *above, mark = inside
        if mark != _EMPTIED:
            gone = (*above, mark.removeprefix(_REMOVED))
            if gone[-1] in ("", ".", ".."):
                raise LayerError(f"{'/'.join(inside)!r} removes nothing that could be there")
            if gone not in written:
                _clear(self._target(gone))
            return
        folder = self._target((*above, "any")).parent
        # What this layer has brought stays, wherever in it the mark is.
        for path in list(folder.iterdir()):
            if (*above, path.name) not in written:
                _clear(path)


@contextlib.contextmanager
def explained(what: str) -> Iterator[None]:
    """Turns what goes wrong with a layer into one line.

    Args:
        what: the layer's name.

    Raises:
        LayerError: It is broken, or holds what must not be, or cannot be, written.
    """
    try:
        yield
    except LayerError as error:
        raise LayerError(f"{what}: {error}") from None
    except _BROKEN as error:
        raise LayerError(f"{what}: is no whole tar archive: {' '.join(str(error).split())}") from None
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise LayerError(f"{what}: has entries that exclude each other: {error.filename}") from None
    except OSError as error:
        if error.errno not in _BAD_NAME:
            raise
        raise LayerError(f"{what}: has a name that cannot be here: {error.strerror}") from None


def check_links(root: Path) -> None:
    """Looks at all links in a folder: each may seem to stay inside, and lead out by way of another.

    Raises:
        LayerError: One leaves the folder.
    """
    real = root.resolve()
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = Path(folder, name)
            if path.is_symlink() and not _resolved(path).is_relative_to(real):
                raise LayerError(f"the link {path.relative_to(root)} leads out of the folder")


class _Bounded(io.RawIOBase):
    """An archive that is read so far and no further, and whose headers do not fill the memory."""

    def __init__(self, content: IO[bytes], left_bytes: int, limit_bytes: int) -> None:
        super().__init__()
        self._content, self._left, self._limit = content, left_bytes, limit_bytes
        self.furthest = 0

    def read(self, size: int = -1, /) -> bytes:
        if size < 0 or size > _MAX_HEADER_BYTES:
            raise LayerError(f"has a header of {size} bytes")
        self._check(self._content.tell() + size)
        return self._content.read(size)

    def seek(self, position: int, whence: int = os.SEEK_SET, /) -> int:
        assert whence == os.SEEK_SET
        self._check(position)
        return self._content.seek(position)

    def tell(self) -> int:
        return self._content.tell()

    def _check(self, position: int) -> None:
        self.furthest = max(self.furthest, position)
        if position > self._left + tarfile.RECORDSIZE:
            raise LayerError(f"with the layers before it unpacks to more than the {self._limit} bytes that are allowed")


@contextlib.contextmanager
def _opened(layer: Path) -> Iterator[IO[bytes]]:
    with layer.open("rb") as raw:
        start = raw.read(4)
        raw.seek(0)
        if start.startswith(_ZSTD):
            raise LayerError(NO_ZSTD)
        if not start.startswith(_GZIP):
            yield raw
            return
        with gzip.GzipFile(fileobj=raw) as unpacked:
            # It has what IO[bytes] promises, and is none by name.
            yield cast(IO[bytes], unpacked)


def parts_of(name: str) -> tuple[str, ...]:
    """Of a path in an archive, which starts at the image's root.

    Raises:
        LayerError: It leads out of the archive.
    """
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if ".." in parts or "\0" in name:
        raise LayerError(f"{name!r} leads out of the archive")
    return parts


def _created(target: Path, mode: int) -> IO[bytes]:
    # Never an existing file, never through a link.
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    return os.fdopen(os.open(target, flags, (mode | 0o644) & _UMASK), "wb")


def _clear(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _resolved(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError):
        return Path("/")
