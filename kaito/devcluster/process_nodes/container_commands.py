"""ContainerCommands: runs commands in a container's place: those of exec probes and of hooks."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import count
from signal import Signals

from kaito.devcluster.errors import ProgramError
from kaito.devcluster.process_nodes.last_words import MAX_LOG_BYTES, tail
from kaito.devcluster.process_nodes.programs import Programs
from kaito.devcluster.process_nodes.sandbox import Execution, NotStarted, Sandbox
from kaito.kube.pod_v1 import Container

_NUMBERS = count(1)


@dataclass(frozen=True, slots=True)
class CommandResult:
    """What came of a command.

    Attributes:
        code: its exit code, below zero for a signal; None: it was not started, or took too long.
        output: the end of what it said, or why there is no exit code.
    """

    code: int | None
    output: str

    @property
    def fault(self) -> str | None:
        """What went wrong; None for success."""
        return None if self.code == 0 else self.output or f"exit status {self.code}"


class ContainerCommands:
    """Runs commands with the variables and mounts of a container that runs.

    Args:
        container: which.
        sandbox: of its pod.
        programs: starts them.
        execution: what was executed for the container.
    """

    def __init__(self, container: Container, sandbox: Sandbox, programs: Programs, execution: Execution) -> None:
        self._container = container
        self._sandbox = sandbox
        self._programs = programs
        self._execution = execution

    async def run(self, command: Sequence[str], timeout_s: float | None) -> CommandResult:
        """Runs one to its end; it is killed when it takes longer than the given seconds, or this is cancelled."""
        number = next(_NUMBERS)
        log = self._execution.termination_log.with_name(f"command-{number}.log")
        name = f"command {number} of {self._sandbox.address}/{self._container.name}"
        try:
            argv = self._sandbox.command(self._container, command)
            program = await self._programs.start(name, replace(self._execution, argv=argv, log=log), lambda: None)
            try:
                with suppress(TimeoutError):
                    async with asyncio.timeout(timeout_s):
                        return CommandResult(await program.wait(), tail(log, MAX_LOG_BYTES))
                return CommandResult(None, f"command timed out after {timeout_s:g}s: {' '.join(command)}")
            finally:
                await self._programs.signal(program, Signals.SIGKILL)
        except NotStarted as error:
            return CommandResult(None, error.message)
        except ProgramError as error:
            # Without the number, so that events of the same fault are counted, and not each a new one.
            return CommandResult(None, str(error).splitlines()[0].removeprefix(f"{name}: "))
        finally:
            log.unlink(missing_ok=True)
