"""Release binaries: what enters the cache, and above all what does not."""

from __future__ import annotations

import hashlib
import io
import json
import socket
import tarfile
import time
from pathlib import Path

import pytest

from kaito.devcluster.downloads import download, find_download, parse_digest, release_file
from kaito.devcluster.errors import ChecksumError, DownloadError, TruncatedError, UnreachableError
from kaito.devcluster.programs import (
    ETCD_VERSION,
    KUBERNETES_VERSION,
    KWOK_VERSION,
    REGISTRY_VERSION,
    Platform,
    this_platform,
)
from kaito.devcluster.progress import Progress

from .conftest import Mirror

SILENT = Progress(silent=True)
PLATFORM = this_platform()
KUBECTL = f"/kubernetes/{KUBERNETES_VERSION}/bin/{PLATFORM.os}/{PLATFORM.arch}/kubectl"
PROGRAM = b"#!/bin/sh\necho I am kubectl\n" * 1000
HEX = "0123456789abcdef" * 4


def files_in(cache: Path) -> list[Path]:
    return [path for path in cache.rglob("*") if path.is_file() and path.suffix != ".lock"]


def test_a_file_with_the_published_checksum_is_cached_and_executable(mirror: Mirror) -> None:
    mirror.publish(KUBECTL, PROGRAM)
    path = download("kubectl", SILENT)
    assert path.read_bytes() == PROGRAM
    assert path.stat().st_mode & 0o777 == 0o755
    assert find_download("kubectl") == path


def test_a_cached_file_is_not_fetched_again(mirror: Mirror) -> None:
    mirror.publish(KUBECTL, PROGRAM)
    download("kubectl", SILENT)
    mirror.requests.clear()
    download("kubectl", SILENT)
    assert mirror.requests == []


def test_a_file_with_another_checksum_is_refused_and_thrown_away(mirror: Mirror, cache: Path) -> None:
    mirror.publish(KUBECTL, PROGRAM, digest=HEX)
    with pytest.raises(ChecksumError, match=f"published is {HEX}"):
        download("kubectl", SILENT)
    assert find_download("kubectl") is None
    assert files_in(cache) == []


def test_a_file_without_a_published_checksum_is_not_even_fetched(mirror: Mirror) -> None:
    mirror.files[KUBECTL] = PROGRAM
    with pytest.raises(DownloadError, match="404"):
        download("kubectl", SILENT)
    assert KUBECTL not in mirror.requests


def test_a_truncated_file_is_tried_twice_and_then_refused(mirror: Mirror, cache: Path) -> None:
    mirror.publish(KUBECTL, PROGRAM)
    mirror.truncated.add(KUBECTL)
    with pytest.raises(TruncatedError, match=f"{len(PROGRAM) // 2} of {len(PROGRAM)} bytes|broke off"):
        download("kubectl", SILENT)
    assert mirror.requests.count(KUBECTL) == 2
    assert files_in(cache) == []


def test_a_transfer_that_is_called_off_leaves_nothing(mirror: Mirror, cache: Path) -> None:
    mirror.publish(KUBECTL, PROGRAM)
    progress = Progress(silent=True)
    progress.cancel()
    with pytest.raises(Exception, match="given up by its caller"):
        download("kubectl", progress)
    assert files_in(cache) == []


def test_a_server_that_refuses_connections_is_asked_once_per_process(
    monkeypatch: pytest.MonkeyPatch, mirror: Mirror
) -> None:
    nobody = Mirror()
    nobody.close()
    monkeypatch.setenv("KAITO_BINARIES_MIRROR", nobody.url)
    with pytest.raises(UnreachableError, match="cannot be reached"):
        download("kubectl", SILENT)
    # Even if it came up now: this process has given it up.
    with pytest.raises(UnreachableError, match="cannot be reached"):
        download("kwok", SILENT)


def test_a_server_that_accepts_and_says_nothing_costs_a_few_seconds_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent_server:
        monkeypatch.setenv("KAITO_BINARIES_MIRROR", f"http://127.0.0.1:{silent_server.getsockname()[1]}")
        started_s = time.monotonic()
        with pytest.raises(UnreachableError):
            download("kubectl", SILENT)
        assert time.monotonic() - started_s < 6
        started_s = time.monotonic()
        with pytest.raises(UnreachableError):
            download("kwok", SILENT)
        assert time.monotonic() - started_s < 1


def test_etcd_is_taken_out_of_its_tarball(mirror: Mirror) -> None:
    stem = f"etcd-{ETCD_VERSION}-{PLATFORM}"
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in (("README.md", b"read me"), ("etcd", PROGRAM), ("etcdctl", b"no")):
            member = tarfile.TarInfo(f"{stem}/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    folder = f"/etcd/{ETCD_VERSION}"
    tarball = buffer.getvalue()
    mirror.files[f"{folder}/{stem}.tar.gz"] = tarball
    lines = f"{HEX}  etcd-{ETCD_VERSION}-windows-amd64.zip\n{hashlib.sha256(tarball).hexdigest()}  {stem}.tar.gz\n"
    mirror.files[f"{folder}/SHA256SUMS"] = lines.encode()
    path = download("etcd", SILENT)
    assert path.read_bytes() == PROGRAM
    assert [each.name for each in path.parent.iterdir()] == ["etcd"]


def test_kwok_comes_from_the_mirror_too(mirror: Mirror) -> None:
    mirror.publish(f"/kwok/{KWOK_VERSION}/kwok-{PLATFORM}", PROGRAM)
    assert download("kwok", SILENT).read_bytes() == PROGRAM


def test_the_registry_is_taken_out_of_a_tarball_with_no_folder_in_it(mirror: Mirror) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        member = tarfile.TarInfo("registry")
        member.size = len(PROGRAM)
        archive.addfile(member, io.BytesIO(PROGRAM))
    number = REGISTRY_VERSION.removeprefix("v")
    mirror.publish(
        f"/registry/{REGISTRY_VERSION}/registry_{number}_{PLATFORM.os}_{PLATFORM.arch}.tar.gz", buffer.getvalue()
    )
    assert download("registry", SILENT).read_bytes() == PROGRAM


def test_downloads_can_be_turned_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAITO_BINARIES_MIRROR", "OFF")
    with pytest.raises(DownloadError, match="turned off"):
        download("kubectl", SILENT)


def test_a_mirror_must_be_an_http_address(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KAITO_BINARIES_MIRROR", f"file://{tmp_path}")
    with pytest.raises(DownloadError, match="correct KAITO_BINARIES_MIRROR"):
        download("kubectl", SILENT)


@pytest.mark.parametrize("program", ["etcd", "kube-apiserver", "kubectl", "kwok", "registry"])
def test_official_files_come_over_https_with_a_checksum_of_the_same_origin_family(program: str) -> None:
    release = release_file(program, Platform("linux", "arm64"))  # type: ignore[arg-type]  # a literal, out of a list
    assert release.url.startswith("https://")
    assert release.checksum_url.startswith("https://")
    assert "arm64" in release.url


GITHUB = json.dumps(
    {"assets": [{"name": "other", "digest": None}, {"name": "kwok-linux-amd64", "digest": f"sha256:{HEX}"}]}
)


@pytest.mark.parametrize(
    ("text", "digest"),
    [
        (HEX, HEX),
        (HEX.upper() + "\n", HEX),
        (f"{HEX}  kwok-linux-amd64\n", HEX),
        (f"{HEX} *./bin/kwok-linux-amd64\n", HEX),
        (f"{HEX}  kwok-linux-arm64\n", None),
        (GITHUB, HEX),
        (json.dumps({"assets": []}), None),
        (json.dumps({"message": "API rate limit exceeded"}), None),
        ("<html>not found</html>", None),
        ("", None),
        (HEX[:-1], None),
    ],
)
def test_a_checksum_is_read_in_every_form_it_is_published_in(text: str, digest: str | None) -> None:
    assert parse_digest(text, "kwok-linux-amd64") == digest


def test_an_archive_without_the_program_is_an_error_that_says_so(mirror: Mirror) -> None:
    stem = f"etcd-{ETCD_VERSION}-{PLATFORM}"
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        archive.addfile(tarfile.TarInfo(f"{stem}/README.md"))
    folder = f"/etcd/{ETCD_VERSION}"
    mirror.files[f"{folder}/{stem}.tar.gz"] = buffer.getvalue()
    digest = hashlib.sha256(buffer.getvalue()).hexdigest()
    mirror.files[f"{folder}/SHA256SUMS"] = f"{digest}  {stem}.tar.gz\n".encode()
    with pytest.raises(DownloadError, match=f"{stem}/etcd"):
        download("etcd", SILENT)
