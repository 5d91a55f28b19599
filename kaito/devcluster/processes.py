"""The parent's side of the supervisor: start programs, ask after them, end them, all or one."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from signal import Signals
from typing import Final

from kaito.devcluster.errors import DevClusterError, ProgramError

_SUPERVISOR: Final = Path(__file__).with_name("supervisor.py")
_END_TIMEOUT_S: Final = 15.0
_LOG_TAIL_LINES: Final = 25


@dataclass(frozen=True, slots=True)
class Command:
    """How a program is started.

    Attributes:
        name: What it is called; one program of a name runs at a time.
        argv: The executable and its arguments.
        log: Where its output is appended.
        folder: Its working folder.
        env: Variables on top of this process's own.
        grace_s: Seconds between SIGTERM and SIGKILL at its end; 0 kills at once.
        inherits: False: `env`, and KAITO_PROGRAM with its name, is all it gets, and nothing of this process's own.
        may_end: Its end unasked is somebody else's to deal with, not an error that `Supervisor.check` tells.
    """

    name: str
    argv: Sequence[str]
    log: Path
    folder: Path
    env: Mapping[str, str] = field(default_factory=dict)
    grace_s: float = 0.0
    inherits: bool = True
    may_end: bool = False

    def log_tail(self, lines: int = _LOG_TAIL_LINES) -> str:
        """The last lines of its log."""
        with contextlib.suppress(OSError):
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        return ""

    def failure(self, cause: str) -> ProgramError:
        """The error to raise when the program failed: cause, command line and the tail of the log."""
        tail = self.log_tail()
        message = f"{self.name}: {cause}\ncommand: {' '.join(self.argv)}\nlast lines of its log:\n{tail or '(nothing)'}"
        return ProgramError(message, program=self.name, log_tail=tail)


class Supervisor:
    """A set of child processes that cannot outlive this process, however it ends.

    Args:
        remove: Folders that the supervisor removes once all processes are gone.
        keep_open: Descriptors that live as long as the supervisor, such as a lock on a folder in use.
    """

    def __init__(self, remove: Sequence[Path] = (), keep_open: Sequence[int] = ()) -> None:
        self._lock = threading.Lock()
        self._commands: dict[str, Command] = {}
        # Isolated and without site-packages: it must not depend on anything, and start fast.
        # A session of its own: a Ctrl-C on the terminal is for the parent, which then ends it in order.
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(_SUPERVISOR), str(os.getpid()), *map(str, remove)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            pass_fds=tuple(keep_open),
        )

    @property
    def pid(self) -> int:
        """The supervisor's own process."""
        return self._process.pid

    def start(self, command: Command) -> int:
        """Starts a program and returns its process id.

        Raises:
            ProgramError: It could not be executed.
        """
        before = self._commands.get(command.name)
        self._commands[command.name] = command
        try:
            answer = self._ask(
                op="start",
                name=command.name,
                argv=list(command.argv),
                env={**(os.environ if command.inherits else {}), **command.env},
                cwd=str(command.folder),
                log=str(command.log),
                grace_s=command.grace_s,
            )
        except DevClusterError as error:
            if before is None:
                del self._commands[command.name]
            else:
                self._commands[command.name] = before
            raise command.failure(f"could not be started: {error}") from error
        pid = answer["pid"]
        assert isinstance(pid, int)
        return pid

    def stop(self, name: str) -> None:
        """Ends one program and waits until it is gone.

        Raises:
            DevClusterError: No program of this name was ever started.
        """
        self._ask(op="stop", name=name)

    def signal(self, name: str, number: Signals) -> None:
        """Sends a signal to a program and all it started, and does not wait; one that has ended gets none.

        Raises:
            DevClusterError: No program of this name is known.
        """
        self._ask(op="signal", name=name, number=int(number))

    def forget(self, name: str) -> None:
        """Takes a program that has ended off the list; what it started and left behind is killed.

        Raises:
            DevClusterError: It is running, or no program of this name is known.
        """
        self._ask(op="forget", name=name)
        self._commands.pop(name, None)

    def stop_all(self) -> None:
        """Ends all programs, and forgets them; the supervisor stays for a new start."""
        for name in self._status():
            self.stop(name)

    def pids(self) -> dict[str, int]:
        """Process ids of the programs that are running, by name."""
        return {name: pid for name, (pid, code) in self._status().items() if code is None}

    def exit_code(self, name: str) -> int | None:
        """The exit code of a program, below zero for a signal; None while it runs."""
        return self._status()[name][1]

    def exit_codes(self) -> dict[str, int | None]:
        """The exit codes of all programs by name, below zero for a signal; None for those that run."""
        return {name: code for name, (_, code) in self._status().items()}

    def check(self) -> None:
        """Raises ProgramError, with the tail of its log, for a program that has ended."""
        for name, (_, code) in self._status().items():
            if code is not None and not self._commands[name].may_end:
                raise self._commands[name].failure(describe_exit(code))

    def close(self) -> None:
        """Ends all programs, waits until they are gone and the folders removed, and ends the supervisor."""
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with contextlib.suppress(OSError):
                pipe.close()
        try:
            self._process.wait(_END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()  # the kernel then kills the programs
            self._process.wait()

    def _status(self) -> dict[str, tuple[int, int | None]]:
        programs = self._ask(op="status")["programs"]
        assert isinstance(programs, dict)
        return {name: (each["pid"], each["code"]) for name, each in programs.items()}

    def _ask(self, **request: object) -> dict[str, object]:
        requests, answers = self._process.stdin, self._process.stdout
        assert requests is not None
        assert answers is not None
        with self._lock:
            try:
                requests.write(json.dumps(request).encode() + b"\n")
                requests.flush()
                line = answers.readline()
            except (OSError, ValueError) as error:
                raise self._lost() from error
        if not line:
            raise self._lost()
        answer: dict[str, object] = json.loads(line)
        if "error" in answer:
            raise DevClusterError(str(answer["error"]))
        return answer

    def _lost(self) -> DevClusterError:
        return DevClusterError(
            f"the supervisor (process {self._process.pid}) is gone, and the control plane with it; start a new one"
        )


def describe_exit(code: int) -> str:
    """How a program ended, for people."""
    if code < 0:
        return f"was killed by signal {-code}; if nobody did it by hand, look for memory shortage in the kernel's log"
    return f"ended with exit status {code}"
