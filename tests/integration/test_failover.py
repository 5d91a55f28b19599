"""Failovers on a real API server: leaders are killed, paused and cut off; nothing interleaves and nothing is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from kaito.client import Client
from kaito.devcluster.controlplane import ControlPlane
from tests.operating.failover_scene import FailoverScene


@pytest.mark.parametrize(
    ("managers", "failures"), [(2, ("kill", "pause", "stop")), (3, ("cut", "kill", "refuse"))], ids=["two", "three"]
)
async def test_leaders_that_go_leave_no_write_behind_and_no_work_undone(
    control_plane: ControlPlane,
    client: Client,
    namespace: str,
    tmp_path: Path,
    managers: int,
    failures: tuple[str, ...],
) -> None:
    async with FailoverScene(control_plane, client, namespace, tmp_path) as scene:
        leader = await scene.start()
        await scene.leader()
        for _ in range(managers - 1):
            await scene.stands_by(await scene.start())
        for how in failures:
            await scene.fail(how, leader)
            scene.check()
            leader = await scene.leader()
            await scene.stands_by(await scene.start())
        await scene.all_jobs_done()
        scene.check()
        assert len({entry.by for entry in scene.ledger}) == len(failures) + 1
