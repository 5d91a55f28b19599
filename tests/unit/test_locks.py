"""Locks between processes."""

from __future__ import annotations

import asyncio
import io
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from kaito.devcluster.errors import CancelledStartError
from kaito.devcluster.progress import Progress
from kaito.locks import FileLock
from kaito.testing import eventually

HOLDER = """
import sys, time, pathlib
from kaito.locks import FileLock
assert FileLock(pathlib.Path(sys.argv[1]), "doing the dishes").try_acquire()
print("held", flush=True)
time.sleep(60)
"""


def test_only_one_holds_it(tmp_path: Path) -> None:
    first, second = FileLock(tmp_path / "lock", "first"), FileLock(tmp_path / "lock", "second")
    assert first.try_acquire()
    assert not second.try_acquire()
    first.release()
    assert second.try_acquire()
    second.release()


def test_the_waiting_one_says_for_whom_it_waits(tmp_path: Path) -> None:
    holder = FileLock(tmp_path / "lock", "building kube")
    assert holder.try_acquire()
    said = io.StringIO()
    progress = Progress(said)
    progress.cancel()
    with pytest.raises(CancelledStartError), FileLock(tmp_path / "lock", "waiting").held(progress):
        pytest.fail("it is held by another")
    holder.release()
    assert f"process {os.getpid()} (building kube, for 0m0" in said.getvalue()


def test_it_is_free_once_its_holder_was_killed(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        lock = FileLock(path, "mine")
        assert not lock.try_acquire()
        assert (lock.owner().pid, lock.owner().purpose) == (holder.pid, "doing the dishes")
        holder.kill()
    assert lock.try_acquire()
    assert lock.owner().pid == os.getpid()
    lock.release()


async def test_the_waiting_one_goes_on_when_it_becomes_free(tmp_path: Path) -> None:
    holder = FileLock(tmp_path / "lock", "first")
    assert holder.try_acquire()
    entered = threading.Event()

    def wait() -> None:
        with FileLock(tmp_path / "lock", "second").held(Progress(silent=True)):
            entered.set()

    thread = threading.Thread(target=wait)
    thread.start()
    assert not entered.is_set()
    holder.release()
    await eventually(entered.is_set)
    thread.join()


def test_a_child_that_inherits_it_keeps_it(tmp_path: Path) -> None:
    lock = FileLock(tmp_path / "lock", "for a child")
    assert lock.try_acquire()
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, pass_fds=[lock.fileno()]) as child:
        lock.release()
        assert not FileLock(tmp_path / "lock", "another").try_acquire()
        assert child.stdin is not None
        child.stdin.close()
        child.wait()
    assert lock.try_acquire()
    lock.release()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": 1}'])
def test_an_owner_that_cannot_be_read_is_another_process(tmp_path: Path, content: str) -> None:
    (tmp_path / "lock").write_text(content)
    assert str(FileLock(tmp_path / "lock", "mine").owner()) == "another process"


async def test_an_event_loop_goes_on_while_a_lock_is_waited_for(tmp_path: Path) -> None:
    first, second = (FileLock(tmp_path / "lock", "working") for _ in range(2))
    assert first.try_acquire()
    told: list[str] = []
    waiting = asyncio.create_task(second.acquire(told.append))
    await eventually(lambda: told)
    assert "working" in told[0]
    assert not waiting.done()
    first.release()
    await waiting
    assert not first.try_acquire()
    second.release()
    assert len(told) == 1
