"""Credentials as docker keeps them: config.json files, matched to images as Kubernetes matches them."""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import fnmatch
import json
import os
import shutil
import signal
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kaito.oci.errors import CredentialsError
from kaito.oci.reference import DOCKER_HUB, Reference

FILE_NAMES = (".dockerconfigjson", "config.json")
"""A Secret of type kubernetes.io/dockerconfigjson has the first one as its key, docker the second one."""
_HELPER_TIMEOUT_S = 30.0
_TOKEN_USER = "<token>"
_NOT_FOUND = "credentials not found"
_DOCKER_HUB_HOST = "index.docker.io"


@dataclass(frozen=True, slots=True)
class Credential:
    """Who somebody is to a registry.

    Attributes:
        source: the file, and the entry in it, or the helper.
        username: empty with an identity token.
        password: never shown.
        identity_token: for an OAuth2 token server, instead of a password.
    """

    source: str
    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)

    def __str__(self) -> str:
        who = f"user {self.username!r}" if self.username and not self.identity_token else "an identity token"
        return f"{who} of {self.source}"


@dataclass(frozen=True, slots=True)
class Keyring:
    """All credentials that were found.

    Attributes:
        files: the configurations that were read, by their paths.
        helper_timeout_s: how long a program may take that a file names.
    """

    files: Mapping[Path, Mapping[str, Any]] = field(default_factory=dict)
    helper_timeout_s: float = _HELPER_TIMEOUT_S

    async def find(self, reference: Reference) -> list[Credential]:
        """Those for an image, the most specific first.

        Raises:
            CredentialsError: An entry is broken, or the helper that a file names is not there or fails.
        """
        found: list[tuple[int, Credential]] = []
        for path, config in self.files.items():
            # As docker does: where a file names a helper for a registry, its own entry is an old one.
            helped = any(matches(key, reference) for key in _section(path, config, "credHelpers"))
            for key, entry in {} if helped else _section(path, config, "auths").items():
                if matches(key, reference) and (credential := _credential(path, key, entry)) is not None:
                    found.append((-_specificity(key), credential))
        direct = [credential for _, credential in sorted(found, key=lambda each: each[0])]
        return direct or [each async for each in self._of_helpers(reference)]

    async def _of_helpers(self, reference: Reference) -> AsyncIterator[Credential]:
        for path, config in self.files.items():
            for key, name in _section(path, config, "credHelpers").items():
                if matches(key, reference):
                    credential = await self._ask(str(name), f"credHelpers of {path}", reference)
                    if credential is not None:
                        yield credential
            store = config.get("credsStore")
            if isinstance(store, str) and store and _expects(path, config, store, reference):
                credential = await self._ask(store, f"credsStore of {path}", reference)
                if credential is not None:
                    yield credential

    async def _ask(self, name: str, source: str, reference: Reference) -> Credential | None:
        return await _ask_helper(name, source, reference, self.helper_timeout_s)

    def describe(self) -> str:
        """What was looked at, for a person whose registry none of it names."""
        files = ", ".join(map(str, self.files))
        return f"no entry for it in {files}" if files else "there is no file with credentials"


def load_keyring(folders: Sequence[Path] = (), environment: Mapping[str, str] | None = None) -> Keyring:
    """Reads the files of the given folders, then docker's own: `DOCKER_CONFIG`, else `~/.docker`.

    Args:
        folders: files, or folders with `.dockerconfigjson` or `config.json` in them or in the folders in them.
        environment: of this process by default.

    Raises:
        CredentialsError: A folder is not there, or a file cannot be read or is no JSON.
    """
    variables = os.environ if environment is None else environment
    home = variables.get("HOME", "")
    own = (
        Path(variables["DOCKER_CONFIG"]) if variables.get("DOCKER_CONFIG") else Path(home, ".docker") if home else None
    )
    paths = [path for folder in folders for path in _files_of(folder)]
    if own is not None and (own / "config.json").is_file():
        paths.append(own / "config.json")
    return Keyring({path: _read(path) for path in dict.fromkeys(paths)})


def matches(key: str, reference: Reference) -> bool:
    """Whether an entry is for an image: host by host part, `*` in it allowed, port, and the start of the path."""
    host, path = _key(key)
    wanted = [DOCKER_HUB, _DOCKER_HUB_HOST] if reference.registry == DOCKER_HUB else [reference.registry.lower()]
    if path and not f"{reference.repository}/".startswith(f"{path}/"):
        return False
    return any(_same_host(host, each) for each in wanted)


def _key(key: str) -> tuple[str, str]:
    """Host and path of an entry; Docker Hub's is an address: https://index.docker.io/v1/."""
    host, _, path = key.partition("://")[2].partition("/") if "://" in key else key.partition("/")
    path = path.strip("/")
    return host.lower(), "" if path in ("v1", "v2") else path


def _same_host(pattern: str, host: str) -> bool:
    name, _, port = pattern.partition(":")
    other, _, other_port = host.partition(":")
    parts, others = name.split("."), other.split(".")
    if port != other_port or len(parts) != len(others):
        return False
    return all(fnmatch.fnmatchcase(each, part) for part, each in zip(parts, others, strict=True))


def _specificity(key: str) -> int:
    return len(key) - 1000 * key.count("*")


def _files_of(folder: Path) -> Iterator[Path]:
    if folder.is_file():
        yield folder
        return
    if not folder.is_dir():
        raise CredentialsError(f"{folder}: there is no such file or folder with credentials")
    # A Secret's volume keeps its files in ..data, which its visible names link to.
    below = sorted(each for each in folder.iterdir() if each.is_dir() and not each.name.startswith(".."))
    yield from (place / name for place in (folder, *below) for name in FILE_NAMES if (place / name).is_file())


def _read(path: Path) -> Mapping[str, Any]:
    try:
        config = json.loads(path.read_text())
    except OSError as error:
        raise CredentialsError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError:
        # Not what is wrong in it: that might quote a password.
        raise CredentialsError(f"{path}: is no JSON; write it as docker login does") from None
    if not isinstance(config, dict):
        raise CredentialsError(f'{path}: is no JSON object; write {{"auths": {{"REGISTRY": {{"auth": "…"}}}}}}')
    return config


def _section(path: Path, config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = config.get(name) or {}
    if not isinstance(section, dict):
        raise CredentialsError(f"{path}: {name} is no JSON object of registries")
    return section


def _credential(path: Path, key: str, entry: Any) -> Credential | None:
    source = f'auths["{key}"] in {path}'
    if not isinstance(entry, dict) or not all(isinstance(value, str) for value in _texts(entry)):
        raise CredentialsError(f"{source}: is no JSON object with auth, or username and password")
    username, password = entry.get("username", ""), entry.get("password", "")
    if entry.get("auth"):
        username, password = _decoded(source, entry["auth"])
    token = entry.get("identitytoken", "")
    # With a credential store docker leaves an empty entry behind.
    return Credential(source, username, password, token) if username or token else None


def _texts(entry: Mapping[str, Any]) -> Iterable[Any]:
    return (entry.get(name, "") for name in ("auth", "username", "password", "identitytoken"))


def _decoded(source: str, auth: str) -> tuple[str, str]:
    try:
        text = base64.b64decode(auth, validate=True).decode()
    except (binascii.Error, ValueError):
        raise CredentialsError(f"{source}: auth is no base64 of USER:PASSWORD") from None
    username, colon, password = text.partition(":")
    if not colon:
        raise CredentialsError(f"{source}: auth is no base64 of USER:PASSWORD")
    return username, password.rstrip("\0")


def _expects(path: Path, config: Mapping[str, Any], store: str, reference: Reference) -> bool:
    """Whether to ask a store: where it is not installed, only if a login for this registry is said to be in it."""
    logged_in = any(matches(key, reference) for key in _section(path, config, "auths"))
    return logged_in or shutil.which(f"docker-credential-{store}") is not None


async def _ask_helper(name: str, source: str, reference: Reference, timeout_s: float) -> Credential | None:
    program = f"docker-credential-{name}"
    path = shutil.which(program) if "/" not in name else None
    server = f"https://{_DOCKER_HUB_HOST}/v1/" if reference.registry == DOCKER_HUB else reference.registry
    if path is None:
        raise CredentialsError(
            f"{source} keeps the credentials for {server} with {program}, which is not in PATH; install it, or "
            "give a file with auths: kubectl create secret docker-registry writes one"
        )
    pipe = asyncio.subprocess.PIPE
    try:
        process = await asyncio.create_subprocess_exec(
            path, "get", stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True
        )
    except OSError as error:
        raise CredentialsError(f"{path} ({source}) cannot be run: {error.strerror}") from None
    try:
        output, errors = await asyncio.wait_for(process.communicate(server.encode()), timeout_s)
    except TimeoutError:
        raise CredentialsError(
            f"{program} ({source}) has not answered within {timeout_s:g} s; try it: echo {server} | {program} get"
        ) from None
    finally:
        if process.returncode is None:
            # With all that it has started, which would hold its pipes.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    if process.returncode:
        said = " ".join((output or errors).decode(errors="replace").split())
        if _NOT_FOUND in said:
            return None
        raise CredentialsError(f"{program} ({source}) failed for {server}: {said[:200] or 'it said nothing'}")
    return _of_helper(program, source, output)


def _of_helper(program: str, source: str, output: bytes) -> Credential:
    try:
        answer = json.loads(output)
        username, secret = str(answer["Username"]), str(answer["Secret"])
    except (ValueError, KeyError, TypeError):
        raise CredentialsError(f"{program} ({source}) answered with something else than Username and Secret") from None
    source = f"{program} ({source})"
    return (
        Credential(source, identity_token=secret) if username == _TOKEN_USER else Credential(source, username, secret)
    )
