"""Builds the Go modules that come with this package into the cache, once per content, toolchain and platform."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import time
from pathlib import Path
from typing import Final

from kaito.devcluster.cache import cache_folder, complete_folder
from kaito.devcluster.errors import BuildError
from kaito.devcluster.processes import Command, Supervisor
from kaito.devcluster.programs import GoModule, Platform, this_platform
from kaito.devcluster.progress import Progress
from kaito.devcluster.toolchain import Toolchain, find_toolchain
from kaito.locks import FileLock

_SOURCES: Final = ("go.mod", "go.sum", "main.go")
_FLAGS: Final = ("-v", "-trimpath", "-buildvcs=false", "-mod=readonly")
_POLL_INTERVAL_S: Final = 0.25
_ERROR_TAIL_LINES: Final = 15
_DIGEST_CHARACTERS: Final = 16


def find_build(module: GoModule) -> Path | None:
    """A finished build of exactly these sources for this platform, whatever Go made it; None if there is none.

    The toolchain is part of a build's address, but no reason to build again: a Go that was updated or removed
    must not cost its user six minutes.
    """
    finished = _builds_folder().glob(f"{_prefix(module)}-go*-{this_platform()}")
    return max(finished, key=lambda folder: folder.stat().st_mtime, default=None)


def build(module: GoModule, progress: Progress) -> Path:
    """Builds a module, or waits for the process that is at it, and returns the folder with its programs.

    A build that was interrupted goes on where it stopped, since Go keeps what it has compiled.

    Raises:
        BuildError: No toolchain, or the compiler failed; has the tail of its output and the next step.
        CancelledStartError: The build was called off; its processes are gone.
    """
    toolchain = find_toolchain(progress)
    target = _builds_folder() / f"{_prefix(module)}-{toolchain.version}-{this_platform()}"
    with FileLock(target.with_name(target.name + ".lock"), f"building {module.executable}").held(progress):
        if not target.is_dir():
            _build_into(target, module, toolchain, progress)
    return target


def _builds_folder() -> Path:
    return cache_folder() / "builds"


def _prefix(module: GoModule) -> str:
    digest = hashlib.sha256()
    for name in _SOURCES:
        content = (module.folder / name).read_bytes()
        digest.update(f"{name} {len(content)}\n".encode() + content)
    digest.update(" ".join((*_FLAGS, module.ldflags)).encode())
    return f"{module.name}-{digest.hexdigest()[:_DIGEST_CHARACTERS]}"


def _build_into(target: Path, module: GoModule, toolchain: Toolchain, progress: Progress) -> None:
    progress.say(
        f"{module.executable}: building {', '.join(module.programs)} with {toolchain.version} "
        f"(first time only, about {module.minutes:g} minutes on 2 cores)"
    )
    started_s = time.monotonic()
    with complete_folder(target) as aside:
        _compile(module, toolchain, aside / module.executable, progress)
        for program in module.programs:
            if program != module.executable:
                (aside / program).symlink_to(module.executable)
    progress.say(f"{module.executable}: built in {_elapsed(started_s)}")


def _compile(module: GoModule, toolchain: Toolchain, output: Path, progress: Progress) -> None:
    scratch = Path(tempfile.mkdtemp(prefix="kaito-build-"))
    command = Command(
        name="go build",
        argv=[str(toolchain.go), "build", *_FLAGS, "-ldflags", module.ldflags, "-o", str(output), "."],
        log=scratch / "go-build.log",
        folder=module.folder,
        env=_environment(this_platform()),
    )
    # Under a supervisor the compiler's whole process group ends with us, kill -9 included.
    supervisor = Supervisor(remove=[scratch])
    try:
        supervisor.start(command)
        code = _wait(supervisor, command, module, progress)
        if code != 0:
            raise BuildError(_explain(module, command, code))
    finally:
        supervisor.close()
        shutil.rmtree(scratch, ignore_errors=True)


def _environment(platform: Platform) -> dict[str, str]:
    return {
        "CGO_ENABLED": "0",
        "GOOS": platform.os,
        "GOARCH": platform.arch,
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
    }


def _wait(supervisor: Supervisor, command: Command, module: GoModule, progress: Progress) -> int:
    started_s = time.monotonic()
    while True:
        code = supervisor.exit_code(command.name)
        if code is not None:
            return code
        progress.update(f"{module.executable}: {_describe(command.log, module)}, {_elapsed(started_s)}")
        progress.pause(_POLL_INTERVAL_S)


def _describe(log: Path, module: GoModule) -> str:
    """What `go build -v` is at: it names modules as it fetches and packages as it compiles them."""
    lines = log.read_text(errors="replace").splitlines()
    fetched = sum(line.startswith("go: ") for line in lines)
    compiled = len(lines) - fetched
    if not lines:
        return "looking at what is compiled already, then linking"
    if compiled == 0:
        return f"fetching modules ({fetched} so far)"
    if compiled >= module.packages:
        return f"linking ({compiled} packages compiled)"
    return f"compiling, {compiled} of about {module.packages} packages"


def _explain(module: GoModule, command: Command, code: int) -> str:
    tail = command.log_tail(_ERROR_TAIL_LINES)
    return (
        f"{module.executable}: go build ended with exit status {code}; {_next_step(tail)}\n"
        f"command: {' '.join(command.argv)} (in {command.folder})\nlast lines of its output:\n{tail}"
    )


def _next_step(tail: str) -> str:
    if "no space left" in tail:
        return "free some disk space (a build needs about 4 GB in `go env GOCACHE GOMODCACHE` and the temporary folder)"
    if "signal: killed" in tail:
        return "the compiler was killed, most likely for memory: it needs about 3 GB"
    if any(sign in tail for sign in ("dial tcp", "no such host", "i/o timeout", "proxyconnect", "TLS handshake")):
        return "Go modules cannot be fetched: check `go env GOPROXY` and the network, then run the same again"
    return "run the same again to go on where it stopped, or set KUBEBUILDER_ASSETS to a folder with the programs"


def _elapsed(started_s: float) -> str:
    minutes, seconds = divmod(int(time.monotonic() - started_s), 60)
    return f"{minutes}m{seconds:02d}s"
