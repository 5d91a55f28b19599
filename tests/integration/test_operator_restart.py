"""A manager that is started again, and many Workspaces at once: nothing is written that need not be."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from kaito.api.kaito_v1beta1 import Workspace
from kaito.client import Client
from kaito.devcluster.controlplane import ControlPlane
from kaito.testing import eventually
from tests.operating.cluster import SETTLE_TIMEOUT_S, Cluster, install_crds, workspace
from tests.operating.manager_process import ManagerProcess

CONTROLLERS = ("workspace", "machine", "gpu-provisioner")
WRITES_PER_WORKSPACE = 8
"""Of the workspace controller, beside its events."""
EVENTS_PER_WORKSPACE = 6


@pytest.fixture
async def place(control_plane: ControlPlane, client: Client, namespace: str) -> Cluster:
    await install_crds(control_plane)
    return Cluster(control_plane, client, namespace)


async def settled(manager: ManagerProcess) -> None:
    """Waits until every controller has looked at what there is, and all queues are empty."""
    await manager.ready()

    async def idle() -> bool:
        for controller in CONTROLLERS:
            assert await manager.metric("workqueue_adds_total", controller=controller) > 0
            for gauge in ("workqueue_depth", "controller_runtime_active_workers"):
                assert await manager.metric(gauge, controller=controller) == 0
        return True

    await eventually(idle, timeout_s=30, message="the controllers are idle")


async def test_twenty_workspaces_at_once_become_ready_with_one_machine_each_and_a_restart_writes_nothing(
    place: Cluster, tmp_path: Path
) -> None:
    names = [f"many-{number}" for number in range(20)]
    async with ManagerProcess(place.plane.kubeconfig, tmp_path / "first.log") as first:
        await first.ready()
        await place.apply(*(workspace(name) for name in names))
        await place.all_ready(names)
        await settled(first)
        assert first.failures() == []
        by_workspace = Counter(claim.metadata.labels["kaito.sh/workspace"] for claim in await place.claims())
        assert by_workspace == Counter(names)
        assert len(await place.nodes()) == len(names)
    async with ManagerProcess(place.plane.kubeconfig, tmp_path / "second.log") as second:
        await settled(second)
        assert await second.metric("controller_runtime_reconcile_total", controller="workspace") >= len(names)
        assert await second.writes() == 0
        await place.kubectl("delete", "workspace", "--all", f"--timeout={SETTLE_TIMEOUT_S:.0f}s")
        for name in names:
            await place.gone(name)
        assert second.failures() == []


async def test_the_workspace_controller_writes_little(place: Cluster, tmp_path: Path) -> None:
    log = tmp_path / "log"
    others = ManagerProcess(place.plane.kubeconfig, tmp_path / "others", "--controllers", "machine,gpu-provisioner")
    async with others, ManagerProcess(place.plane.kubeconfig, log, "--controllers", "workspace") as manager:
        await manager.ready()
        await place.apply(workspace("counted"))
        await place.ready("counted")
        dry_runs = 2
        events = await manager.metric("controller_events_written_total")
        assert 0 < events <= EVENTS_PER_WORKSPACE
        assert await manager.writes() - events - dry_runs <= WRITES_PER_WORKSPACE
        await place.delete("counted")
        await place.gone("counted")


async def test_what_was_deleted_while_no_manager_ran_is_cleaned_up_by_the_next_one(
    place: Cluster, tmp_path: Path
) -> None:
    async with ManagerProcess(place.plane.kubeconfig, tmp_path / "first.log"):
        await place.apply(workspace("left-alone"))
        await place.ready("left-alone")
    await place.kubectl("delete", "workspace", "left-alone", "--wait=false")
    async with ManagerProcess(place.plane.kubeconfig, tmp_path / "second.log") as second:
        await place.gone("left-alone")
        assert second.failures() == []


async def test_what_was_applied_while_no_manager_ran_is_made_by_the_next_one(place: Cluster, tmp_path: Path) -> None:
    await place.apply(workspace("early"))
    assert (await place.get(Workspace, "early")).status.conditions == ()
    async with ManagerProcess(place.plane.kubeconfig, tmp_path / "log") as manager:
        await place.ready("early")
        await place.delete("early")
        assert manager.failures() == []
