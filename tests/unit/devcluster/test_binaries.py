"""The order of the sources, program by program."""

from __future__ import annotations

from pathlib import Path

import pytest

from kaito.devcluster.binaries import ensure_binaries
from kaito.devcluster.errors import BinariesError
from kaito.devcluster.programs import KUBERNETES_VERSION, PROGRAM_NAMES, this_platform
from kaito.devcluster.progress import Progress

from .conftest import FakeGo, Mirror

SILENT = Progress(silent=True)


def publish(mirror: Mirror, program: str, digest: str | None = None) -> None:
    here = this_platform()
    path = f"/kubernetes/{KUBERNETES_VERSION}/bin/{here.os}/{here.arch}/{program}"
    mirror.publish(path, f"#!/bin/sh\necho {program}\n".encode(), digest)


def executable(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_the_users_own_folder_comes_first_and_the_rest_comes_from_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mirror: Mirror, fake_go: FakeGo
) -> None:
    own = executable(tmp_path / "assets" / "kube-apiserver")
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(own.parent))
    publish(mirror, "kube-apiserver")
    publish(mirror, "kubectl")
    fake_go.install()
    found = ensure_binaries(["kube-apiserver", "kubectl", "etcd"], SILENT)
    assert {name: binary.source for name, binary in found.items()} == {
        "kube-apiserver": "KUBEBUILDER_ASSETS",
        "kubectl": "release",
        "etcd": "build",
    }
    assert found["kube-apiserver"].path == own


def test_a_file_of_the_users_own_that_cannot_be_executed_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mirror: Mirror
) -> None:
    executable(tmp_path / "kubectl").chmod(0o644)
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))
    publish(mirror, "kubectl")
    assert ensure_binaries(["kubectl"], SILENT)["kubectl"].source == "release"


def test_what_is_cached_is_found_without_network_and_compiler(mirror: Mirror, fake_go: FakeGo) -> None:
    publish(mirror, "kubectl")
    fake_go.install()
    first = ensure_binaries(PROGRAM_NAMES, SILENT)
    mirror.files.clear()
    mirror.requests.clear()
    fake_go.install(version="go1.99.0", build="exit 1")
    assert ensure_binaries(PROGRAM_NAMES, SILENT) == first
    assert mirror.requests == []
    assert fake_go.count() == 3, "one build for the control plane, one for kwok, one for the registry"


def test_one_build_serves_all_programs_of_its_module(fake_go: FakeGo) -> None:
    fake_go.install()
    found = ensure_binaries(["etcd", "kube-apiserver", "kube-scheduler"], SILENT)
    assert fake_go.count() == 1
    assert {binary.path.resolve() for binary in found.values()} == {found["etcd"].path.parent / "kube"}


def test_a_wrong_checksum_is_said_aloud_and_the_program_is_built_instead(
    mirror: Mirror, fake_go: FakeGo, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(mirror, "kubectl", digest="0" * 64)
    fake_go.install()
    assert ensure_binaries(["kubectl"])["kubectl"].source == "build"
    assert "WARNING" in capsys.readouterr().err


def test_when_no_source_has_it_the_error_names_what_each_said(fake_go: FakeGo) -> None:
    fake_go.install(build="echo main.go:7: undefined: frobnicate; exit 1")
    with pytest.raises(BinariesError) as caught:
        ensure_binaries(["etcd"], SILENT)
    message = str(caught.value)
    assert "KUBEBUILDER_ASSETS: not set" in message
    assert "turned off by KAITO_BINARIES_MIRROR=off" in message
    assert "undefined: frobnicate" in message
