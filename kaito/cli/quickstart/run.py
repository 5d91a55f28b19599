"""Quickstart: the steps of the walk-through, in order, on nodes that run processes or on fake ones."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from kaito.api import all_crds
from kaito.catalog import CurrentCatalog
from kaito.cli.crds import CRDFormat, render
from kaito.cli.examples import example
from kaito.cli.quickstart.act import Act
from kaito.cli.quickstart.adapters import AdapterAct
from kaito.cli.quickstart.chat import QUESTION, show_answer
from kaito.cli.quickstart.errors import ProgramEnded, QuickstartError
from kaito.cli.quickstart.keep import keep
from kaito.cli.quickstart.model import INSTANCE_TYPE, PRESET, ModelChoice, choose, tiny, write_tiny
from kaito.cli.quickstart.operator import logging_to, operator
from kaito.cli.quickstart.screen import Screen
from kaito.controllers.operator import OperatorOptions
from kaito.devcluster.controlplane import ControlPlane
from kaito.devcluster.ports import LOOPBACK, free_port
from kaito.devcluster.process_nodes.images import ImageTable, built_in
from kaito.devcluster.process_nodes.node_pressure import DISK_BYTES, disk_of
from kaito.devcluster.processes import Supervisor
from kaito.kube.object_key import ObjectKey
from kaito.runtime.manager import Manager

MANIFEST = "inference/kaito_workspace_phi_3.yaml"
KEY = ObjectKey("workspace-phi-3-mini", "default")
KWOK_TIMEOUT_S = 60.0
NEEDED = ("torch", "transformers", "fastapi", "uvicorn")
"""What the inference server imports."""
# Told to the server, so that it downloads as the user would.
_OF_THE_USER = ("HF_TOKEN", "HF_HOME", "HF_ENDPOINT", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "SSL_CERT_FILE", "HOME")

ROOM_BYTES = 200 * 2**20
"""What etcd and the logs take; the agent of nodes wants its part left free besides."""

NodeGrade = Literal["process", "kwok"]


@dataclass(frozen=True, slots=True)
class QuickstartOptions:
    """What the user asked for.

    Attributes:
        model: a Hugging Face id or a folder; None: what can be had.
        nodes: what plays the nodes.
        adapters: whether a second Workspace follows, with an adapter from an image.
        keep: wait for Ctrl-C before cleaning up.
    """

    model: str | None = None
    nodes: NodeGrade = "process"
    adapters: bool = False
    keep: bool = False


class Quickstart:
    """The steps.

    Args:
        screen: where they are told.
        options: what the user asked for.
    """

    def __init__(self, screen: Screen, options: QuickstartOptions) -> None:
        self._screen = screen
        self._options = options

    async def run(self) -> dict[str, object]:
        """Runs all steps; returns what came of them.

        Raises:
            QuickstartError: a step failed. Everything is stopped by then.
        """
        with tempfile.TemporaryDirectory(prefix="kaito-quickstart-", ignore_cleanup_errors=True) as folder:
            # Removes the folder even where this process is killed.
            owner = Supervisor([Path(folder)])
            try:
                check_room(Path(folder), ROOM_BYTES + (DISK_BYTES if self._options.nodes == "process" else 0))
                with logging_to(Path(folder, "manager.log")):
                    return await self._run(Path(folder))
            finally:
                await asyncio.shield(asyncio.to_thread(owner.close))

    async def _run(self, scratch: Path) -> dict[str, object]:
        if self._options.nodes == "kwok" and (self._options.model or self._options.adapters):
            raise QuickstartError("--nodes kwok serves no model: leave it out, or --model and --adapters")
        if self._options.nodes == "process" and (missing := missing_packages()):
            if self._options.model or self._options.adapters:
                raise QuickstartError(f"{', '.join(missing)} not installed: pip install 'kaito[cli,inference]'")
            self._screen.note(
                f"no model is served: {', '.join(missing)} not installed (pip install 'kaito[cli,inference]'); the "
                f"nodes are fake ones, as with --nodes kwok"
            )
            return await self._on_fake_nodes()
        if self._options.nodes == "kwok":
            return await self._on_fake_nodes()
        return await self._on_process_nodes(scratch)

    async def _on_fake_nodes(self) -> dict[str, object]:
        programs = "etcd, kube-apiserver, kube-controller-manager, kube-scheduler and kwok"
        cluster = ControlPlane(scheduler=True, controller_manager=True, kwok=True)
        async with self._started(cluster, programs, OperatorOptions()) as manager:
            act = await self._ready(cluster, manager, example(MANIFEST).read_text(), KWOK_TIMEOUT_S)
            await act.show("workspace", "machine", "node", "deployment", "service", "pod")
            if self._options.keep:
                await keep(self._screen, cluster, manager, [act], serves=False)
            await act.delete()
        return {"ready": True, "workspace": str(KEY), "nodes": "kwok"}

    async def _on_process_nodes(self, scratch: Path) -> dict[str, object]:
        model = await self._choose(scratch)
        for note in model.notes:
            self._screen.note(note)
        async with AsyncExitStack() as stack:
            writing = asyncio.create_task(write_tiny(scratch) if model.is_tiny else _nothing(), name="tiny model")
            stack.push_async_callback(_cancelled, writing)
            cluster = ControlPlane(
                scheduler=True, controller_manager=True, process_nodes=True, images=_images(model, scratch)
            )
            programs = "etcd, kube-apiserver, kube-controller-manager, kube-scheduler and the agent of process nodes"
            options = OperatorOptions(cloud="process", runtime="transformers", current=CurrentCatalog(model.catalog()))
            manager = await stack.enter_async_context(self._started(cluster, programs, options))
            async with self._screen.phase("tiny_model", "the tiny model is being written"):
                await writing
            return await self._serve(cluster, manager, model, scratch)

    async def _serve(
        self, cluster: ControlPlane, manager: Manager, model: ModelChoice, scratch: Path
    ) -> dict[str, object]:
        text = example(MANIFEST).read_text().replace(INSTANCE_TYPE, model.instance_type)
        manifest = text.replace(f"name: {PRESET}", f"name: {model.preset}")
        act = await self._ready(cluster, manager, manifest, model.readiness_timeout_s)
        await act.show("workspace", "service", "pod")
        address = await act.address()
        answer = await show_answer(self._screen, address, "answer")
        told: dict[str, object] = {
            "ready": True,
            "workspace": str(KEY),
            "nodes": "process",
            "model": model.model_id,
            "address": address,
            "question": QUESTION,
            "answer": answer.text,
            "tokens": answer.tokens,
            "tokens_per_second": answer.tokens_per_s,
            "first_token_seconds": answer.first_s,
        }
        acts = [act]
        async with AsyncExitStack() as stack:
            if self._options.adapters:
                second = AdapterAct(self._screen, cluster, manager, scratch)
                await stack.enter_async_context(second.registry())
                async with self._kept_if_it_fails(cluster, manager, second.act):
                    told["adapters"] = await second.play()
                acts.append(second.act)
            if self._options.keep:
                await keep(self._screen, cluster, manager, acts, serves=True)
            for each in reversed(acts):
                await each.delete()
        return told

    async def _choose(self, scratch: Path) -> ModelChoice:
        if self._options.adapters:
            if self._options.model is not None:
                raise QuickstartError(
                    "--adapters shows the tiny model's adapters, which fit no other; leave --model out"
                )
            return tiny(scratch, "--adapters needs a model that adapters fit")
        async with self._screen.phase("model", "asks the hub what the model is"):
            return await choose(self._options.model, scratch)

    @asynccontextmanager
    async def _started(self, cluster: ControlPlane, programs: str, options: OperatorOptions) -> AsyncIterator[Manager]:
        self._screen.step(f"starting {programs}")
        async with AsyncExitStack() as stack:
            async with self._screen.phase("control_plane", "waits for the control plane to answer"):
                await stack.enter_async_context(cluster)
            self._screen.step("installing the CustomResourceDefinitions", "kaito crds | kubectl apply -f -")
            async with self._screen.phase("crds", "waits for the API server to take them in"):
                rendered = await asyncio.to_thread(render, all_crds(), CRDFormat.YAML)
                await cluster.kubectl("apply", "-f", "-", input=rendered)
                await cluster.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
            url = f"https://{LOOPBACK}:{free_port()}"
            runs = f"kaito manager --cloud {options.cloud} --webhook-url {url} --namespace default"
            self._screen.step("starting the operator", runs)
            async with self._screen.phase("operator", "waits for caches and the webhook"):
                manager = await stack.enter_async_context(operator(cluster, url, options))
            yield manager

    async def _ready(self, cluster: ControlPlane, manager: Manager, manifest: str, timeout_s: float) -> Act:
        act = Act(self._screen, cluster, manager, KEY)
        self._screen.step("applying a Workspace", f"kubectl apply -f examples/{MANIFEST}")
        async with self._kept_if_it_fails(cluster, manager, act), self._screen.phase("workspace"):
            await act.apply(manifest)
            await act.until_ready(timeout_s)
        self._screen.step(f"ready {self._screen.seconds['workspace']} s after it was applied")
        return act

    @asynccontextmanager
    async def _kept_if_it_fails(self, cluster: ControlPlane, manager: Manager, act: Act) -> AsyncIterator[None]:
        """With --keep, leaves what failed as it is for people to look at; else says how they could."""
        try:
            yield
        except ProgramEnded:
            raise
        except QuickstartError as error:
            if not self._options.keep:
                raise QuickstartError(
                    f"{error}\nnext: with --keep, all stays as it is after a failure, too, for kubectl describe pod "
                    f"and kaito explain workspace {act.workspace.name}"
                ) from error
            self._screen.failed(str(error))
            await keep(self._screen, cluster, manager, [act], serves=False)
            raise QuickstartError(f"Workspace {act.workspace.name} was not ready, as was said above") from error


def check_room(folder: Path, needed: int) -> None:
    """Looks whether the disk has room for a run: where it has not, etcd ends with a stack trace, or pods wait for ever.

    Raises:
        QuickstartError: it has less than is needed.
    """
    if (left := disk_of(folder).available) < needed:
        raise QuickstartError(
            f"{folder.parent} has {left >> 20} MiB left, and {needed >> 20} MiB are needed: export TMPDIR=FOLDER, one "
            f"with more room"
        )


def missing_packages() -> list[str]:
    """Packages that the inference server needs and that are not installed."""
    return [name for name in NEEDED if importlib.util.find_spec(name) is None]


def _images(model: ModelChoice, scratch: Path) -> ImageTable:
    image = built_in()
    env = {"TORCHINDUCTOR_CACHE_DIR": str(scratch / "torch")}  # else torch leaves a folder behind
    env |= {name: os.environ[name] for name in _OF_THE_USER if name in os.environ}
    arguments = {model_id: str(folder) for model_id, folder in model.folders.items()}
    return ImageTable([replace(image, env={**env, **image.env}, arguments=arguments)])


async def _nothing() -> None:
    """A real model is not written here."""


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait({task})
