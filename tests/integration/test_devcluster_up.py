"""`kaito devcluster up`, and what happens when its process, or a program that uses ControlPlane, is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from kaito.devcluster.layout import Layout
from kaito.locks import FileLock
from kaito.testing import eventually

UP = [sys.executable, "-m", "kaito", "devcluster", "up"]
EMBEDDED = """
import json, time
from kaito.devcluster.controlplane import ControlPlane
with ControlPlane() as plane:
    pids = {**plane.pids, "supervisor": plane.supervisor_pid}
    print(json.dumps({"pids": pids, "directory": str(plane.data_dir)}), flush=True)
    time.sleep(600)
"""


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def exists(folder: str) -> bool:
    return Path(folder).exists()


@contextmanager
def running(command: list[str]) -> Iterator[tuple[subprocess.Popen[str], IO[str]]]:
    """A process and what it prints; killed if a test fails to end it."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stderr is not None
    with process.stdout as output, process.stderr:
        try:
            yield process, output
        finally:
            process.kill()
            process.wait()


def test_it_says_when_it_is_ready_in_one_line_of_json_and_ends_on_sigterm(tmp_path: Path) -> None:
    with running([*UP, "--dir", str(tmp_path), "--kwok"]) as (process, output):
        said = json.loads(output.readline())
        assert said["ready"] is True
        assert said["kubeconfig"] == str(tmp_path / "kubeconfig")
        assert set(said["pids"]) == {"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kwok"}
        assert all(map(alive, said["pids"].values()))
        second = subprocess.run([*UP, "--dir", str(tmp_path)], capture_output=True, text=True)
        assert second.returncode == 1
        assert f"in use by process {process.pid}" in second.stderr
        process.terminate()
        assert process.wait() == 0
        assert output.read() == ""
    assert not any(map(alive, said["pids"].values()))
    assert {path.name for path in tmp_path.iterdir()} == {"kubeconfig", "logs", ".lock"}
    assert {path.stem for path in (tmp_path / "logs").iterdir()} == set(said["pids"])


async def test_asked_to_end_while_it_starts_it_ends_without_a_word_on_its_output(tmp_path: Path) -> None:
    with running([*UP, "--dir", str(tmp_path)]) as (process, output):
        await eventually((tmp_path / "logs" / "kube-apiserver.log").exists)
        process.send_signal(signal.SIGINT)
        assert process.wait() == 0
        assert output.read() == ""
    assert not (tmp_path / "data").exists()


async def test_a_program_that_dies_ends_it_with_an_error(tmp_path: Path) -> None:
    with running([*UP, "--dir", str(tmp_path)]) as (process, output):
        pids = json.loads(output.readline())["pids"]
        os.kill(pids["kube-scheduler"], signal.SIGKILL)
        assert process.wait() == 1
        assert process.stderr is not None
        assert "error: kube-scheduler: was killed by signal 9" in process.stderr.read()
    assert not any(map(alive, pids.values()))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
async def test_nothing_outlives_a_program_that_is_killed_with_a_control_plane(number: signal.Signals) -> None:
    with running([sys.executable, "-c", EMBEDDED]) as (process, output):
        said = json.loads(output.readline())
        assert len(said["pids"]) == 3
        assert exists(said["directory"])
        process.send_signal(number)
        assert process.wait() != 0
    await eventually(lambda: not any(map(alive, said["pids"].values())), message="all processes have ended")
    assert not exists(said["directory"])


async def test_a_killed_one_leaves_a_folder_that_can_be_used_again(tmp_path: Path) -> None:
    with running([*UP, "--dir", str(tmp_path)]) as (process, output):
        pids = json.loads(output.readline())["pids"]
        process.kill()
    lock = FileLock(Layout(tmp_path).lock, "looking whether it is free")
    await eventually(lock.try_acquire)
    lock.release()
    # Free means free: not while its programs still run or its data is still being removed.
    assert not any(map(alive, pids.values()))
    assert not (tmp_path / "data").exists()
