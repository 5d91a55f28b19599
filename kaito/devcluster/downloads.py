"""Official release binaries, checked against their published checksums before they enter the cache.

Where they come from, and below a mirror (`KAITO_BINARIES_MIRROR=https://host/base`) the same files under:

    {mirror}/kubernetes/v1.36.3/bin/linux/amd64/kube-apiserver            and the same name + .sha256
    {mirror}/etcd/v3.6.8/etcd-v3.6.8-linux-amd64.tar.gz                   and SHA256SUMS beside it
    {mirror}/kwok/v0.8.0/kwok-linux-amd64                                 and the same name + .sha256
    {mirror}/registry/v3.1.2/registry_3.1.2_linux_amd64.tar.gz            and the same name + .sha256

`KAITO_BINARIES_MIRROR=off` turns downloads off. kwok publishes no checksum file, so for its official release the
digest comes from GitHub's release record.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
import shutil
import tarfile
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kaito.devcluster.cache import cache_folder, complete_folder
from kaito.devcluster.errors import ChecksumError, DownloadError, TruncatedError, UnreachableError
from kaito.devcluster.programs import Platform, ProgramName, this_platform, version_of
from kaito.devcluster.progress import Progress
from kaito.locks import FileLock

_FIRST_ANSWER_TIMEOUT_S: Final = 4.0
_READ_TIMEOUT_S: Final = 30.0
_CHUNK_BYTES: Final = 1 << 20
_CHECKSUM_LIMIT_BYTES: Final = 4 << 20
_ATTEMPTS: Final = 2

# Servers that did not answer, with the reason: asked once per process, not once per program.
_unreachable: dict[str, str] = {}


@dataclass(frozen=True, slots=True)
class ReleaseFile:
    """A published file.

    Attributes:
        url: Its address.
        checksum_url: What names its SHA-256: a bare digest, `sha256sum` lines, or GitHub's release record.
        member: The file wanted out of it when it is a tar archive, else empty.
    """

    url: str
    checksum_url: str
    member: str = ""

    @property
    def name(self) -> str:
        """The last part of its address."""
        return self.url.rpartition("/")[2]


def find_download(program: ProgramName) -> Path | None:
    """The program as downloaded earlier, None if it never was."""
    path = _target(program) / program
    return path if path.exists() else None


def download(program: ProgramName, progress: Progress) -> Path:
    """Fetches a program's release binary into the cache, once its checksum was found right.

    Raises:
        UnreachableError: The server does not answer, now or earlier in this process.
        TruncatedError: The transfer broke off, twice.
        ChecksumError: The file is not what was published.
        DownloadError: Downloads are off, or the server has no such file.
        CancelledStartError: The transfer was called off.
    """
    mirror = os.environ.get("KAITO_BINARIES_MIRROR", "")
    if mirror.lower() == "off":
        raise DownloadError("downloads are turned off by KAITO_BINARIES_MIRROR=off")
    release = release_file(program, this_platform(), mirror)
    target = _target(program)
    with FileLock(target.with_name(target.name + ".lock"), f"downloading {program}").held(progress):
        if not (target / program).exists():
            digest = _published_digest(release)
            with complete_folder(target) as aside:
                _fetch_twice(release, digest, aside / "download", progress)
                _unpack(aside / "download", release.member, aside / program)
    return target / program


def release_file(program: ProgramName, platform: Platform, mirror: str = "") -> ReleaseFile:
    """Where a program is published for a platform, officially or below a mirror."""
    version = version_of(program)
    base = mirror.rstrip("/")
    if program == "etcd":
        folder = f"{base}/etcd/{version}" if base else f"https://github.com/etcd-io/etcd/releases/download/{version}"
        stem = f"etcd-{version}-{platform}"
        return ReleaseFile(f"{folder}/{stem}.tar.gz", f"{folder}/SHA256SUMS", member=f"{stem}/etcd")
    if program == "kwok":
        project = "kubernetes-sigs/kwok/releases"
        record = f"https://api.github.com/repos/{project}/tags/{version}"
        folder = f"{base}/kwok/{version}" if base else f"https://github.com/{project}/download/{version}"
        url = f"{folder}/kwok-{platform}"
        return ReleaseFile(url, f"{url}.sha256" if base else record)
    if program == "registry":
        releases = "https://github.com/distribution/distribution/releases/download"
        folder = f"{base}/registry/{version}" if base else f"{releases}/{version}"
        url = f"{folder}/registry_{version.removeprefix('v')}_{platform.os}_{platform.arch}.tar.gz"
        return ReleaseFile(url, f"{url}.sha256", member="registry")
    root = f"{base}/kubernetes" if base else "https://dl.k8s.io"
    url = f"{root}/{version}/bin/{platform.os}/{platform.arch}/{program}"
    return ReleaseFile(url, f"{url}.sha256")


def parse_digest(text: str, name: str) -> str | None:
    """The SHA-256 of a file in hex digits, out of any form that a checksum is published in; None if it is not there."""
    if text.lstrip().startswith("{"):
        assets = json.loads(text).get("assets", [])
        digests = [asset.get("digest") or "" for asset in assets if asset.get("name") == name]
        text = digests[0].removeprefix("sha256:") if digests else ""
    for line in text.splitlines():
        match = re.fullmatch(r"([0-9a-fA-F]{64})(?:\s+\*?(\S+))?\s*", line)
        if match and (match[2] is None or match[2].rpartition("/")[2] == name):
            return match[1].lower()
    return None


def _target(program: ProgramName) -> Path:
    return cache_folder() / "releases" / f"{program}-{version_of(program)}-{this_platform()}"


def _published_digest(release: ReleaseFile) -> str:
    text = _first_answer(release.checksum_url)
    try:
        digest = parse_digest(text, release.name)
    except ValueError:
        digest = None
    if digest is None:
        raise DownloadError(f"{release.checksum_url} names no SHA-256 for {release.name}, so it cannot be trusted")
    return digest


def _first_answer(url: str) -> str:
    """Reads a small file within seconds, name resolution included, which no socket timeout covers."""
    answers: list[str] = []
    failures: list[Exception] = []

    def read() -> None:
        try:
            with _open(url, _FIRST_ANSWER_TIMEOUT_S) as response:
                answers.append(response.read(_CHECKSUM_LIMIT_BYTES).decode(errors="replace"))
        except (DownloadError, OSError, http.client.HTTPException) as error:
            failures.append(error)

    server = urllib.parse.urlsplit(url).netloc
    if server in _unreachable:
        raise UnreachableError(_unreachable[server])
    thread = threading.Thread(target=read, name=f"first answer of {server}", daemon=True)
    thread.start()
    thread.join(_FIRST_ANSWER_TIMEOUT_S)
    if answers:
        return answers[0]
    failure = failures[0] if failures else None
    if isinstance(failure, DownloadError) and not isinstance(failure, UnreachableError):
        raise failure
    _unreachable[server] = str(failure or f"{server} does not answer within {_FIRST_ANSWER_TIMEOUT_S:g} s")
    raise UnreachableError(_unreachable[server])


@contextmanager
def _open(url: str, timeout_s: float) -> Iterator[http.client.HTTPResponse]:
    if not url.startswith(("https://", "http://")):
        raise DownloadError(f"{url} is neither http:// nor https://; correct KAITO_BINARIES_MIRROR")
    request = urllib.request.Request(url, headers={"User-Agent": "kaito-devcluster"})
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as response:
            yield response
    except urllib.error.HTTPError as error:
        with error:
            raise DownloadError(f"{url} answers {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        raise UnreachableError(f"{urllib.parse.urlsplit(url).netloc} cannot be reached: {error.reason}") from error


def _fetch_twice(release: ReleaseFile, digest: str, into: Path, progress: Progress) -> None:
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return _fetch(release, digest, into, progress)
        except TruncatedError:
            if attempt == _ATTEMPTS:
                raise
            progress.say(f"{release.name}: the transfer broke off, trying once more")
    return None


def _fetch(release: ReleaseFile, digest: str, into: Path, progress: Progress) -> None:
    hasher, received = hashlib.sha256(), 0
    with _open(release.url, _READ_TIMEOUT_S) as response, into.open("wb") as output:
        announced = response.length
        while chunk := _read(response, release, received):
            hasher.update(chunk)
            output.write(chunk)
            received += len(chunk)
            progress.update(f"{release.name}: {_mebibytes(received)} of {_mebibytes(announced)} MiB")
            progress.pause(0)
    if announced is not None and received < announced:
        raise TruncatedError(f"{release.url}: {received} of {announced} bytes came")
    if hasher.hexdigest() != digest:
        raise ChecksumError(
            f"{release.url}: SHA-256 is {hasher.hexdigest()}, published is {digest} ({release.checksum_url}); "
            "the file was thrown away. Do not trust this server or the way to it until you know why"
        )


def _read(response: http.client.HTTPResponse, release: ReleaseFile, received: int) -> bytes:
    try:
        return response.read(_CHUNK_BYTES)
    except (OSError, http.client.HTTPException) as error:
        raise TruncatedError(f"{release.url}: the transfer broke off after {received} bytes: {error}") from error


def _mebibytes(count: int | None) -> str:
    return "?" if count is None else f"{count / (1 << 20):.1f}"


def _unpack(downloaded: Path, member: str, program: Path) -> None:
    if member:
        try:
            with tarfile.open(downloaded) as archive:
                source = archive.extractfile(member)
                if source is None:
                    raise KeyError(member)
                with source, program.open("wb") as output:
                    shutil.copyfileobj(source, output)
        except (KeyError, tarfile.TarError) as error:
            raise DownloadError(f"{downloaded.name}: no file {member} can be had from the archive: {error}") from error
        downloaded.unlink()
    else:
        downloaded.rename(program)
    program.chmod(0o755)
