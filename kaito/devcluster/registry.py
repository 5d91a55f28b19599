"""Registry: an image registry (CNCF distribution) on loopback, as a child process that cannot be left behind."""

from __future__ import annotations

import contextlib
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from kaito.devcluster.binaries import ensure_binaries
from kaito.devcluster.errors import DevClusterError, DirectoryInUseError, ProgramError
from kaito.devcluster.lifecycle import Started
from kaito.devcluster.ports import LOOPBACK, free_port
from kaito.devcluster.probe import accepts
from kaito.devcluster.processes import Command, Supervisor
from kaito.devcluster.progress import Progress
from kaito.locks import FileLock

_START_TIMEOUT_S: Final = 30.0
_POLL_INTERVAL_S: Final = 0.03
_PORT_ATTEMPTS: Final = 5
_PORT_CLASH: Final = "address already in use"
_GRACE_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class TokenAccess:
    """Access by bearer tokens that another server issues.

    Attributes:
        realm: URL of that server, to which clients are sent.
        service: what this registry is called there.
        issuer: what its tokens must name as theirs.
        certificates: a PEM file with the certificates of the keys that sign them.
    """

    realm: str
    service: str
    issuer: str
    certificates: Path


class Registry(Started):
    """An image registry on loopback, gone at the end; its images stay in `directory`.

    Use it as an asynchronous context manager. Nothing of it survives this process, `kill -9` included.

    Args:
        directory: Where images, configuration and log lie.
        htpasswd: A file with users and bcrypt hashes of their passwords; without it everybody may read and write.
        token: Access by bearer tokens instead.
        port: To listen on; 0 is a free one.
        progress: Where the progress of fetching or building the program is shown; standard error by default.
    """

    def __init__(
        self,
        directory: Path,
        *,
        htpasswd: Path | None = None,
        token: TokenAccess | None = None,
        port: int = 0,
        progress: Progress | None = None,
    ) -> None:
        if htpasswd is not None and token is not None:
            raise ValueError("a registry takes passwords or tokens, not both")
        self._directory, self._wanted_port = directory.absolute(), port
        self._htpasswd, self._token = htpasswd, token
        super().__init__(progress)
        self._resources = contextlib.ExitStack()
        self._supervisor: Supervisor | None = None
        self._port = 0

    @property
    def address(self) -> str:
        """Host and port, as image references begin: `127.0.0.1:PORT`."""
        return f"{LOOPBACK}:{self._port}"

    @property
    def storage(self) -> Path:
        """Where its images are."""
        return self._directory / "images"

    @property
    def log(self) -> Path:
        """What it wrote."""
        return self._directory / "registry.log"

    @property
    def pids(self) -> dict[str, int]:
        """Process id by name, while it runs."""
        return self._supervisor.pids() if self._supervisor is not None else {}

    def start(self) -> None:
        """Starts it and returns when it answers; on any error nothing is left.

        Raises:
            BinariesError: The program can neither be found nor fetched nor built.
            ProgramError: It did not start; has the tail of its log.
            DirectoryInUseError: Another registry runs in the folder.
            CancelledStartError: The start was called off through `progress`.
        """
        if self._supervisor is not None:
            raise DevClusterError("this registry is running already; make a second Registry instead")
        try:
            self._launch()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Ends it; harmless if it does not run."""
        self._supervisor = None
        self._resources.close()

    def check(self) -> None:
        """Does nothing while it runs.

        Raises:
            ProgramError: It has ended without being asked to; has the tail of its log.
        """
        if self._supervisor is None:
            raise DevClusterError("this registry is not running; use it inside `async with`")
        self._supervisor.check()

    def _launch(self) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self._directory / ".lock", "running a registry")
        if not lock.try_acquire():
            raise DirectoryInUseError(f"{self._directory} is in use by {lock.owner()}; end it or choose another folder")
        self._resources.callback(lock.release)
        executable = ensure_binaries(["registry"], self._progress)["registry"].path
        self._supervisor = Supervisor(keep_open=[lock.fileno()])
        self._resources.callback(self._supervisor.close)
        for attempt in range(1, _PORT_ATTEMPTS + 1):
            self._port = self._wanted_port or free_port()
            self.log.unlink(missing_ok=True)
            try:
                return self._start_on(self._supervisor, executable)
            except ProgramError as error:
                if self._wanted_port or _PORT_CLASH not in error.log_tail or attempt == _PORT_ATTEMPTS:
                    raise
                self._supervisor.stop_all()
        return None

    def _start_on(self, supervisor: Supervisor, executable: Path) -> None:
        configuration = self._directory / "config.yml"
        configuration.write_text(yaml.safe_dump(self._configuration()))
        command = Command(
            name="registry",
            argv=[str(executable), "serve", str(configuration)],
            log=self.log,
            folder=self._directory,
            env={"OTEL_TRACES_EXPORTER": "none"},  # else it looks for a collector
            grace_s=_GRACE_S,
        )
        supervisor.start(command)
        deadline_s = time.monotonic() + _START_TIMEOUT_S
        while not accepts(LOOPBACK, self._port):
            supervisor.check()
            if time.monotonic() > deadline_s:
                raise command.failure(f"does not answer within {_START_TIMEOUT_S:g} s")
            self._progress.pause(_POLL_INTERVAL_S)
        supervisor.check()

    def _configuration(self) -> dict[str, Any]:
        made: dict[str, Any] = {
            "version": 0.1,
            "log": {"level": "info", "accesslog": {"disabled": False}},
            "storage": {
                "filesystem": {"rootdirectory": str(self.storage)},
                "delete": {"enabled": True},
                "maintenance": {"uploadpurging": {"enabled": False}},
            },
            # What it signs its upload addresses with; one that lasts, so that uploads go on after a restart.
            "http": {"addr": f"{LOOPBACK}:{self._port}", "secret": self._secret()},
        }
        if self._htpasswd is not None:
            made["auth"] = {"htpasswd": {"realm": "kaito", "path": str(self._htpasswd.absolute())}}
        if self._token is not None:
            made["auth"] = {
                "token": {
                    "realm": self._token.realm,
                    "service": self._token.service,
                    "issuer": self._token.issuer,
                    "rootcertbundle": str(self._token.certificates.absolute()),
                }
            }
        return made

    def _secret(self) -> str:
        path = self._directory / ".secret"
        if not path.exists():
            path.touch(mode=0o600)
            path.write_text(secrets.token_hex(16))
        return path.read_text()
