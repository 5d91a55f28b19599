"""Files of a volume that are replaced all at once, as a kubelet does for ConfigMaps and Secrets."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

_DATA = "..data"


class FileContent(NamedTuple):
    """What a file has in it, and its mode."""

    content: bytes
    mode: int


def write(folder: Path, files: Mapping[str, FileContent]) -> bool:
    """Makes a folder have these files and no others; who reads them meanwhile sees all old or all new ones.

    The layout is the kubelet's AtomicWriter's: the files are in a folder of their own, to which the link ``..data``
    leads, and what is seen are links through that one. Nothing is written if all are as they should be.

    Args:
        folder: the volume's.
        files: by path, relative to the folder; checked before: none leads out of it.

    Returns:
        Whether anything changed.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    current = folder / _DATA
    if current.exists() and _read(current) == dict(files):
        return False
    new = Path(tempfile.mkdtemp(prefix="..", dir=folder))
    for path, (content, mode) in files.items():
        (new / path).parent.mkdir(parents=True, exist_ok=True)
        (new / path).write_bytes(content)
        (new / path).chmod(mode)
    old = current.resolve() if current.is_symlink() else None
    _replace_link(current, new.name)
    tops = {path.partition("/")[0] for path in files}
    for top in tops - set(os.listdir(folder)):
        (folder / top).symlink_to(f"{_DATA}/{top}")
    for each in folder.iterdir():
        # What is no link the pod has made: Python its __pycache__, say.
        if each.is_symlink() and not each.name.startswith("..") and each.name not in tops:
            each.unlink()
    if old is not None and old.is_dir():
        shutil.rmtree(old)
    return True


def _read(folder: Path) -> dict[str, FileContent]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): FileContent(path.read_bytes(), path.stat().st_mode & 0o777) for path in found
    }


def _replace_link(link: Path, target: str) -> None:
    temporary = link.with_name(f"{link.name}_tmp")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    temporary.replace(link)
