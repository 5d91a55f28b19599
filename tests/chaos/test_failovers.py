"""Fifty failovers of two and of three managers: nothing interleaves, and nothing is lost."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from kaito.client import Client
from kaito.devcluster.controlplane import ControlPlane
from tests.operating.failover_scene import FailoverScene

pytestmark = pytest.mark.chaos

WAYS = ("kill", "pause", "cut", "refuse", "stop")
FAILOVERS = 10


@pytest.mark.timeout(300)
@pytest.mark.parametrize("managers", [2, 3])
@pytest.mark.parametrize("seed", range(3))
async def test_leaders_that_go_in_any_way_leave_no_write_behind_and_no_work_undone(
    control_plane: ControlPlane, client: Client, namespace: str, tmp_path: Path, managers: int, seed: int
) -> None:
    rng = random.Random(f"{seed}/{managers}")
    # Each way as often, in any order: 6 times 10 failovers.
    failures = list(WAYS) * (FAILOVERS // len(WAYS))
    rng.shuffle(failures)
    async with FailoverScene(control_plane, client, namespace, tmp_path, rng) as scene:
        await scene.start()
        leader = await scene.leader()
        for _ in range(managers - 1):
            await scene.stands_by(await scene.start())
        for how in failures:
            await scene.fail(how, leader)
            leader = await scene.leader()
            await scene.stands_by(await scene.start())
            scene.check()
        await scene.all_jobs_done()
        scene.check()
