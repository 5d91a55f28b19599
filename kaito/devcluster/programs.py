"""The programs of a control plane, and an image registry: versions, release files, Go modules that build them."""

from __future__ import annotations

import platform
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, get_args

ProgramName = Literal[
    "etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl", "kwok", "registry"
]
PROGRAM_NAMES: Final[tuple[ProgramName, ...]] = get_args(ProgramName)
NodeAgentName = Literal["process-nodes"]
NODE_AGENT: Final[NodeAgentName] = "process-nodes"
"""The agent of process nodes: a program of this package, which no binary has to be fetched for."""

KUBERNETES_VERSION: Final = "v1.36.3"
ETCD_VERSION: Final = "v3.6.8"
KWOK_VERSION: Final = "v0.8.0"
REGISTRY_VERSION: Final = "v3.1.2"

_GOLANG_FOLDER: Final = Path(__file__).parent / "golang"
_ARCHITECTURES: Final = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


@dataclass(frozen=True, slots=True)
class Platform:
    """An operating system and a processor, in Go's words: `linux`, `amd64`."""

    os: str
    arch: str

    def __str__(self) -> str:
        return f"{self.os}-{self.arch}"


@dataclass(frozen=True, slots=True)
class GoModule:
    """One of the Go modules that come with this package.

    Attributes:
        name: Name of its folder below `golang/`.
        executable: Name of the file that it builds.
        programs: The programs that this one executable is; each is a symbolic link to it.
        ldflags: Flags for the linker.
        packages: About how many packages a build from nothing compiles, for the progress line.
        minutes: About how many minutes such a build takes on two cores.
    """

    name: str
    executable: str
    programs: tuple[ProgramName, ...]
    ldflags: str
    packages: int
    minutes: float

    @property
    def folder(self) -> Path:
        """Where go.mod, go.sum and main.go lie."""
        return _GOLANG_FOLDER / self.name


# Without the version flag kubectl refuses the version string that the API server would report.
CONTROL_PLANE_MODULE: Final = GoModule(
    name="controlplane",
    executable="kube",
    programs=("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl"),
    ldflags=f"-s -w -X k8s.io/component-base/version.gitVersion={KUBERNETES_VERSION}",
    packages=2700,
    minutes=6,
)
KWOK_MODULE: Final = GoModule(
    name="kwok", executable="kwok", programs=("kwok",), ldflags="-s -w", packages=970, minutes=1.5
)
REGISTRY_MODULE: Final = GoModule(
    name="registry",
    executable="registry",
    programs=("registry",),
    ldflags=f"-s -w -X github.com/distribution/distribution/v3/version.version={REGISTRY_VERSION}",
    packages=600,
    minutes=2,
)


def module_of(program: ProgramName) -> GoModule:
    """The Go module that builds a program."""
    return {"kwok": KWOK_MODULE, "registry": REGISTRY_MODULE}.get(program, CONTROL_PLANE_MODULE)


def version_of(program: ProgramName) -> str:
    """The version of a program that this package was tested with, with its leading v."""
    return {"etcd": ETCD_VERSION, "kwok": KWOK_VERSION, "registry": REGISTRY_VERSION}.get(program, KUBERNETES_VERSION)


def this_platform() -> Platform:
    """The platform that this process runs on."""
    machine = platform.machine().lower()
    return Platform(os=sys.platform, arch=_ARCHITECTURES.get(machine, machine))
