"""ControlPlane: etcd, kube-apiserver and what runs beside them, as child processes that cannot be left behind."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from kaito.devcluster.binaries import ensure_binaries
from kaito.devcluster.certificates import CertificateAuthority
from kaito.devcluster.egress import Egress
from kaito.devcluster.errors import DevClusterError, DirectoryInUseError, KubectlError
from kaito.devcluster.instance import Instance
from kaito.devcluster.layout import Layout
from kaito.devcluster.lifecycle import Started
from kaito.devcluster.node_agent import NodeAgent
from kaito.devcluster.processes import Supervisor
from kaito.devcluster.programs import NodeAgentName, ProgramName
from kaito.devcluster.progress import Progress
from kaito.locks import FileLock

if TYPE_CHECKING:
    from kaito.devcluster.process_nodes.images import ImageTable

_START_TIMEOUT_S: Final = 90.0


class ControlPlane(Started):
    """A Kubernetes control plane of its own, on free ports of loopback, gone without trace at the end.

    Use it as a context manager, asynchronous or not; entering it starts the programs (3 to 5 s) and returns when the
    cluster is usable, leaving it ends them. Nothing survives an exception, Ctrl-C, SIGTERM or `kill -9` of this
    process. Cancelling the start ends what was started. Many control planes can run side by side.

    RBAC is on, and `kubeconfig` is the administrator's (group system:masters, by client certificate).

    Args:
        scheduler: Run kube-scheduler, which binds Pods to Nodes.
        controller_manager: Run kube-controller-manager: garbage collection by owner reference, Deployments, Jobs,
            ServiceAccounts, namespaces that finish deleting. Without it Pods need no ServiceAccount.
        kwok: Run kwok, which plays the kubelet of every Node with the annotation `kwok.x-k8s.io/node=fake`: such
            a Node becomes Ready, Pods bound to it run, those of Jobs succeed.
        process_nodes: Run the agent that plays the kubelet of every Node with the label `kaito.sh/process-node=true`:
            Pods bound to it run as processes of this machine, without root. It is started again when it ends unasked.
            The API server reaches Pods, Services and logs through it.
        images: With process nodes: which command of this machine stands for which image; by default, the inference
            image's alone.
        directory: Where kubeconfig, logs and, while it runs, data lie. Kubeconfig and logs stay there at the end.
            By default a temporary folder that is removed.
        extra_flags: Flags to add to a program's own, by program; they win over ours.
        start_timeout_s: How long the programs may take to become ready, binaries at hand.
        progress: Where the progress of fetching or building binaries is shown; standard error by default.
    """

    def __init__(
        self,
        *,
        scheduler: bool = False,
        controller_manager: bool = False,
        kwok: bool = False,
        process_nodes: bool = False,
        images: ImageTable | None = None,
        directory: Path | None = None,
        extra_flags: Mapping[ProgramName, Sequence[str]] | None = None,
        start_timeout_s: float = _START_TIMEOUT_S,
        progress: Progress | None = None,
    ) -> None:
        self._companions: list[ProgramName] = []
        if controller_manager:
            self._companions.append("kube-controller-manager")
        if scheduler:
            self._companions.append("kube-scheduler")
        if kwok:
            self._companions.append("kwok")
        if images is not None and not process_nodes:
            raise ValueError("images are for process nodes; give process_nodes=True, too")
        self._process_nodes, self._images = process_nodes, images
        self._directory = directory
        self._extra_flags = dict(extra_flags or {})
        self._start_timeout_s = start_timeout_s
        super().__init__(progress)
        self._resources = contextlib.ExitStack()
        self._running: Instance | None = None

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig, with everything embedded."""
        return self._live.layout.kubeconfig

    @property
    def url(self) -> str:
        """Where the API server answers: `https://127.0.0.1:PORT`."""
        return self._live.url

    @property
    def data_dir(self) -> Path:
        """The folder of this control plane: kubeconfig, `logs/` and `data/`."""
        return self._live.layout.root

    @property
    def ca(self) -> CertificateAuthority:
        """The cluster's certificate authority; it also issues serving certificates, for webhooks say."""
        return self._live.ca

    @property
    def pids(self) -> dict[str, int]:
        """Process ids of the programs that are running, by name."""
        return self._live.supervisor.pids()

    @property
    def supervisor_pid(self) -> int:
        """The process that owns the programs."""
        return self._live.supervisor.pid

    def add_user(self, name: str, groups: Sequence[str] = ()) -> Path:
        """Issues a client certificate for a Kubernetes user, who may do nothing until RBAC lets them.

        Returns:
            A kubeconfig for this user; it goes away with the control plane.
        """
        return self._live.add_user(name, groups)

    def check(self) -> None:
        """Does nothing while all programs run.

        Raises:
            ProgramError: One has ended without being asked to; has the tail of its log.
        """
        self._live.supervisor.check()

    def request(self, method: str, path: str, body: object = None) -> dict[str, object]:
        """Sends one JSON request to the API server as the administrator; blocking, of use where no loop runs.

        Raises:
            RequestError: The server refused it; has its status code.
            OSError: The server cannot be reached.
        """
        return self._live.probe().request(method, path, body)

    async def kubectl(self, *arguments: str, input: str | None = None) -> str:
        """Runs kubectl as the administrator and returns what it printed. Cancelled, it kills kubectl.

        Args:
            arguments: For example `"get", "pods", "-o", "json"`.
            input: What it reads for `-f -`.

        Raises:
            KubectlError: It ended with an error; the message has its stderr.
        """
        process = await asyncio.create_subprocess_exec(
            *self._live.kubectl_command(),
            *arguments,
            stdin=asyncio.subprocess.DEVNULL if input is None else asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            stdout, stderr = await process.communicate(None if input is None else input.encode())
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.communicate()
            raise
        if process.returncode:
            said = stderr.decode(errors="replace").strip()
            message = f"kubectl {' '.join(arguments)}: exit status {process.returncode}: {said}"
            raise KubectlError(message, returncode=process.returncode, stderr=said)
        return stdout.decode()

    async def stop_program(self, program: ProgramName | NodeAgentName) -> None:
        """Kills one program and waits until it is gone; the others notice what they notice.

        The agent of process nodes is asked to end, and ends its Pods' processes.
        """
        await asyncio.to_thread(self._live.stop, program)

    async def start_program(self, program: ProgramName | NodeAgentName) -> None:
        """Starts a program that was stopped, on its old port and data.

        kube-apiserver and the agent of process nodes are waited for until ready.

        Raises:
            ProgramError: It did not start; has the tail of its log.
        """
        await asyncio.to_thread(self._live.start_again, program)

    def start(self) -> None:
        """Starts the programs and returns when the cluster is usable; on any error nothing is left.

        Raises:
            BinariesError: A program can neither be found nor fetched nor built.
            ProgramError: A program failed or did not become ready in time; has its command line and log tail.
            DirectoryInUseError: Another control plane runs in `directory`.
            CancelledStartError: The start was called off through `progress`.
        """
        if self._running is not None:
            raise DevClusterError("this control plane is running already; make a second ControlPlane instead")
        try:
            self._running = self._launch()
            self._running.become_ready(self._companions)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Ends the programs, removes their data and returns when both is done; harmless if nothing runs.

        The programs are killed, not asked: a throw-away cluster has nothing to write down.
        """
        self._running = None
        self._resources.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def _live(self) -> Instance:
        if self._running is None:
            raise DevClusterError("the control plane is not running; use it inside `with` or `async with`")
        return self._running

    def _launch(self) -> Instance:
        layout = Layout(self._make_directory())
        lock = FileLock(layout.lock, "running a control plane")
        if not lock.try_acquire():
            raise DirectoryInUseError(f"{layout.root} is in use by {lock.owner()}; end it or choose another folder")
        self._resources.callback(lock.release)
        programs: list[ProgramName] = ["etcd", "kube-apiserver", "kubectl", *self._companions]
        binaries = ensure_binaries(programs, self._progress)
        layout.make()
        temporary = self._directory is None
        # The supervisor removes it too; this is for the case that it was killed.
        self._resources.callback(shutil.rmtree, layout.data, ignore_errors=True)
        egress = self._egress(layout) if self._process_nodes else None
        removed = [layout.root if temporary else layout.data, *([egress.folder] if egress else [])]
        supervisor = Supervisor(removed, keep_open=[lock.fileno()])
        self._resources.callback(supervisor.close)
        agent = None
        if egress is not None:
            agent = NodeAgent(layout, egress, supervisor, self._progress, self._images)
            self._resources.callback(agent.close)
        return Instance(
            layout=layout,
            supervisor=supervisor,
            executables={name: binary.path for name, binary in binaries.items()},
            extra_flags=self._extra_flags,
            service_accounts="kube-controller-manager" in self._companions,
            start_timeout_s=self._start_timeout_s,
            progress=self._progress,
            agent=agent,
        )

    def _egress(self, layout: Layout) -> Egress:
        """Among the other files if its path is short enough for a socket."""
        egress = Egress(layout.data / "egress")
        if not egress.fits:
            egress = Egress(Path(tempfile.mkdtemp(prefix="kaito-")))
            self._resources.callback(shutil.rmtree, egress.folder, ignore_errors=True)
        return egress

    def _make_directory(self) -> Path:
        if self._directory is not None:
            self._directory.mkdir(parents=True, exist_ok=True)
            return self._directory.resolve()
        root = Path(tempfile.mkdtemp(prefix="kaito-control-plane-"))
        # The supervisor removes it too; this is for the case that it was killed or never started.
        self._resources.callback(shutil.rmtree, root, ignore_errors=True)
        return root
