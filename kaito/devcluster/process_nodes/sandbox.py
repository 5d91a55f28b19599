"""PodSandbox: one pod's folder on this machine, and what is to be executed for each of its containers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from kaito.kube.core_v1 import Pod
from kaito.kube.pod_v1 import Container


class NotStarted(Exception):
    """A container or a pod cannot be started, for now.

    Attributes:
        reason: as a kubelet says it in a waiting state or an event: ErrImagePull, CreateContainerConfigError,
            InvalidImageName, FailedMount, CreateContainerError.
        message: what is wrong and what to do.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason = reason
        self.message = message


@dataclass(frozen=True, slots=True)
class Execution:
    """What is executed for a container.

    Attributes:
        argv: the executable and its arguments.
        env: all variables; nothing of the agent's own besides.
        folder: the working folder.
        log: where its output is appended.
        termination_log: the file whose content becomes the terminated state's message.
        roots: folders of this machine by the paths that the container knows them by, its mounts.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str]
    folder: Path
    log: Path
    termination_log: Path
    roots: Mapping[str, Path]


class Sandbox(Protocol):
    """One pod's folder, volumes and network name."""

    address: str
    """The pod's address, as the cluster knows it; `addresses.local` says where it is here."""

    async def prepare(self) -> None:
        """Makes the volumes, or brings those up to date that are written anew when their source changes.

        Raises:
            NotStarted: a source is not there (FailedMount).
        """

    async def execution(self, container: Container, restarts: int) -> Execution:
        """What to execute; the termination log is empty then.

        Raises:
            NotStarted: no image, a variable that cannot be resolved, a command that does not exist.
        """

    def command(self, container: Container, words: Sequence[str]) -> tuple[str, ...]:
        """What is executed for a probe's command, with all else as in the container's `execution`.

        Raises:
            NotStarted: as for `execution`.
        """

    async def refresh(self, pod: Pod) -> None:
        """Takes what changed of the pod: labels and annotations that volumes show."""

    async def remove(self) -> None:
        """Removes the folder; its logs stay in the agent's folder of logs."""
