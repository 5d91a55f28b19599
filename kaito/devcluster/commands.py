"""The command lines of a control plane's programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, assert_never

from kaito.devcluster.layout import Layout
from kaito.devcluster.ports import LOOPBACK
from kaito.devcluster.processes import Command
from kaito.devcluster.programs import ProgramName

SERVICE_CLUSTER_IP_RANGE: Final = "10.96.0.0/12"
SERVICE_ACCOUNT_ISSUER: Final = "https://kubernetes.default.svc.cluster.local"
KWOK_NODE_SELECTOR: Final = "kwok.x-k8s.io/node=fake"

_STAGES: Final = Path(__file__).parent / "stages"
_ETCD_QUOTA_BYTES: Final = 8 << 30
# With their default limits of 20 and 50 requests per second the programs, not the operator under test, are
# what 200 Deployments wait for.
_CLIENT_LIMITS: Final = ("--kube-api-qps=500", "--kube-api-burst=1000")


@dataclass(frozen=True, slots=True)
class Ports:
    """The ports of one control plane, all on loopback."""

    etcd: int
    api_server: int
    kwok: int


@dataclass(frozen=True, slots=True)
class CommandLines:
    """Writes the command line of each program of one control plane.

    Attributes:
        layout: Its files.
        ports: Its ports.
        executables: Where each program is.
        service_accounts: Whether a controller manager makes the ServiceAccounts that Pods are admitted with.
        extra_flags: Flags to add, by program; they come last, so they win over ours.
    """

    layout: Layout
    ports: Ports
    executables: Mapping[ProgramName, Path]
    service_accounts: bool
    extra_flags: Mapping[ProgramName, Sequence[str]] = field(default_factory=dict)

    def command(self, program: ProgramName) -> Command:
        """How to start a program."""
        flags = [*self._flags(program), *self.extra_flags.get(program, ())]
        # kwok would read the user's own ~/.kwok/kwok.yaml besides ours.
        env = {"KWOK_WORKDIR": str(self.layout.data / "kwok")} if program == "kwok" else {}
        return Command(
            name=program,
            argv=[str(self.executables[program]), *flags],
            log=self.layout.log(program),
            folder=self.layout.data,
            env=env,
        )

    def _flags(self, program: ProgramName) -> list[str]:
        match program:
            case "etcd":
                return self._etcd()
            case "kube-apiserver":
                return self._api_server()
            case "kube-controller-manager":
                return self._controller_manager()
            case "kube-scheduler":
                return self._scheduler()
            case "kwok":
                return self._kwok()
            case "kubectl" | "registry":
                return []
        assert_never(program)

    def _etcd(self) -> list[str]:
        url = f"http://{LOOPBACK}:{self.ports.etcd}"
        return [
            f"--data-dir={self.layout.etcd}",
            f"--listen-client-urls={url}",
            f"--advertise-client-urls={url}",
            f"--listen-peer-urls=http://{LOOPBACK}:0",
            f"--quota-backend-bytes={_ETCD_QUOTA_BYTES}",
            # A member alone waits out its election timeout before it leads itself: 1 s by default.
            "--heartbeat-interval=20",
            "--election-timeout=100",
            "--unsafe-no-fsync",  # a cluster that nobody keeps need not survive a power cut
        ]

    def _api_server(self) -> list[str]:
        pki = self.layout.pki
        flags = [
            f"--etcd-servers=http://{LOOPBACK}:{self.ports.etcd}",
            f"--bind-address={LOOPBACK}",
            f"--secure-port={self.ports.api_server}",
            # Without these two it looks for the machine's address, and refuses to start where there is none.
            f"--advertise-address={LOOPBACK}",
            "--endpoint-reconciler-type=none",
            f"--tls-cert-file={pki('apiserver.crt')}",
            f"--tls-private-key-file={pki('apiserver.key')}",
            f"--client-ca-file={pki('ca.crt')}",
            f"--cert-dir={pki('unused')}",
            f"--service-account-issuer={SERVICE_ACCOUNT_ISSUER}",
            f"--service-account-key-file={pki('service-accounts.pub')}",
            f"--service-account-signing-key-file={pki('service-accounts.key')}",
            f"--service-cluster-ip-range={SERVICE_CLUSTER_IP_RANGE}",
            "--authorization-mode=RBAC",
            "--allow-privileged=true",
            "--profiling=false",
        ]
        if not self.service_accounts:
            # Nobody makes the ServiceAccount that every Pod has to have.
            flags.append("--disable-admission-plugins=ServiceAccount")
        return flags

    def _controller_manager(self) -> list[str]:
        return [
            *self._client("kube-controller-manager"),
            *_CLIENT_LIMITS,
            "--controllers=*",
            f"--root-ca-file={self.layout.pki('ca.crt')}",
            f"--service-account-private-key-file={self.layout.pki('service-accounts.key')}",
            "--concurrent-deployment-syncs=20",
            "--concurrent-replicaset-syncs=20",
            "--concurrent-statefulset-syncs=20",
            "--concurrent-job-syncs=20",
            "--profiling=false",
        ]

    def _scheduler(self) -> list[str]:
        return [*self._client("kube-scheduler"), *_CLIENT_LIMITS, "--profiling=false"]

    def _kwok(self) -> list[str]:
        return [
            f"--kubeconfig={self.layout.program_kubeconfig('kwok')}",
            f"--server-address={LOOPBACK}:{self.ports.kwok}",
            f"--manage-nodes-with-annotation-selector={KWOK_NODE_SELECTOR}",
            "--manage-all-nodes=false",
            f"--node-ip={LOOPBACK}",
            "--node-lease-duration-seconds=40",
            *(f"--config={stage}" for stage in sorted(_STAGES.glob("*.yaml"))),
        ]

    def _client(self, program: ProgramName) -> list[str]:
        # Nothing to serve: no port to clash on, and no key pair to make for it. Nobody to elect against either.
        return [
            f"--kubeconfig={self.layout.program_kubeconfig(program)}",
            "--leader-elect=false",
            "--secure-port=0",
        ]
