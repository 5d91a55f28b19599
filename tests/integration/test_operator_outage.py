"""An API server that is not there yet, or goes away: the manager says so, waits, and recovers by itself."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kaito.client import Client, load_config
from kaito.devcluster.controlplane import ControlPlane
from kaito.testing import eventually
from tests.operating.cluster import Cluster, install_crds, workspace
from tests.operating.manager_process import ManagerProcess


@pytest.fixture
async def own_cluster() -> AsyncIterator[Cluster]:
    """A cluster of its own: others would not bear what is done to it."""
    async with ControlPlane(scheduler=True, controller_manager=True, kwok=True) as plane:
        await install_crds(plane)
        config = load_config(plane.kubeconfig)
        async with Client.from_config(config, name="tests") as client:
            yield Cluster(plane, client, "default")


async def test_an_api_server_that_comes_late_or_goes_and_comes_back_is_waited_for(
    own_cluster: Cluster, tmp_path: Path
) -> None:
    await own_cluster.plane.stop_program("kube-apiserver")
    async with ManagerProcess(own_cluster.plane.kubeconfig, tmp_path / "log") as manager:
        await unready(manager, saying="watch workspaces.kaito.sh")
        assert (await manager.get("/healthz"))[0] == 200
        assert warnings(manager)
        await own_cluster.plane.start_program("kube-apiserver")
        await manager.ready()
        await own_cluster.apply(workspace("before"))
        await own_cluster.ready("before")

        seen = len(warnings(manager))
        await own_cluster.plane.stop_program("kube-apiserver")
        await unready(manager)
        assert len(warnings(manager)) > seen
        await own_cluster.plane.start_program("kube-apiserver")
        await manager.ready()
        await own_cluster.apply(workspace("after"))
        await own_cluster.all_ready(["before", "after"])
        assert len(await own_cluster.claims()) == 2
        for name in ("before", "after"):
            await own_cluster.delete(name)
            await own_cluster.gone(name)
        assert manager.failures() == []


async def unready(manager: ManagerProcess, *, saying: str = "") -> str:
    """Waits until /readyz says no, in these words; returns all of them."""

    async def probe() -> str:
        status, text = await manager.get("/readyz")
        assert status == 503
        assert saying in text
        return text

    return await eventually(probe, timeout_s=30, message="the manager is not ready")


def warnings(manager: ManagerProcess) -> list[dict[str, object]]:
    return [line for line in manager.lines() if line.get("level") == "warning"]
