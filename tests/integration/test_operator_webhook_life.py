"""The webhook of `kaito manager`, as processes: what holds while managers come and go, and while the catalogue does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from kaito.api.kaito_v1beta1 import Workspace
from kaito.client import Client
from kaito.client.errors import ApiError, Invalid
from kaito.devcluster.controlplane import ControlPlane
from kaito.devcluster.errors import KubectlError
from kaito.devcluster.ports import free_port
from kaito.testing import eventually
from tests.operating.cluster import Cluster, install_crds, workspace
from tests.operating.manager_process import ManagerProcess
from tests.operating.webhook_door import WebhookDoor

PACE_S = 0.02
TYPO = "phi-3-mini-4k-instrukt"
Make = Callable[..., ManagerProcess]


@pytest.fixture
async def place(control_plane: ControlPlane, client: Client, namespace: str) -> AsyncIterator[Cluster]:
    """A namespace without a manager; in the end the configurations go, or nobody could write Workspaces again."""
    await install_crds(control_plane)
    made = Cluster(control_plane, client, namespace)
    yield made
    kinds = "validatingwebhookconfiguration,mutatingwebhookconfiguration"
    await control_plane.kubectl("delete", kinds, "kaito", "--ignore-not-found")


@pytest.fixture
def make(place: Cluster, tmp_path: Path) -> Make:
    """Makes a manager whose webhook listens on a port, and is reached there or elsewhere."""

    def made(
        name: str = "manager", *arguments: str, port: int | None = None, reached: int | None = None
    ) -> ManagerProcess:
        port = port or free_port()
        flags = ["--namespace", place.namespace, "--webhook-port", str(port)]
        if "--webhook-service" not in arguments:
            flags += ["--webhook-url", f"https://127.0.0.1:{reached or port}"]
        return ManagerProcess(place.plane.kubeconfig, tmp_path / f"{name}.log", *flags, *arguments)

    return made


async def refused(place: Cluster, obj: dict[str, Any]) -> str:
    with pytest.raises(KubectlError) as error:
        await place.apply(obj)
    return error.value.stderr


class Load:
    """Good and bad Workspaces, one after the other, dry."""

    def __init__(self, place: Cluster) -> None:
        self._client, self._namespace = place.client, place.namespace
        self.right = 0
        self.unanswered: list[str] = []
        self.wrong: list[str] = []
        self.done = asyncio.Event()

    async def run(self) -> None:
        """Tries on until it is done, with time for others in between: on few cores these are to start meanwhile."""
        while not self.done.is_set():
            await self.one(good=True)
            await self.one(good=False)
            with suppress(TimeoutError):
                async with asyncio.timeout(PACE_S):
                    await self.done.wait()

    async def more(self, count: int = 20) -> None:
        """Waits for so many right verdicts more."""
        enough = self.right + count
        await eventually(lambda: self.right > enough, timeout_s=30)

    async def one(self, *, good: bool) -> None:
        """Tries one, and takes down what came of it."""
        made = workspace("w") if good else workspace("w", preset=TYPO)
        made["metadata"]["namespace"] = self._namespace
        obj = Workspace.model_validate(made)
        try:
            await self._client.create(obj, dry_run=True)
        except Invalid as error:
            self._verdict(not good and "inference.preset" in str(error), f"refused: {error}")
        except ApiError as error:
            if "failed calling webhook" not in str(error):
                self.wrong.append(str(error))
            self.unanswered.append(str(error))
        else:
            self._verdict(good, f"passed: {obj.inference}")

    def _verdict(self, right: bool, what: str) -> None:
        self.right += right
        if not right:
            self.wrong.append(what)


async def test_from_its_first_second_on_a_manager_gives_right_verdicts_or_none(place: Cluster, make: Make) -> None:
    port = free_port()
    async with make("first", port=port) as first:
        await first.ready()
    load = Load(place)
    async with asyncio.TaskGroup() as group:
        group.create_task(load.run())
        await eventually(lambda: len(load.unanswered) > 2)
        assert load.right == 0
        async with make("second", port=port):
            await load.more()
            load.done.set()
    assert load.wrong == []


async def test_while_two_replicas_are_replaced_one_after_the_other_each_write_gets_its_verdict(
    place: Cluster, make: Make
) -> None:
    load = Load(place)
    replicas: list[ManagerProcess] = []
    async with WebhookDoor() as door:

        async def start(name: str) -> None:
            port = free_port()
            manager = make(name, "--leader-elect", port=port, reached=door.port)
            replicas.append(manager)
            await manager.__aenter__()
            await manager.ready()
            door.behind[manager] = port

        async def stop_the_oldest() -> None:
            assert await replicas.pop(0).stop() == 0

        try:
            await asyncio.gather(start("one"), start("two"))
            await eventually(lambda: _works(load))
            async with asyncio.TaskGroup() as group:
                group.create_task(load.run())
                # As a Deployment does it that may have one more for a while: with each that is ready one of old goes.
                await start("three")
                await load.more()
                await asyncio.gather(stop_the_oldest(), start("four"))
                await load.more()
                await stop_the_oldest()
                await load.more()
                load.done.set()
        finally:
            await asyncio.gather(*(manager.stop() for manager in replicas))
    assert (load.wrong, load.unanswered) == ([], [])


async def _works(load: Load) -> bool:
    """Whether the door has found a manager."""
    await load.one(good=True)
    works = load.right > 0
    load.right = 0
    load.unanswered.clear()
    return works


OURS = """
models:
  our-model:
    huggingface_id: ours/Our-Model
    weights_gib: 3.5
    context_tokens: 8192
    attention: GQA
    kv_bytes_per_token: 65536
    disk_gib: 90
    runtimes: [transformers]
    license: proprietary
    readiness_timeout_minutes: 10
    source: [measured by us]
skus:
  rack-a: {cloud: onprem, gpu: L40S, gpu_count: 1, source: [ours]}
"""


async def test_a_config_map_brings_models_and_instance_types_without_a_restart(place: Cluster, make: Make) -> None:
    ours = workspace("ours", preset="our-model", instance_type="rack-a")
    await place.apply(workspace("early", preset="our-model", instance_type="rack-a"))

    def laid(text: str) -> dict[str, Any]:
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "models"}, "data": {"ours.yaml": text}}

    async with make("manager", "--catalog-config-map", "models") as manager:
        await manager.ready()
        assert "inference.preset.name" in await refused(place, ours)
        assert await manager.metric("kaito_catalog_valid") == 1
        models = await manager.metric("kaito_catalog_models")
        await place.condition("early", "ResourceReady", "False")

        await place.apply(laid(OURS))
        await place.ready("early")
        await place.apply(ours)
        await place.ready("ours")
        assert len(await place.claims("ours")) == 1
        assert await manager.metric("kaito_catalog_models") == models + 1

        await place.apply(laid(OURS.replace("3.5", "-1")))
        (line,) = await eventually(lambda: manager.logged("catalogue is faulty"))
        (fault,) = line["faults"]
        assert fault.startswith(f"ConfigMap {place.namespace}/models: ours.yaml: models.our-model.weights_gib: ")
        assert await manager.metric("kaito_catalog_valid") == 0
        assert await manager.metric("kaito_catalog_models") == models + 1
        await eventually(lambda: _told(place, "weights_gib"))

        for name in ("early", "ours"):
            await place.delete(name)
        await place.kubectl("delete", "configmap", "models")
        await eventually(lambda: _counts(manager, models))
        assert "inference.preset.name" in await refused(place, ours)
        assert await manager.metric("kaito_catalog_valid") == 1


async def _told(place: Cluster, words: str) -> bool:
    return words in await place.kubectl("get", "events", "--field-selector", "reason=CatalogFaulty")


async def _counts(manager: ManagerProcess, models: float) -> bool:
    return await manager.metric("kaito_catalog_models") == models
