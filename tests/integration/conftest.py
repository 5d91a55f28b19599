"""What tests of the operator stand on: one manager for the tests of a module, and a namespace to work in."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from kaito.client import Client
from kaito.devcluster.controlplane import ControlPlane
from tests.operating.cluster import Cluster, install_crds
from tests.operating.manager_process import ManagerProcess


@pytest.fixture(scope="module")
def manager_arguments() -> tuple[str, ...]:
    """Further arguments of the module's manager."""
    return ()


@pytest.fixture(scope="module")
async def manager(
    control_plane: ControlPlane, manager_arguments: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[ManagerProcess]:
    """A manager that is ready. At the end it must have logged nothing that would wake a person."""
    await install_crds(control_plane)
    log = tmp_path_factory.mktemp("manager") / "manager.log"
    async with ManagerProcess(control_plane.kubeconfig, log, *manager_arguments) as running:
        await running.ready()
        yield running
        assert running.failures() == []


@pytest.fixture
async def cluster(
    manager: ManagerProcess, control_plane: ControlPlane, client: Client, namespace: str
) -> AsyncIterator[Cluster]:
    """A namespace on which the module's manager works; its Workspaces are deleted in the end."""
    made = Cluster(control_plane, client, namespace)
    yield made
    await made.kubectl("delete", "workspace", "--all", "--timeout=60s")
