"""Mounts: the paths that a container knows its volumes by, and where these are on this machine."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Final

# A path begins where no name does: not in the middle of another path, nor in an address (http://host/mnt/data).
_BEFORE: Final = r"(?<![\w./~%@+\-])"
_NO_NAME: Final = r"(?![\w.~%@+\-])"
# An ancestor of a mount stands for itself only: /etc/hosts is the machine's though there is a mount /etc/settings.
_ANCESTOR_ONLY: Final = r"(?!/?[\w.~%@+\-${])"


class Mounts:
    """The mounts of one container, seen from this machine, which has no mount namespaces without root.

    Below the root, there is a link for each mount: of /mnt/adapter/one a link ROOT/mnt/adapter/one. A path in a
    command, in an argument or in a variable that is a mount, lies beneath one or is an ancestor of one is rewritten to
    that below the root; every other stays what it is, a path of this machine.

    What cannot be had: read-only mounts can be written to, and a mount within another mount does not show in a listing
    of that one.

    Args:
        root: the container's root folder.
        targets: folders of this machine by mount path.
        files: files of this machine by path, rewritten without their ancestors.
    """

    def __init__(self, root: Path, targets: Mapping[str, Path], files: Mapping[str, Path] | None = None) -> None:
        self._root = root
        self._targets = {_normal(path): target for path, target in targets.items()}
        self._files = {_normal(path): target for path, target in (files or {}).items()}
        self.roots: dict[str, Path] = {path: self._place(path) for path in self._targets}
        self._ancestors = {
            str(parent): root / str(parent).lstrip("/")
            for path in self._targets
            for parent in PurePosixPath(path).parents
            if str(parent) != "/" and self._within(str(parent)) is None
        }
        self._pattern = self._compiled()

    def link(self) -> None:
        """Makes the links below the root, or makes them anew where they lead elsewhere."""
        self._root.mkdir(parents=True, exist_ok=True, mode=0o700)
        for path, target in (self._targets | self._files).items():
            if self._within(path) is None:
                _link(self._root / path.lstrip("/"), target)

    def rewrite(self, text: str) -> str:
        """The text with all paths of mounts in it made paths of this machine.

        Paths are also found after ``=``, between commas, colons, quotes and spaces.
        """
        return self._pattern.sub(self._rewritten, text) if self._pattern is not None else text

    def _place(self, path: str) -> Path:
        # Within another mount, a link would have to be made in that one's files, which may be somebody's own.
        return self._targets[path] if self._within(path) is not None else self._root / path.lstrip("/")

    def _within(self, path: str) -> str | None:
        parents = (str(parent) for parent in PurePosixPath(path).parents)
        return next((parent for parent in parents if parent in self._targets), None)

    def _compiled(self) -> re.Pattern[str] | None:
        alternatives = [*self._alternatives()]
        return re.compile(f"{_BEFORE}(?:{'|'.join(alternatives)})") if alternatives else None

    def _alternatives(self) -> Iterator[str]:
        whole = {*self._targets, *self._files}
        # The longest first: what is nested wins.
        for path in sorted({*whole, *self._ancestors}, key=len, reverse=True):
            yield re.escape(path) + (_NO_NAME if path in whole else _ANCESTOR_ONLY)

    def _rewritten(self, found: re.Match[str]) -> str:
        path = found[0]
        place = self.roots.get(path) or self._ancestors.get(path)
        return str(place or self._root / path.lstrip("/"))


def _normal(path: str) -> str:
    return os.path.normpath("/" + path.lstrip("/"))


def _link(link: Path, target: Path) -> None:
    link.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if link.is_symlink():
        if link.readlink() == target:
            return
        link.unlink()
    elif link.exists():
        raise FileExistsError(f"{link} is in the way of a mount: the container put it there; move it away")
    link.symlink_to(target)
