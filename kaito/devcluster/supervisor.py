"""The supervisor: owns the child processes of one control plane, and lets none of them outlive its parent.

It runs as a process of its own, by its path and on the standard library alone, so that it is up in milliseconds:
`python -I -S supervisor.py PARENT_PID FOLDER...`. Requests come as JSON lines on standard input, one answer each
on standard output. It ends when its input ends, when the parent dies, or on SIGTERM: then it ends its children,
waits for them, and removes the folders it was given. The input alone is not enough of a sign, since a process that
the parent forked keeps the pipe open; so the parent is also watched through a pidfd where the system has them.
The children in turn are told by the kernel (PR_SET_PDEATHSIG) to die with the supervisor. What they leave in a session
of its own, as daemons are, is adopted by the supervisor (PR_SET_CHILD_SUBREAPER) when its parent ends. It is known by
the variable KAITO_PROGRAM and goes with its program; what has cleared its variables goes with the supervisor.

Requests:
    {"op": "start", "name": N, "argv": [...], "env": {...}, "cwd": D, "log": F, "grace_s": S} -> {"pid": 7}
    {"op": "stop", "name": N} -> {"code": -9}
    {"op": "signal", "name": N, "number": 15} -> {}
    {"op": "forget", "name": N} -> {"code": 0}
    {"op": "status"} -> {"programs": {N: {"pid": 7, "code": null}}}
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_MARK = "KAITO_PROGRAM"
_POLL_INTERVAL_S = 0.01
_LOST_PARENT_POLL_S = 1.0
_REMOVAL_ATTEMPTS = 5
_STRAYS_S = 2.0


class Children:
    """The child processes by name, each the leader of its own process group."""

    def __init__(self) -> None:
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._graces_s: dict[str, float] = {}

    def start(
        self, name: str, argv: Sequence[str], env: dict[str, str], cwd: str, log: str, grace_s: float
    ) -> dict[str, object]:
        """Starts a program; its output is appended to the log."""
        running = self._processes.get(name)
        if running is not None and running.poll() is None:
            raise ValueError(f"{name} is already running as process {running.pid}")
        with open(log, "ab") as output:
            process = subprocess.Popen(
                argv,
                env={**env, _MARK: name},
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_tie_to_parent(os.getpid()),
            )
        self._processes[name] = process
        self._graces_s[name] = grace_s
        return {"pid": process.pid}

    def stop(self, name: str) -> dict[str, object]:
        """Ends a program and all it started: SIGTERM if it has a grace, then SIGKILL."""
        self._end([name])
        return {"code": self._processes.pop(name).returncode}

    def signal(self, name: str, number: int) -> dict[str, object]:
        """Sends a signal to a program and all it started, and waits for nothing."""
        if self._processes[name].poll() is None:
            _signal_group(self._processes[name].pid, signal.Signals(number))
        return {}

    def forget(self, name: str) -> dict[str, object]:
        """Kills what a program that has ended left behind, and takes it off the list."""
        process = self._processes[name]
        if process.poll() is None:
            raise ValueError(f"{name} is still running as process {process.pid}")
        _signal_group(process.pid, signal.SIGKILL)
        self._end_strays(name)
        del self._processes[name], self._graces_s[name]
        return {"code": process.returncode}

    def stop_all(self) -> None:
        """Ends all programs, at the same time."""
        self._end(list(self._processes))
        self._end_strays(None)

    def status(self) -> dict[str, object]:
        """Process ids and exit codes; a code below zero is a signal, null means running."""
        self._reap()
        return {"programs": {name: {"pid": each.pid, "code": each.poll()} for name, each in self._processes.items()}}

    def _end(self, names: Sequence[str]) -> None:
        deadline_s = time.monotonic()
        for name in names:
            if self._graces_s[name] > 0 and self._processes[name].poll() is None:
                _signal_group(self._processes[name].pid, signal.SIGTERM)
                deadline_s = max(deadline_s, time.monotonic() + self._graces_s[name])
        while time.monotonic() < deadline_s and any(
            self._processes[name].poll() is None for name in names if self._graces_s[name] > 0
        ):
            time.sleep(_POLL_INTERVAL_S)
        for name in names:
            # The group, and also when its leader is gone: what it started may still be there.
            _signal_group(self._processes[name].pid, signal.SIGKILL)
        for name in names:
            self._processes[name].wait()
            self._end_strays(name)

    def _end_strays(self, name: str | None) -> None:
        """Kills what a program left behind outside its group; None: what any has."""
        deadline_s = time.monotonic() + _STRAYS_S
        leaders = {each.pid for each in self._processes.values()}
        while True:
            self._reap()
            strays = [pid for pid in _children() if pid not in leaders and (name is None or program_of(pid) == name)]
            if not strays or time.monotonic() > deadline_s:
                return
            for pid in strays:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            # What these had started is adopted once they are gone.
            time.sleep(_POLL_INTERVAL_S)

    def _reap(self) -> None:
        """Takes note of ends: of programs, and of processes that were adopted, which nobody else asks after."""
        if sys.platform != "linux":
            return  # nothing is adopted there
        leaders = {each.pid: each for each in self._processes.values() if each.returncode is None}
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is not None:
                if ended.si_pid in leaders:
                    leaders[ended.si_pid].poll()
                else:
                    os.waitpid(ended.si_pid, os.WNOHANG)


def main(arguments: Sequence[str]) -> None:
    """Serves requests until the parent is gone, then leaves nothing behind."""
    parent_pid, folders = int(arguments[0]), arguments[1:]
    for ignored in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(ignored, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _end_of_service)
    _adopt_orphans()
    children = Children()
    with contextlib.suppress(SystemExit):
        _serve(children, parent_pid)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    children.stop_all()
    for folder in folders:
        _remove(folder)


def _serve(children: Children, parent_pid: int) -> None:
    parent = _watch_parent(parent_pid)
    pending = b""
    while not _parent_is_gone(parent_pid):
        sources = [0] if parent is None else [0, parent]
        readable, _, _ = select.select(sources, [], [], _LOST_PARENT_POLL_S)
        if parent in readable:
            return
        if 0 in readable:
            chunk = os.read(0, 1 << 16)
            if not chunk:
                return
            *lines, pending = (pending + chunk).split(b"\n")
            for line in lines:
                _answer(children, json.loads(line))


def _answer(children: Children, request: dict[str, object]) -> None:
    operations: dict[object, Callable[..., dict[str, object]]] = {
        "start": children.start,
        "stop": children.stop,
        "signal": children.signal,
        "forget": children.forget,
        "status": children.status,
    }
    operation = operations[request.pop("op")]
    try:
        answer = operation(**request)
    except (OSError, ValueError, KeyError, subprocess.SubprocessError) as error:
        answer = {"error": f"{type(error).__name__}: {error}"}
    with contextlib.suppress(BrokenPipeError):
        os.write(1, json.dumps(answer).encode() + b"\n")


def _end_of_service(_signal: int, _frame: object) -> None:
    raise SystemExit


def _watch_parent(parent_pid: int) -> int | None:
    """A descriptor that becomes readable when the parent dies, where the system has such a thing."""
    if not hasattr(os, "pidfd_open"):
        return None
    try:
        return os.pidfd_open(parent_pid)
    except OSError:
        return None


def _parent_is_gone(parent_pid: int) -> bool:
    return os.getppid() != parent_pid


def _tie_to_parent(supervisor_pid: int) -> Callable[[], None] | None:
    """What a child does before it becomes its program: ask the kernel to be killed with the supervisor."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl

    def tie() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != supervisor_pid:
            os._exit(1)

    return tie


def _adopt_orphans() -> None:
    """Asks the kernel that what descendants leave behind becomes a child of this process; Linux alone can do that."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _children() -> list[int]:
    """The processes whose parent this one is, as far as the system tells in /proc."""
    own = str(os.getpid())
    found = []
    for pid in filter(str.isdecimal, os.listdir("/proc") if os.path.isdir("/proc") else ()):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/stat") as stat:
            # The name before it may have anything in it, parentheses too.
            state, parent = stat.read().rpartition(")")[2].split()[:2]
            if parent == own and state != "Z":
                found.append(int(pid))
    return found


def program_of(pid: int) -> str:
    """Which program a process belongs to; empty if that cannot be told."""
    prefix = f"{_MARK}=".encode()
    with contextlib.suppress(OSError), open(f"/proc/{pid}/environ", "rb") as variables:
        found = (each for each in variables.read().split(b"\0") if each.startswith(prefix))
        return next(found, b"").removeprefix(prefix).decode(errors="replace")
    return ""


def _signal_group(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def _remove(folder: str) -> None:
    for _ in range(_REMOVAL_ATTEMPTS):
        shutil.rmtree(folder, ignore_errors=True)
        if not os.path.lexists(folder):
            return
        time.sleep(_POLL_INTERVAL_S)


if __name__ == "__main__":
    main(sys.argv[1:])
