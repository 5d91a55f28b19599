"""Another `--node-provisioner` than before: claims of the other kind go on being nodes, and go with their Workspace."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from kaito.api.karpenter_v1 import NodeClaim
from kaito.api.karpenter_v1alpha5 import Machine
from kaito.client import Client, load_config
from kaito.devcluster.controlplane import ControlPlane
from kaito.testing import eventually
from tests.operating.cluster import CRDS, Cluster, install_crds, workspace
from tests.operating.manager_process import ManagerProcess

NAME = "kept"


@pytest.fixture
async def place(control_plane: ControlPlane, client: Client, namespace: str) -> Cluster:
    await install_crds(control_plane)
    return Cluster(control_plane, client, namespace)


@pytest.mark.parametrize(
    ("before", "after"), [("machine", "nodeclaim"), ("nodeclaim", "machine"), ("nodeclaim", "byo")]
)
async def test_a_workspace_keeps_its_node_and_takes_it_along(
    place: Cluster, tmp_path: Path, before: str, after: str
) -> None:
    kind, other = (Machine, NodeClaim) if before == "machine" else (NodeClaim, Machine)
    async with ManagerProcess(place.plane.kubeconfig, tmp_path / "1.log", "--node-provisioner", before) as first:
        await place.apply(workspace(NAME))
        await place.ready(NAME)
        assert first.failures() == []
    (claim,) = await place.claims(NAME, kind)
    async with ManagerProcess(place.plane.kubeconfig, tmp_path / "2.log", "--node-provisioner", after) as second:
        await second.ready()
        await reconciled(second)
        await place.ready(NAME)
        assert [each.metadata.uid for each in await place.claims(NAME, kind)] == [claim.metadata.uid]
        assert await place.claims(NAME, other) == []
        await place.delete(NAME)
        await place.gone(NAME)
        assert second.failures() == []


async def test_without_a_cloud_it_does_not_start_beside_claims(place: Cluster, tmp_path: Path) -> None:
    async with ManagerProcess(place.plane.kubeconfig, tmp_path / "1.log"):
        await place.apply(workspace(NAME))
        await place.ready(NAME)
    (claim,) = await place.claims(NAME)
    command = [
        *(sys.executable, "-m", "kaito", "manager", "--kubeconfig", str(place.plane.kubeconfig)),
        *("--node-provisioner", "byo", "--metrics-bind-address", "0", "--health-probe-bind-address", "0"),
    ]
    run = partial(subprocess.run, command, capture_output=True, text=True, check=False, timeout=60)
    ended = await asyncio.to_thread(run)
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    said = ended.stderr.splitlines()[-1]
    assert said.startswith("kaito: --node-provisioner byo without --cloud: ")
    assert f"machine/{claim.metadata.name}" in said
    async with ManagerProcess(place.plane.kubeconfig, tmp_path / "3.log", "--node-provisioner", "byo"):
        await place.delete(NAME)
        await place.gone(NAME)


@pytest.fixture(params=["machine", "nodeclaim"])
async def one_kind(request: pytest.FixtureRequest) -> AsyncIterator[tuple[Cluster, str]]:
    """A cluster that has the CRD of one kind of claim only."""
    missing = "nodeclaims" if request.param == "machine" else "machines"
    files = [file for file in sorted(CRDS.glob("*.yaml")) if missing not in file.name]
    async with ControlPlane(scheduler=True, controller_manager=True, kwok=True) as plane:
        await plane.kubectl("apply", "--server-side", *(word for file in files for word in ("-f", str(file))))
        await plane.kubectl("wait", "crd", "--all", "--for=condition=Established", "--timeout=30s")
        async with Client.from_config(load_config(plane.kubeconfig), name="tests") as client:
            yield Cluster(plane, client, "default"), request.param


async def test_a_cluster_that_has_one_kind_of_claim_only_is_enough(
    one_kind: tuple[Cluster, str], tmp_path: Path
) -> None:
    place, kind = one_kind
    made = Machine if kind == "machine" else NodeClaim
    async with ManagerProcess(place.plane.kubeconfig, tmp_path / "log", "--node-provisioner", kind) as manager:
        await manager.ready()
        await place.apply(workspace(NAME))
        await place.ready(NAME)
        assert len(await place.claims(NAME, made)) == 1
        await place.delete(NAME)

        async def gone() -> bool:
            return not await place.claims(NAME, made) and not await place.nodes(NAME)

        await eventually(gone, timeout_s=30, message="claim and node are gone")
        assert manager.failures() == []


async def reconciled(manager: ManagerProcess) -> None:
    """Waits until the Workspaces have been looked at."""

    async def probe() -> bool:
        return await manager.metric("controller_runtime_reconcile_total", controller="workspace") > 0

    await eventually(probe, timeout_s=30, message="workspaces have been looked at")
