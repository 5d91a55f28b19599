"""Threads follow the CPU quota of the control group."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kaito.inference.engine.threads import cpu_threads


@pytest.fixture(autouse=True)
def _sixteen_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))


def write(root: Path, files: dict[str, str]) -> tuple[Path, Path]:
    """Files of a control group, and what /proc says of them."""
    for name, text in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root / "cgroup", root / "proc"


@pytest.mark.parametrize(
    ("files", "threads"),
    [
        pytest.param({}, 16, id="no groups at all"),
        pytest.param({"proc": "0::/\n", "cgroup/cpu.max": "400000 100000\n"}, 4, id="version 2"),
        pytest.param({"proc": "0::/\n", "cgroup/cpu.max": "max 100000\n"}, 16, id="version 2 without a limit"),
        pytest.param({"proc": "0::/\n", "cgroup/cpu.max": "250000 100000\n"}, 2, id="a half CPU does not count"),
        pytest.param({"proc": "0::/\n", "cgroup/cpu.max": "50000 100000\n"}, 1, id="less than one CPU"),
        pytest.param({"proc": "0::/\n", "cgroup/cpu.max": "9900000 100000\n"}, 16, id="more than the machine has"),
        pytest.param(
            {
                "proc": "0::/pods/one\n",
                "cgroup/pods/cpu.max": "300000 100000\n",
                "cgroup/pods/one/cpu.max": "800000 100000\n",
            },
            3,
            id="a group above allows less",
        ),
        pytest.param(
            {"proc": "0::/outside/the/container\n", "cgroup/cpu.max": "200000 100000\n"},
            2,
            id="a path that is not seen here",
        ),
        pytest.param(
            {
                "proc": "5:cpu,cpuacct:/docker/1\n4:memory:/docker/1\n",
                "cgroup/cpu,cpuacct/cpu.cfs_quota_us": "600000\n",
                "cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            },
            6,
            id="version 1",
        ),
        pytest.param(
            {
                "proc": "5:cpu,cpuacct:/\n",
                "cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            16,
            id="version 1 without a limit",
        ),
        pytest.param({"proc": "no such form\n", "cgroup/cpu.max": "what is this\n"}, 16, id="files of another form"),
    ],
)
def test_threads_are_the_cpus_that_the_control_group_grants(
    tmp_path: Path, files: dict[str, str], threads: int
) -> None:
    assert cpu_threads(*write(tmp_path, files)) == threads


def test_a_process_bound_to_two_cpus_gets_two_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5})
    assert cpu_threads(*write(tmp_path, {"proc": "0::/\n", "cgroup/cpu.max": "400000 100000\n"})) == 2
