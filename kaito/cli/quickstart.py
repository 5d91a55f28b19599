"""kaito quickstart: from nothing to a ready Workspace on this machine, in front of the user's eyes, then clean-up."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from kaito.api import all_crds, keys
from kaito.api.kaito_v1beta1 import Workspace
from kaito.cli.conditions_table import ConditionsTable
from kaito.cli.crds import CRDFormat, render
from kaito.cli.examples import example
from kaito.client.config import load_config
from kaito.client.errors import KubeError
from kaito.controllers.operator import OperatorOptions, add_operator
from kaito.controllers.webhooks import NAME, WebhookOptions
from kaito.devcluster.controlplane import ControlPlane
from kaito.devcluster.errors import DevClusterError, KubectlError
from kaito.devcluster.ports import LOOPBACK, free_port
from kaito.kube.conditions import is_true
from kaito.kube.object_key import ObjectKey
from kaito.runtime.logs import ConsoleFormatter
from kaito.runtime.manager import Manager
from kaito.runtime.webhook import AtUrl

MANIFEST = "inference/kaito_workspace_phi_3.yaml"
KEY = ObjectKey("workspace-phi-3-mini", "default")
SYNC_TIMEOUT_S = 30.0
READY_TIMEOUT_S = 60.0
GONE_TIMEOUT_S = 60.0
_ONLY_WARNINGS = re.compile(r"\b\d+ warnings? received")


class QuickstartError(Exception):
    """A step of the quickstart failed; the text says which, why, and where to look."""


def quickstart(
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave everything running when ready, to look around; Ctrl-C ends it.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object at the end; progress goes to stderr.")
    ] = False,
) -> None:
    """Start a Kubernetes on this machine, apply a Workspace, watch it become ready, clean up.

    Nothing is faked but the nodes: kwok plays their kubelets. Needs no cluster, no GPU and no root. Takes about
    15 seconds once the control plane's programs are there; the first time they are fetched or built.
    """
    console = Console(stderr=as_json, highlight=False, soft_wrap=True)
    began = time.monotonic()
    try:
        summary = asyncio.run(_interruptible(Quickstart(console, keep=keep).run()))
    except (QuickstartError, DevClusterError, KubeError) as error:
        Console(stderr=True, highlight=False, soft_wrap=True).print(f"[red]quickstart failed:[/red] {error}")
        raise typer.Exit(1) from None
    except (KeyboardInterrupt, asyncio.CancelledError):
        console.print("interrupted; everything was stopped")
        raise typer.Exit(130) from None
    summary["seconds"] = round(time.monotonic() - began, 1)
    if as_json:
        typer.echo(json.dumps(summary))
    else:
        console.print(f"[green]done[/green] in {summary['seconds']} s; nothing was left behind")


class Quickstart:
    """The steps, in order.

    Args:
        console: where they are told.
        keep: wait for Ctrl-C before cleaning up.
    """

    def __init__(self, console: Console, *, keep: bool) -> None:
        self._console = console
        self._keep = keep

    async def run(self) -> dict[str, object]:
        """Runs all steps; returns what came of them.

        Raises:
            QuickstartError: a step failed. Everything is stopped by then.
        """
        with tempfile.TemporaryDirectory(prefix="kaito-quickstart-") as scratch:
            log_file = Path(scratch) / "manager.log"
            with _logging_to(log_file):
                try:
                    return await self._run()
                except TimeoutError as error:
                    tail = "\n".join(log_file.read_text().splitlines()[-20:])
                    raise QuickstartError(f"{error}; the manager's last lines were:\n{tail}") from error

    async def _run(self) -> dict[str, object]:
        self._step("starting etcd, kube-apiserver, kube-controller-manager, kube-scheduler and kwok")
        async with ControlPlane(scheduler=True, controller_manager=True, kwok=True) as cluster:
            self._step("installing the CustomResourceDefinitions", "kaito crds | kubectl apply -f -")
            await cluster.kubectl("apply", "-f", "-", input=render(all_crds(), CRDFormat.YAML))
            await cluster.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
            url = f"https://{LOOPBACK}:{free_port()}"
            self._step("starting the operator", f"kaito manager --cloud kwok --webhook-url {url} --namespace default")
            async with _operator(cluster, url) as manager:
                return await self._use(cluster, manager)

    async def _use(self, cluster: ControlPlane, manager: Manager) -> dict[str, object]:
        began = time.monotonic()
        self._step("applying a Workspace", f"kubectl apply -f examples/{MANIFEST}")
        await self._apply(cluster)
        await self._watch_until_ready(manager)
        ready_s = round(time.monotonic() - began, 1)
        self._step(f"ready {ready_s} s after it was applied; what was made:")
        await self._show(cluster)
        if self._keep:
            await self._wait_for_interrupt(cluster, manager)
        self._step("deleting the Workspace", f"kubectl delete workspace {KEY.name}")
        await cluster.kubectl("delete", "workspace", KEY.name, "--timeout=60s")
        await self._expect_gone(cluster)
        return {"ready": True, "workspace": str(KEY), "ready_seconds": ready_s}

    async def _apply(self, cluster: ControlPlane) -> None:
        """Shows what the webhook warns of, which kubectl would otherwise print for nobody."""
        try:
            await cluster.kubectl("apply", "--warnings-as-errors", "-f", str(example(MANIFEST)))
        except KubectlError as error:
            if not _ONLY_WARNINGS.search(error.stderr):
                raise
            warnings = (line for line in error.stderr.splitlines() if line.startswith("Warning: "))
            for line in warnings:
                self._console.print(f"    [yellow]{escape(line)}[/yellow]")

    async def _watch_until_ready(self, manager: Manager) -> None:
        informer = manager.cache.informer(Workspace)
        changed = asyncio.Event()
        registration = informer.add_handler(lambda _: changed.set())
        try:
            with ConditionsTable(self._console, (keys.RESOURCE_READY, keys.INFERENCE_READY)) as table:
                async with asyncio.timeout(READY_TIMEOUT_S):
                    while not await self._is_ready(manager, table):
                        await changed.wait()
                        changed.clear()
        except TimeoutError:
            raise TimeoutError(f"the Workspace was not ready after {READY_TIMEOUT_S:.0f} s") from None
        finally:
            registration.remove()

    async def _is_ready(self, manager: Manager, table: ConditionsTable) -> bool:
        found = [item for item in await manager.client.list(Workspace) if item.key == KEY]
        if not found:
            return False
        table.show(found[0].status.conditions)
        return is_true(found[0].status.conditions, keys.WORKSPACE_READY)

    async def _show(self, cluster: ControlPlane) -> None:
        for what in ("workspace", "machine", "node", "deployment", "service", "pod"):
            self._console.print(f"[bold]$ kubectl get {what}[/bold]")
            self._console.print((await cluster.kubectl("get", what)).rstrip(), markup=False)

    async def _wait_for_interrupt(self, cluster: ControlPlane, manager: Manager) -> None:
        bound = manager.addresses
        self._console.print(
            f"kept: export KUBECONFIG={cluster.kubeconfig}\n"
            f"      metrics at http://127.0.0.1:{bound['metrics'].port}/metrics, "
            f"health at http://127.0.0.1:{bound['health'].port}/readyz?verbose\n"
            f"      Ctrl-C cleans up"
        )
        interrupted = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGINT, interrupted.set)
        await interrupted.wait()

    async def _expect_gone(self, cluster: ControlPlane) -> None:
        deadline = time.monotonic() + GONE_TIMEOUT_S
        while True:
            left = await cluster.kubectl("get", "machine,node,deployment,pod", "--no-headers", "--ignore-not-found")
            if not left.strip():
                return
            if time.monotonic() > deadline:
                raise QuickstartError(f"still there {GONE_TIMEOUT_S:.0f} s after the Workspace was deleted:\n{left}")
            await asyncio.sleep(0.2)

    def _step(self, text: str, command: str = "") -> None:
        self._console.print(f"[cyan]==>[/cyan] {text}")
        if command:
            self._console.print(f"    [bold]$ {command}[/bold]")


@asynccontextmanager
async def _operator(cluster: ControlPlane, url: str) -> AsyncIterator[Manager]:
    """The manager of `kaito manager`, in this process: nothing of it can outlive us."""
    manager = Manager("kaito", load_config(cluster.kubeconfig), metrics="127.0.0.1:0", health="127.0.0.1:0")
    serving = WebhookOptions(AtUrl(url), ObjectKey(NAME, "default"), address=url.removeprefix("https://"))
    add_operator(manager, OperatorOptions(webhooks=serving))
    running = asyncio.create_task(manager.run(), name="manager")
    synced = asyncio.create_task(_ready(manager), name="caches synced, webhook in place")
    try:
        await asyncio.wait({running, synced}, timeout=SYNC_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            raise QuickstartError(f"the operator ended at once: {running.exception()}")
        if not synced.done():
            raise TimeoutError(f"the operator was not ready after {SYNC_TIMEOUT_S:.0f} s")
        yield manager
    finally:
        synced.cancel()
        manager.stop()
        await asyncio.wait({running})


async def _ready(manager: Manager) -> None:
    """Waits until caches are synced, and the API server asks the webhook."""
    await manager.cache.wait_synced()
    while True:
        if not any(service.fault() for service in manager.services):
            return
        await asyncio.sleep(0.05)  # nothing tells of it


async def _interruptible(steps: Coroutine[None, None, dict[str, object]]) -> dict[str, object]:
    task = asyncio.create_task(steps)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    return await task


@contextmanager
def _logging_to(path: Path) -> Iterator[None]:
    """Sends the log to a file meanwhile: the console is for the steps."""
    root, level = logging.getLogger(), logging.getLogger().level
    handler = logging.FileHandler(path)
    handler.setFormatter(ConsoleFormatter())
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
        handler.close()
