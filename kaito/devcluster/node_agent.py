"""NodeAgent: the agent of process nodes as a program of a control plane, started again whenever it ends."""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from kaito.devcluster.certificates import CertificateAuthority
from kaito.devcluster.egress import Egress
from kaito.devcluster.errors import DevClusterError
from kaito.devcluster.layout import Layout
from kaito.devcluster.process_nodes.addresses import NODE_ADDRESS
from kaito.devcluster.processes import Command, Supervisor, describe_exit
from kaito.devcluster.programs import NODE_AGENT
from kaito.devcluster.progress import Progress

if TYPE_CHECKING:
    from kaito.devcluster.process_nodes.images import ImageTable

# What it gets to end the pods' processes, of which each has a grace too.
_GRACE_S: Final = 8.0
_CHECK_INTERVAL_S: Final = 0.25
_FIRST_DELAY_S: Final = 1.0
_LONGEST_DELAY_S: Final = 30.0
_STEADY_S: Final = 60.0


class NodeAgent:
    """Starts the agent, and starts it again when it ends unasked: pods go on, and the control plane does anyway.

    Args:
        layout: The control plane's files.
        egress: Where the API server and the agent meet.
        supervisor: Owns the process.
        progress: Told of each new start.
        images: What stands for which image; None: the agent's own table.
    """

    def __init__(
        self, layout: Layout, egress: Egress, supervisor: Supervisor, progress: Progress, images: ImageTable | None
    ) -> None:
        self._layout = layout
        self._egress = egress
        self._supervisor = supervisor
        self._progress = progress
        self._images = images
        self._lock = threading.Lock()
        self._wanted = False
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._started_s = 0.0
        self._delay_s = 0.0

    @property
    def api_server_flags(self) -> list[str]:
        """What the API server needs to reach the agent."""
        return self._egress.api_server_flags

    @property
    def command(self) -> Command:
        """How it is started."""
        argv = [
            *(sys.executable, "-m", "kaito.devcluster.process_nodes"),
            f"--kubeconfig={self._layout.program_kubeconfig(NODE_AGENT)}",
            f"--directory={self._layout.node_agent}",
            f"--egress={self._egress.folder}",
        ]
        if self._images is not None:
            argv.append(f"--images={self._table}")
        # In this process's folder: there `kaito` can be imported, as it was here.
        return Command(NODE_AGENT, argv, self._layout.log(NODE_AGENT), Path.cwd(), grace_s=_GRACE_S, may_end=True)

    def prepare(self, authority: CertificateAuthority) -> None:
        """Writes what it and the API server find each other by."""
        self._egress.write(authority, NODE_ADDRESS)
        self._layout.node_agent.mkdir(mode=0o700)
        self._layout.pod_logs.mkdir(mode=0o700)
        # The folder goes with the cluster; what pods said is for people and stays.
        (self._layout.node_agent / "logs").symlink_to(self._layout.pod_logs, target_is_directory=True)
        if self._images is not None:
            self._images.dump(self._table)

    def start(self) -> None:
        """Starts it, and from now on starts it again.

        Raises:
            ProgramError: It could not be executed.
        """
        with self._lock:
            self._start()
            self._wanted = True

    def is_ready(self) -> bool:
        """Whether it serves the API server.

        Raises:
            ProgramError: It has ended; has the tail of its log.
        """
        code = self._supervisor.exit_code(NODE_AGENT)
        if code is not None:
            raise self.command.failure(describe_exit(code))
        with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
            probe.connect(str(self._egress.socket))
            return True
        return False

    def keep(self) -> None:
        """Watches it from a thread until `close`."""
        self._thread = threading.Thread(target=self._watch, name=f"keeps {NODE_AGENT}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends it, until `start` is called."""
        with self._lock:
            self._wanted = False
            self._supervisor.stop(NODE_AGENT)

    def close(self) -> None:
        """Watches no more; ending it is the supervisor's."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join()

    @property
    def _table(self) -> Path:
        return self._egress.folder / "images.yaml"

    def _watch(self) -> None:
        # The supervisor is gone when the control plane is, which whoever asks for its state is told.
        with contextlib.suppress(DevClusterError):
            while not self._closing.wait(_CHECK_INTERVAL_S):
                with self._lock:
                    if self._wanted:
                        self._look()

    def _look(self) -> None:
        code = self._supervisor.exit_code(NODE_AGENT)
        if code is None:
            return
        if time.monotonic() - self._started_s > _STEADY_S:
            self._delay_s = 0.0
        if time.monotonic() < self._started_s + self._delay_s:
            return
        self._progress.say(
            f"{NODE_AGENT}: {describe_exit(code)}; starting it again, see {self._layout.log(NODE_AGENT)}"
        )
        self._delay_s = min(_LONGEST_DELAY_S, 2 * self._delay_s or _FIRST_DELAY_S)
        self._start()

    def _start(self) -> None:
        self._started_s = time.monotonic()
        self._supervisor.start(self.command)
