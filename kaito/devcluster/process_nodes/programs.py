"""Programs: the processes of all pods, owned by a supervisor, so that none outlives the agent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from signal import Signals
from typing import Final

from kaito.devcluster.errors import DevClusterError
from kaito.devcluster.process_nodes.sandbox import Execution
from kaito.devcluster.processes import Command, Supervisor

POLL_INTERVAL_S: Final = 0.1
_LAST_GRACE_S: Final = 5.0
"""What programs get when the agent ends; the supervisor's own end is bounded too."""


class Program:
    """One process and all it started.

    Attributes:
        name: unique among all that run.
        code: its exit code, below zero for a signal; None while it runs.
    """

    def __init__(self, name: str, on_end: Callable[[], None]) -> None:
        self.name = name
        self.code: int | None = None
        self._on_end = on_end
        self._ended = asyncio.Event()

    async def wait(self) -> int:
        """Waits for its end and returns its exit code."""
        await self._ended.wait()
        assert self.code is not None
        return self.code

    def end(self, code: int) -> None:
        """It has ended."""
        self.code = code
        self._ended.set()
        self._on_end()


class Programs:
    """Starts, signals and watches programs. An async context; at its end everything is ended.

    Args:
        remove: folders that are removed once all programs are gone, also when this process is killed.
        keep_open: descriptors that live as long as any program, such as a lock on a folder in use.
    """

    def __init__(self, remove: Sequence[Path] = (), keep_open: Sequence[int] = ()) -> None:
        self._remove = remove
        self._keep_open = keep_open
        self._programs: dict[str, Program] = {}
        self._some = asyncio.Event()
        self._supervisor: Supervisor | None = None

    async def __aenter__(self) -> Programs:
        self._supervisor = await asyncio.to_thread(Supervisor, self._remove, self._keep_open)
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self._owner.close)

    async def start(
        self, name: str, execution: Execution, on_end: Callable[[], None], *, grace_s: float = _LAST_GRACE_S
    ) -> Program:
        """Starts a program; `on_end` is called in the loop once it has ended.

        Raises:
            ProgramError: it cannot be executed.
        """
        command = Command(
            name,
            execution.argv,
            execution.log,
            execution.folder,
            execution.env,
            min(grace_s, _LAST_GRACE_S),
            inherits=False,
        )
        program = Program(name, on_end)
        self._programs[name] = program
        starting = asyncio.ensure_future(asyncio.to_thread(self._owner.start, command))
        try:
            await asyncio.shield(starting)
        except asyncio.CancelledError:
            # It starts all the same, and nobody would end it.
            await asyncio.wait([starting])
            if starting.exception() is None:
                self._some.set()
                await self.signal(program, Signals.SIGKILL)
            else:
                del self._programs[name]
            raise
        except DevClusterError:
            del self._programs[name]
            raise
        self._some.set()
        return program

    async def signal(self, program: Program, number: Signals) -> None:
        """Sends a signal to the program and all it started; one that has ended gets none."""
        if program.code is None:
            with suppress(DevClusterError):  # it ended, and was forgotten, just now
                await asyncio.to_thread(self._owner.signal, program.name, number)

    async def leaders(self) -> dict[str, int]:
        """The first processes of the programs that run, by the programs' names."""
        return await asyncio.to_thread(self._owner.pids)

    @property
    def supervisor(self) -> int:
        """The process that owns all others."""
        return self._owner.pid

    async def run(self) -> None:
        """Watches for ends, until cancelled.

        Raises:
            DevClusterError: the supervisor is gone, and all programs with it.
        """
        while True:
            await self._some.wait()
            codes = await asyncio.to_thread(self._owner.exit_codes)
            for name, code in codes.items():
                if code is not None and name in self._programs:
                    await asyncio.to_thread(self._owner.forget, name)
                    self._programs.pop(name).end(code)
            if self._programs:
                await asyncio.sleep(POLL_INTERVAL_S)
            else:
                self._some.clear()

    @property
    def _owner(self) -> Supervisor:
        assert self._supervisor is not None, "Programs is an async context"
        return self._supervisor
