"""Two replicas of `kaito manager`: one dies, one is stopped, and whoever is left does what comes."""

from __future__ import annotations

from pathlib import Path

import pytest

from kaito.client import Client
from kaito.devcluster.controlplane import ControlPlane
from kaito.kube.coordination_v1 import Lease
from kaito.testing import eventually
from tests.operating.cluster import Cluster, install_crds, workspace
from tests.operating.manager_process import ManagerProcess

CONTROLLERS = ("workspace", "machine", "nodeclaim", "gpu-provisioner")
DURATIONS = (("lease-duration", "2"), ("renew-deadline", "1.4"), ("retry-period", "0.3"))


class Replicas:
    """Processes of `kaito manager` that elect among themselves."""

    def __init__(self, place: Cluster, folder: Path) -> None:
        self._place = place
        self._folder = folder
        self._number = 0
        flags = ("namespace", place.namespace), *DURATIONS
        self._flags = [f"--leader-election-{name}={value}" for name, value in flags]

    def replica(self) -> ManagerProcess:
        self._number += 1
        log = self._folder / f"replica-{self._number}.log"
        return ManagerProcess(self._place.plane.kubeconfig, log, "--leader-elect", *self._flags)

    async def holders(self) -> set[str]:
        """Whoever is named in a Lease; empty: nobody."""
        leases = await self._place.client.list(Lease, namespace=self._place.namespace)
        assert len(leases) == len(CONTROLLERS)
        return {lease.spec.holder_identity or "" for lease in leases}


async def leads(manager: ManagerProcess) -> bool:
    return await manager.metric("leader_election_master_status") == len(CONTROLLERS)


@pytest.mark.timeout(90)
async def test_of_two_replicas_one_works_and_the_other_goes_on_when_it_is_killed_or_stopped(
    control_plane: ControlPlane, client: Client, namespace: str, tmp_path: Path
) -> None:
    await install_crds(control_plane)
    place = Cluster(control_plane, client, namespace)
    replicas = Replicas(place, tmp_path)
    async with replicas.replica() as first, replicas.replica() as second:
        # Nobody ever led: the first one waits for one lease, and is ready meanwhile, as is the one that stands by.
        await first.ready()
        await eventually(lambda: leads(first), timeout_s=20)
        await second.ready()
        assert not await leads(second)
        await place.apply(workspace("one"))
        await place.all_ready(["one"])
        assert await second.writes() < await first.writes()

        first.kill()
        await place.apply(workspace("two"))
        await place.all_ready(["two"])
        assert await leads(second)

        async with replicas.replica() as third:
            await third.ready()
            assert await second.stop() == 0
            await eventually(lambda: leads(third), timeout_s=5)
            await place.apply(workspace("three"))
            await place.all_ready(["three"])
            assert len(await place.claims()) == 3
            assert third.failures() == []
            assert await third.stop() == 0
        assert await replicas.holders() == {""}
