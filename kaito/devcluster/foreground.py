"""A control plane in the foreground: up until a signal ends it, for people and for scripts in any language."""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, TextIO

from kaito.devcluster.controlplane import ControlPlane
from kaito.devcluster.errors import CancelledStartError
from kaito.devcluster.programs import KUBERNETES_VERSION
from kaito.devcluster.progress import Progress

if TYPE_CHECKING:
    from kaito.devcluster.process_nodes.images import ImageTable

_CHECK_INTERVAL_S: Final = 1.0


def run_until_signal(
    directory: Path | None,
    *,
    kwok: bool,
    process_nodes: bool = False,
    images: ImageTable | None = None,
    output: TextIO = sys.stdout,
    progress: Progress | None = None,
) -> None:
    """Runs a control plane with controller manager and scheduler until SIGTERM or SIGINT, then ends it and returns.

    Call it from the main thread. Once the cluster is usable, one line of JSON goes to the output:
    `{"kubeconfig": "/…/kubeconfig", "ready": true, "url": …, "directory": …, "kubernetes": …, "pids": {…}}`.

    Args:
        directory: Where kubeconfig and logs go, and stay; a temporary folder that is removed if None.
        kwok: Whether kwok plays the kubelet of Nodes with the annotation `kwok.x-k8s.io/node=fake`.
        process_nodes: Whether an agent plays the kubelet of Nodes with the label `kaito.sh/process-node=true`.
        images: Which command of this machine stands for which image there.
        output: Where the line of JSON goes.
        progress: Where progress goes; standard error by default.

    Raises:
        DevClusterError: It could not start, or one of its programs ended unasked; nothing is left running.
    """
    shown = progress or Progress()
    plane = ControlPlane(
        scheduler=True,
        controller_manager=True,
        kwok=kwok,
        process_nodes=process_nodes,
        images=images,
        directory=directory,
        progress=shown,
    )
    with _ending_signals(shown) as asked_to_end:
        try:
            _run(plane, asked_to_end, output, shown)
        except CancelledStartError:
            shown.say("control plane: called off before it was ready; all of it is gone")


def _run(plane: ControlPlane, asked_to_end: threading.Event, output: TextIO, progress: Progress) -> None:
    progress.say("control plane: starting")
    started_s = time.monotonic()
    with plane:
        progress.say(
            f"control plane: ready after {time.monotonic() - started_s:.1f} s; "
            f"export KUBECONFIG={plane.kubeconfig} to use it, Ctrl-C ends it"
        )
        print(json.dumps(_announcement(plane)), file=output, flush=True)
        while not asked_to_end.wait(_CHECK_INTERVAL_S):
            plane.check()
        progress.say("control plane: stopping")


def _announcement(plane: ControlPlane) -> dict[str, object]:
    return {
        "kubeconfig": str(plane.kubeconfig),
        "ready": True,
        "url": plane.url,
        "directory": str(plane.data_dir),
        "kubernetes": KUBERNETES_VERSION,
        "pids": plane.pids,
    }


@contextmanager
def _ending_signals(progress: Progress) -> Iterator[threading.Event]:
    """SIGTERM and SIGINT set the event, and call off a start that is under way."""
    asked_to_end = threading.Event()

    def end(_signal: int, _frame: object) -> None:
        asked_to_end.set()
        progress.cancel()

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield asked_to_end
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
