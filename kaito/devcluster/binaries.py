"""Where the programs of a control plane come from, program by program.

1. the folder that `KUBEBUILDER_ASSETS` names;
2. the cache folder: what was downloaded or built earlier;
3. official release binaries, checked against their published checksums;
4. a build from the Go modules that come with this package.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kaito.devcluster.downloads import download, find_download
from kaito.devcluster.errors import BinariesError, BuildError, ChecksumError, DownloadError
from kaito.devcluster.gobuild import build, find_build
from kaito.devcluster.programs import PROGRAM_NAMES, ProgramName, module_of, version_of
from kaito.devcluster.progress import Progress

Source = Literal["KUBEBUILDER_ASSETS", "release", "build"]


@dataclass(frozen=True, slots=True)
class Binary:
    """A program that is ready to run.

    Attributes:
        program: What it is.
        path: Its executable.
        source: Who made it: the user's own folder, an official release, or a build from source.
        version: Its version with the leading v; "unknown" for one of the user's own.
    """

    program: ProgramName
    path: Path
    source: Source
    version: str


def ensure_binaries(
    programs: Iterable[ProgramName] = PROGRAM_NAMES, progress: Progress | None = None
) -> dict[ProgramName, Binary]:
    """Finds, downloads or builds the programs.

    With everything at hand this takes milliseconds and touches neither network nor compiler. Safe when many
    processes do it at once: one works, the others wait and say for whom.

    Args:
        programs: Which ones.
        progress: Where progress is shown and through which the work can be called off; standard error by default.

    Returns:
        The programs by name, in the order asked for.

    Raises:
        BinariesError: No source could provide one of them; the message has the reason of each source.
        CancelledStartError: `progress.cancel()` was called; no process and no half file is left.
    """
    shown = progress or Progress()
    return {program: _find(program) or _obtain(program, shown) for program in programs}


def _find(program: ProgramName) -> Binary | None:
    return _from_assets(program) or _from_cache(program)


def _from_assets(program: ProgramName) -> Binary | None:
    folder = os.environ.get("KUBEBUILDER_ASSETS")
    if not folder:
        return None
    path = Path(folder).absolute() / program
    if not (path.is_file() and os.access(path, os.X_OK)):
        return None
    return Binary(program, path, "KUBEBUILDER_ASSETS", "unknown")


def _from_cache(program: ProgramName) -> Binary | None:
    downloaded = find_download(program)
    if downloaded is not None:
        return Binary(program, downloaded, "release", version_of(program))
    built = find_build(module_of(program))
    if built is not None:
        return Binary(program, built / program, "build", version_of(program))
    return None


def _obtain(program: ProgramName, progress: Progress) -> Binary:
    try:
        return Binary(program, download(program, progress), "release", version_of(program))
    except DownloadError as refusal:
        _tell(program, refusal, progress)
        try:
            folder = build(module_of(program), progress)
        except BuildError as failure:
            raise BinariesError(
                f"{program} {version_of(program)} cannot be had.\n"
                f"- KUBEBUILDER_ASSETS: {_assets_without_it()}\n"
                f"- release: {refusal}\n- build: {failure}"
            ) from failure
    return Binary(program, folder / program, "build", version_of(program))


def _assets_without_it() -> str:
    folder = os.environ.get("KUBEBUILDER_ASSETS")
    return f"{folder} has no such executable" if folder else "not set"


def _tell(program: ProgramName, refusal: DownloadError, progress: Progress) -> None:
    if isinstance(refusal, ChecksumError):
        progress.say(f"{program}: WARNING: {refusal}")
    progress.say(f"{program}: no release binary ({refusal}); building it from source")
