"""Which files a control plane has, and where they lie below its folder."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote


@dataclass(frozen=True, slots=True)
class Layout:
    """The folder of one control plane.

    Attributes:
        root: The folder. `kubeconfig` and `logs/` in it are for people, `data/` is gone after the end.
    """

    root: Path

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig; exists once the control plane is ready."""
        return self.root / "kubeconfig"

    @property
    def lock(self) -> Path:
        """Held while a control plane runs in the folder."""
        return self.root / ".lock"

    @property
    def data(self) -> Path:
        """What nobody needs after the end: etcd's data, keys, certificates."""
        return self.root / "data"

    @property
    def etcd(self) -> Path:
        """etcd's data."""
        return self.data / "etcd"

    @property
    def kubectl_cache(self) -> Path:
        """kubectl's discovery cache; its usual place is shared by all clusters that ever had this port."""
        return self.data / "kubectl"

    @property
    def node_agent(self) -> Path:
        """What the agent of process nodes keeps of pods, but for their logs."""
        return self.data / "process-nodes"

    @property
    def pod_logs(self) -> Path:
        """What the containers on process nodes wrote: `NAMESPACE_POD_UID/CONTAINER/RESTARTS.log`."""
        return self.root / "logs" / "pods"

    def pki(self, name: str) -> Path:
        """A key or certificate."""
        return self.data / "pki" / name

    def user_kubeconfig(self, user: str) -> Path:
        """The kubeconfig of a further user."""
        return self.data / "users" / f"{quote(user, safe='')}.kubeconfig"

    def program_kubeconfig(self, program: str) -> Path:
        """The kubeconfig that a program uses."""
        return self.pki(f"{program}.kubeconfig")

    def log(self, program: str) -> Path:
        """What a program wrote."""
        return self.root / "logs" / f"{program}.log"

    def make(self) -> None:
        """Makes the folders, empty: what an earlier control plane left is removed."""
        self.kubeconfig.unlink(missing_ok=True)
        for folder in (self.data, self.root / "logs"):
            shutil.rmtree(folder, ignore_errors=True)
        for folder in (self.etcd, self.data / "pki", self.data / "users", self.root / "logs"):
            folder.mkdir(parents=True, mode=0o700)
