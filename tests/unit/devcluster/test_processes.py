"""The supervisor: whatever happens to whom, no process and no folder is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kaito.devcluster.errors import DevClusterError, ProgramError
from kaito.devcluster.processes import Command, Supervisor
from kaito.testing import eventually

PARENT = """
import os, sys, time, pathlib
from kaito.devcluster.processes import Command, Supervisor
folder = pathlib.Path(sys.argv[1])
supervisor = Supervisor(remove=[folder / "data"])
pid = supervisor.start(Command("sleep", ["sleep", "60"], folder / "log", folder))
fork = os.fork() if sys.argv[2] == "fork" else 0
if sys.argv[2] == "fork" and not fork:
    time.sleep(60)  # a child that holds the parent's pipes open
print(supervisor.pid, pid, fork, flush=True)
time.sleep(60)
"""


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie that its parent has not yet asked after does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # gone before it was looked at, or between opening and reading
        return False


def shell(folder: Path, script: str, name: str = "program", grace_s: float = 0.0) -> Command:
    return Command(name, ["sh", "-c", script], folder / f"{name}.log", folder, grace_s=grace_s)


@pytest.fixture
def supervisor() -> Iterator[Supervisor]:
    running = Supervisor()
    yield running
    running.close()


async def exited(supervisor: Supervisor, name: str = "program") -> None:
    await eventually(lambda: supervisor.exit_code(name) is not None)


async def test_a_programs_output_environment_and_folder_are_as_asked(supervisor: Supervisor, tmp_path: Path) -> None:
    command = Command("program", ["sh", "-c", "echo $WORD; pwd"], tmp_path / "log", tmp_path, env={"WORD": "hello"})
    supervisor.start(command)
    await exited(supervisor)
    assert command.log_tail() == f"hello\n{tmp_path}"


async def test_a_program_that_failed_is_reported_with_status_command_and_log(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    supervisor.start(shell(tmp_path, "seq 100; echo flag provided but not defined >&2; exit 3"))
    await exited(supervisor)
    with pytest.raises(ProgramError) as caught:
        supervisor.check()
    assert caught.value.program == "program"
    message = str(caught.value)
    assert "exit status 3" in message
    assert "command: sh -c seq" in message
    assert message.endswith("99\n100\nflag provided but not defined")
    assert "\n50\n" not in message


async def test_a_program_that_was_killed_is_reported_with_its_signal(supervisor: Supervisor, tmp_path: Path) -> None:
    os.kill(supervisor.start(shell(tmp_path, "exec sleep 60")), signal.SIGKILL)
    await exited(supervisor)
    with pytest.raises(ProgramError, match="killed by signal 9"):
        supervisor.check()


def test_a_program_that_cannot_be_executed_is_reported_at_once(supervisor: Supervisor, tmp_path: Path) -> None:
    with pytest.raises(ProgramError, match="No such file or directory"):
        supervisor.start(Command("etcd", [str(tmp_path / "absent")], tmp_path / "log", tmp_path))


def test_one_program_of_a_name_runs_at_a_time(supervisor: Supervisor, tmp_path: Path) -> None:
    supervisor.start(shell(tmp_path, "exec sleep 60"))
    with pytest.raises(ProgramError, match="already running as process"):
        supervisor.start(shell(tmp_path, "exec sleep 60"))
    supervisor.check()


def test_a_stopped_program_is_gone_and_no_failure_and_can_be_started_again(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    first = supervisor.start(shell(tmp_path, "exec sleep 60"))
    supervisor.stop("program")
    assert not alive(first)
    assert supervisor.pids() == {}
    supervisor.check()
    second = supervisor.start(shell(tmp_path, "exec sleep 60"))
    assert supervisor.pids() == {"program": second}


def test_stopping_what_was_never_started_is_an_error(supervisor: Supervisor) -> None:
    with pytest.raises(DevClusterError, match="KeyError: 'absent'"):
        supervisor.stop("absent")


async def test_a_signal_reaches_all_that_a_program_started_and_nobody_waits(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    command = shell(
        tmp_path, "trap : TERM; sh -c 'trap \"echo child; exit\" TERM; echo up; while :; do sleep 0.01; done'"
    )
    supervisor.start(command)
    await eventually(lambda: command.log_tail() == "up")
    supervisor.signal("program", signal.SIGTERM)
    await exited(supervisor)
    assert command.log_tail().endswith("child")
    supervisor.signal("program", signal.SIGTERM)  # it has ended: nobody is hit


async def test_a_forgotten_program_is_off_the_list_and_leaves_nothing_behind(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    command = shell(tmp_path, "sleep 60 & echo $!; exit 4")
    supervisor.start(command)
    await exited(supervisor)
    left = int(command.log_tail())
    assert supervisor.exit_codes() == {"program": 4}
    supervisor.forget("program")
    assert supervisor.exit_codes() == {}
    await eventually(lambda: not alive(left))
    supervisor.start(shell(tmp_path, "exec sleep 60"))
    with pytest.raises(DevClusterError, match="still running"):
        supervisor.forget("program")


async def test_a_program_may_get_nothing_of_the_parents_environment(
    supervisor: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "of the parent")
    command = Command("program", ["/usr/bin/env"], tmp_path / "log", tmp_path, env={"WORD": "own"}, inherits=False)
    supervisor.start(command)
    await exited(supervisor)
    # And the name that what it starts is known by.
    assert command.log_tail() == "WORD=own\nKAITO_PROGRAM=program"


async def test_a_program_with_a_grace_may_wind_down(supervisor: Supervisor, tmp_path: Path) -> None:
    script = "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.01; done"
    command = shell(tmp_path, script, grace_s=10)
    supervisor.start(command)
    await eventually(lambda: command.log_tail() == "up")
    supervisor.stop("program")
    assert command.log_tail().endswith("bye")


async def test_a_program_that_ignores_its_grace_is_killed(supervisor: Supervisor, tmp_path: Path) -> None:
    command = shell(tmp_path, "trap '' TERM; echo up; while :; do sleep 0.01; done", grace_s=0.1)
    pid = supervisor.start(command)
    await eventually(lambda: command.log_tail() == "up")
    supervisor.stop("program")
    assert not alive(pid)


async def test_what_a_program_started_goes_with_it(supervisor: Supervisor, tmp_path: Path) -> None:
    command = shell(tmp_path, "sleep 60 & echo $!; wait")
    supervisor.start(command)
    grandchild = int(await eventually(command.log_tail))
    supervisor.stop("program")
    await eventually(lambda: not alive(grandchild))


DAEMON = "(setsid sleep 60 & echo $! >> daemons) &"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nobody adopts them")
async def test_a_daemon_goes_with_the_program_that_started_it_and_no_other(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    supervisor.start(shell(tmp_path, f"{DAEMON} wait; sleep 0.2", "ends"))
    daemons = tmp_path / "daemons"
    [first] = await eventually(lambda: _numbers(daemons))
    supervisor.start(shell(tmp_path, f"{DAEMON} sleep 60", "stays"))
    second = (await eventually(lambda: _numbers(daemons)[1:]))[0]
    await exited(supervisor, "ends")
    assert alive(first)
    supervisor.forget("ends")
    assert not alive(first)
    assert alive(second)
    supervisor.stop("stays")
    assert not alive(second)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nobody adopts them")
async def test_a_daemon_without_variables_goes_with_the_supervisor(tmp_path: Path) -> None:
    running = Supervisor()
    running.start(shell(tmp_path, "(setsid env -i sleep 60 & echo $! >> daemons) & wait"))
    [daemon] = await eventually(lambda: _numbers(tmp_path / "daemons"))
    await exited(running)
    running.close()
    assert not alive(daemon)


def _numbers(path: Path) -> list[int]:
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def test_close_ends_all_programs_and_removes_the_folders(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    running = Supervisor(remove=[data])
    pids = [running.start(shell(tmp_path, "exec sleep 60", name)) for name in ("one", "two")]
    running.close()
    assert not any(alive(pid) for pid in (*pids, running.pid))
    assert not data.exists()
    with pytest.raises(DevClusterError, match=f"process {running.pid}\\) is gone"):
        running.pids()


def test_the_supervisor_lets_programs_wind_down_together(tmp_path: Path) -> None:
    running = Supervisor()
    for name in ("one", "two", "three"):
        running.start(shell(tmp_path, "trap '' TERM; while :; do sleep 0.01; done", name, grace_s=0.4))
    started_s = time.monotonic()
    running.close()
    assert time.monotonic() - started_s < 1.0, "one grace for all, not one each"


async def test_programs_die_with_a_killed_supervisor(tmp_path: Path) -> None:
    running = Supervisor()
    pid = running.start(shell(tmp_path, "exec sleep 60"))
    os.kill(running.pid, signal.SIGKILL)
    await eventually(lambda: not alive(pid))
    with pytest.raises(DevClusterError, match="is gone"):
        running.check()
    running.close()


def test_sigint_to_the_whole_terminal_does_not_reach_the_programs(supervisor: Supervisor, tmp_path: Path) -> None:
    pid = supervisor.start(shell(tmp_path, "exec sleep 60"))
    group = os.getpgid(0)
    assert os.getpgid(supervisor.pid) != group
    assert os.getpgid(pid) != group


@pytest.mark.parametrize("mode", ["alone", "fork"])
async def test_nothing_outlives_a_killed_parent(tmp_path: Path, mode: str) -> None:
    (tmp_path / "data").mkdir()
    parent = subprocess.Popen(  # noqa: ASYNC220 - it starts in a moment, and the loop has nothing else to do
        [sys.executable, "-c", PARENT, str(tmp_path), mode], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    with parent.stdout as answers:
        supervisor_pid, program_pid, fork_pid = map(int, answers.readline().split())
        assert alive(supervisor_pid)
        assert alive(program_pid)
        parent.kill()
        parent.wait()
    await eventually(lambda: not alive(program_pid) and not alive(supervisor_pid), timeout_s=30)
    assert not (tmp_path / "data").exists()
    if fork_pid:
        os.kill(fork_pid, signal.SIGKILL)


async def test_nothing_outlives_a_terminated_supervisor(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    running = Supervisor(remove=[data])
    pid = running.start(shell(tmp_path, "exec sleep 60"))
    os.kill(running.pid, signal.SIGTERM)
    await eventually(lambda: not alive(pid) and not data.exists())
    running.close()
