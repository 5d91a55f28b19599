"""A Kubernetes on this machine: real control-plane programs as child processes, no container engine needed.

async with ControlPlane(controller_manager=True, scheduler=True, kwok=True) as plane:
    print(plane.kubeconfig, await plane.kubectl("get", "namespaces"))
"""

from kaito.devcluster.binaries import Binary, ensure_binaries
from kaito.devcluster.certificates import CertificateAuthority, KeyPair
from kaito.devcluster.controlplane import ControlPlane
from kaito.devcluster.errors import (
    BinariesError,
    BuildError,
    CancelledStartError,
    ChecksumError,
    DevClusterError,
    DirectoryInUseError,
    DownloadError,
    KubectlError,
    ProgramError,
    RequestError,
    TruncatedError,
    UnreachableError,
)
from kaito.devcluster.foreground import run_until_signal
from kaito.devcluster.programs import (
    ETCD_VERSION,
    KUBERNETES_VERSION,
    KWOK_VERSION,
    PROGRAM_NAMES,
    REGISTRY_VERSION,
    ProgramName,
)
from kaito.devcluster.progress import Progress
from kaito.devcluster.registry import Registry, TokenAccess

__all__ = [
    "ETCD_VERSION",
    "KUBERNETES_VERSION",
    "KWOK_VERSION",
    "PROGRAM_NAMES",
    "REGISTRY_VERSION",
    "BinariesError",
    "Binary",
    "BuildError",
    "CancelledStartError",
    "CertificateAuthority",
    "ChecksumError",
    "ControlPlane",
    "DevClusterError",
    "DirectoryInUseError",
    "DownloadError",
    "KeyPair",
    "KubectlError",
    "ProgramError",
    "ProgramName",
    "Progress",
    "Registry",
    "RequestError",
    "TokenAccess",
    "TruncatedError",
    "UnreachableError",
    "ensure_binaries",
    "run_until_signal",
]
