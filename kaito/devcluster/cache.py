"""The cache folder: where it is, and how something gets into it only when it is complete."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def cache_folder() -> Path:
    """Where binaries and toolchains are kept: `KAITO_CACHE_DIR`, else `kaito` in the user's XDG cache folder."""
    chosen = os.environ.get("KAITO_CACHE_DIR")
    if chosen:
        return Path(chosen).absolute()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base).absolute() / "kaito"


@contextmanager
def complete_folder(target: Path) -> Iterator[Path]:
    """A folder to fill, which takes its final name only when the block ends well.

    The rename comes after the contents were forced to disk, so that what has the final name is complete, whatever
    happens to the process or the machine. On an error the folder is removed. If somebody else has put the target
    there meanwhile, theirs stays.

    Args:
        target: The final name.

    Yields:
        The folder to fill, beside the target.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        yield aside
        aside.chmod(0o755)
        for path in aside.iterdir():
            if path.is_file() and not path.is_symlink():
                _force_to_disk(path)
        _force_to_disk(aside)
        _rename(aside, target)
        _force_to_disk(target.parent)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _rename(aside: Path, target: Path) -> None:
    try:
        aside.rename(target)
    except OSError:
        if not target.is_dir():
            raise


def _force_to_disk(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
