"""What we are measured against, made ready in the cache folder: a Go program, and kopf in an environment of its own."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

from kaito.devcluster.cache import cache_folder, complete_folder
from kaito.devcluster.progress import Progress
from kaito.devcluster.toolchain import find_toolchain

KOPF_VERSION = "1.45.2"
_SOURCES = ("go.mod", "go.sum", "*.go")
_GO_FOLDER = Path(__file__).parent / "go"
_DIGEST_CHARACTERS = 16


def go_program(name: str) -> Path:
    """Builds the Go program in ``benchmarks/go/NAME``, once per content; returns the executable.

    Raises:
        subprocess.CalledProcessError: it does not build; the compiler has said why on stderr.
    """
    source = _GO_FOLDER / name
    files = sorted(file for pattern in _SOURCES for file in source.glob(pattern))
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
    target = _folder() / f"{name}-{digest[:_DIGEST_CHARACTERS]}"
    if not target.is_dir():
        progress = Progress()
        progress.say(f"{name}: building (first time only, about 2 minutes)")
        go = find_toolchain(progress).go
        environment = {**os.environ, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOWORK": "off"}
        with complete_folder(target) as aside:
            command = [str(go), "build", "-trimpath", "-mod=readonly", "-o", str(aside / name), "."]
            subprocess.run(command, cwd=source, env=environment, check=True, stdout=sys.stderr)
    return target / name


def kopf_python() -> Path:
    """Installs kopf into an environment of its own; returns that environment's Python.

    Raises:
        subprocess.CalledProcessError: it cannot be installed; pip has said why on stderr.
    """
    target = _folder() / f"kopf-{KOPF_VERSION}-py{sys.version_info.major}.{sys.version_info.minor}"
    if not target.is_dir():
        Progress().say(f"kopf {KOPF_VERSION}: installing (first time only)")
        with complete_folder(target) as aside:
            subprocess.run([sys.executable, "-m", "venv", str(aside)], check=True, stdout=sys.stderr)
            pip = [str(aside / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            subprocess.run([*pip, f"kopf=={KOPF_VERSION}"], check=True, stdout=sys.stderr)
    return target / "bin" / "python"


def _folder() -> Path:
    return cache_folder() / "benchmarks"
