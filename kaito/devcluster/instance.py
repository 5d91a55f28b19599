"""One running control plane: its files, its identities, and its way from started programs to a usable cluster."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from kaito.devcluster.certificates import CertificateAuthority, write_service_account_keys
from kaito.devcluster.commands import CommandLines, Ports
from kaito.devcluster.errors import DevClusterError, ProgramError
from kaito.devcluster.kubeconfig import write_kubeconfig
from kaito.devcluster.layout import Layout
from kaito.devcluster.node_agent import NodeAgent
from kaito.devcluster.ports import LOOPBACK, free_port
from kaito.devcluster.probe import ApiProbe, answers_ok
from kaito.devcluster.processes import Command, Supervisor
from kaito.devcluster.programs import NODE_AGENT, NodeAgentName, ProgramName
from kaito.devcluster.progress import Progress

_ADMIN: Final = "kaito-admin"
_ADMIN_GROUP: Final = "system:masters"
_SERVER_NAMES: Final = (
    LOOPBACK, "localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local", "10.96.0.1",
)  # fmt: skip
_POLL_INTERVAL_S: Final = 0.03
_PORT_ATTEMPTS: Final = 5
_PORT_CLASH: Final = "address already in use"
_DEFAULT_NAMESPACE: Final = "/api/v1/namespaces/default"


class Instance:
    """A control plane whose supervisor is up: its files, its identities and the way to readiness."""

    def __init__(
        self,
        *,
        layout: Layout,
        supervisor: Supervisor,
        executables: Mapping[ProgramName, Path],
        extra_flags: Mapping[ProgramName, Sequence[str]],
        service_accounts: bool,
        start_timeout_s: float,
        progress: Progress,
        agent: NodeAgent | None = None,
    ) -> None:
        self.layout = layout
        self.supervisor = supervisor
        self.ca = CertificateAuthority()
        self._executables = executables
        self._extra_flags = extra_flags
        self._service_accounts = service_accounts
        self._start_timeout_s = start_timeout_s
        self._progress = progress
        self._agent = agent
        if agent is not None:
            flags = [*agent.api_server_flags, *extra_flags.get("kube-apiserver", ())]
            self._extra_flags = {**extra_flags, "kube-apiserver": flags}
        self._lines: CommandLines | None = None

    @property
    def url(self) -> str:
        return f"https://{LOOPBACK}:{self._command_lines.ports.api_server}"

    def become_ready(self, companions: Sequence[ProgramName]) -> None:
        """Starts everything, on other ports if somebody was faster to take one."""
        self._write_keys()
        for attempt in range(1, _PORT_ATTEMPTS + 1):
            try:
                return self._start_all(companions)
            except ProgramError as error:
                if _PORT_CLASH not in error.log_tail or attempt == _PORT_ATTEMPTS:
                    raise
                self.supervisor.stop_all()
                self._forget_attempt()
        return None

    def add_user(self, name: str, groups: Sequence[str]) -> Path:
        return self._write_kubeconfig(self.layout.user_kubeconfig(name), name, groups)

    def stop(self, program: ProgramName | NodeAgentName) -> None:
        if program == NODE_AGENT:
            self._node_agent.stop()
        else:
            self.supervisor.stop(program)

    def start_again(self, program: ProgramName | NodeAgentName) -> None:
        if program == NODE_AGENT:
            return self._start_agent()
        command = self._command_lines.command(program)
        self.supervisor.start(command)
        if program == "kube-apiserver":
            self._wait(command, self.probe().is_ready)
        return None

    def kubectl_command(self) -> list[str]:
        return [
            str(self._executables["kubectl"]),
            f"--kubeconfig={self.layout.kubeconfig}",
            f"--cache-dir={self.layout.kubectl_cache}",
        ]

    @property
    def _command_lines(self) -> CommandLines:
        assert self._lines is not None
        return self._lines

    def _write_keys(self) -> None:
        pki = self.layout.pki
        pki("ca.crt").write_bytes(self.ca.certificate_pem)
        self.ca.issue_server(_SERVER_NAMES).write(pki("apiserver.crt"), pki("apiserver.key"))
        write_service_account_keys(pki("service-accounts.pub"), pki("service-accounts.key"))
        admin = self.ca.issue_client(_ADMIN, [_ADMIN_GROUP])
        admin.write(pki("admin.crt"), pki("admin.key"))
        if self._agent is not None:
            self._agent.prepare(self.ca)

    def _start_all(self, companions: Sequence[ProgramName]) -> None:
        ports = Ports(etcd=free_port(), api_server=free_port(), kwok=free_port())
        self._lines = CommandLines(
            layout=self.layout,
            ports=ports,
            executables=self._executables,
            service_accounts=self._service_accounts,
            extra_flags=self._extra_flags,
        )
        command = self._lines.command
        self.supervisor.start(command("etcd"))
        # Not before ours answers: on a port that another etcd holds, the API server would write into that one.
        self._wait(command("etcd"), lambda: answers_ok(f"http://{LOOPBACK}:{ports.etcd}/health"))
        self.supervisor.start(command("kube-apiserver"))
        for program in companions:
            # Administrators all: what they may do is not what is tested, and RBAC's own roles come up late.
            self._write_kubeconfig(self.layout.program_kubeconfig(program), f"system:{program}", [_ADMIN_GROUP])
        probe = self.probe()
        self._wait(command("kube-apiserver"), probe.is_ready)
        for program in companions:
            self.supervisor.start(command(program))
        self._wait(command("kube-apiserver"), lambda: probe.exists(_DEFAULT_NAMESPACE))
        if "kube-controller-manager" in companions:
            account = f"{_DEFAULT_NAMESPACE}/serviceaccounts/default"
            self._wait(command("kube-controller-manager"), lambda: probe.exists(account))
        if "kwok" in companions:
            port = self._lines.ports.kwok
            self._wait(command("kwok"), lambda: answers_ok(f"http://{LOOPBACK}:{port}/healthz"))
        if self._agent is not None:
            self._write_kubeconfig(self.layout.program_kubeconfig(NODE_AGENT), f"system:{NODE_AGENT}", [_ADMIN_GROUP])
            self._start_agent()
            self._agent.keep()
        self._write_kubeconfig(self.layout.kubeconfig, _ADMIN, [_ADMIN_GROUP])

    @property
    def _node_agent(self) -> NodeAgent:
        if self._agent is None:
            raise DevClusterError("this control plane has no process nodes; make it with process_nodes=True")
        return self._agent

    def _start_agent(self) -> None:
        self._node_agent.start()
        self._wait(self._node_agent.command, self._node_agent.is_ready)

    def _forget_attempt(self) -> None:
        shutil.rmtree(self.layout.etcd)
        self.layout.etcd.mkdir(mode=0o700)
        for log in self.layout.log("any").parent.glob("*.log"):
            log.unlink()

    def probe(self) -> ApiProbe:
        pki = self.layout.pki
        return ApiProbe(self.url, ca=pki("ca.crt"), certificate=pki("admin.crt"), key=pki("admin.key"))

    def _wait(self, command: Command, probe: Callable[[], bool]) -> None:
        """Polls until the probe holds; a program that ended, whichever, ends the wait."""
        deadline_s = time.monotonic() + self._start_timeout_s
        while not probe():
            self.supervisor.check()
            if time.monotonic() > deadline_s:
                raise command.failure(f"not ready within {self._start_timeout_s:g} s")
            self._progress.pause(_POLL_INTERVAL_S)

    def _write_kubeconfig(self, path: Path, user: str, groups: Sequence[str]) -> Path:
        identity = self.ca.issue_client(user, groups)
        return write_kubeconfig(path, url=self.url, ca_pem=self.ca.certificate_pem, user=user, identity=identity)
