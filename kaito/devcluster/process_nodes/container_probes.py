"""ContainerProbes: the probes of one run of a container, each a task."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import count
from signal import Signals

from kaito.devcluster.errors import ProgramError
from kaito.devcluster.process_nodes.last_words import MAX_LOG_BYTES, tail
from kaito.devcluster.process_nodes.probes import Listener, ProbeKind, Prober, probes_of, watch
from kaito.devcluster.process_nodes.programs import Programs
from kaito.devcluster.process_nodes.sandbox import Execution, NotStarted, Sandbox
from kaito.kube.pod_v1 import Container

_NUMBERS = count(1)


class ContainerProbes:
    """Asks a container that was just started, until cancelled.

    Args:
        container: which.
        sandbox: of its pod.
        programs: runs probes that are commands.
        execution: what was executed for the container.
        found: is told what a probe found: it holds from now on, or no more.
        unhealthy: is told each failure.
    """

    def __init__(
        self,
        container: Container,
        sandbox: Sandbox,
        programs: Programs,
        execution: Execution,
        found: Callable[[ProbeKind, bool], None],
        unhealthy: Callable[[ProbeKind, str], None],
    ) -> None:
        self._container = container
        self._sandbox = sandbox
        self._programs = programs
        self._execution = execution
        self._found = found
        self._started = asyncio.Event()
        probes = probes_of(container)
        if ProbeKind.STARTUP not in probes:
            self._started.set()
        prober = Prober(container, sandbox.address, self._run_command)
        listener = Listener(self._started, self._passed, lambda kind: found(kind, False), unhealthy)
        self._tasks = [
            asyncio.create_task(watch(kind, probe, prober, listener), name=f"{kind} probe of {container.name}")
            for kind, probe in probes.items()
        ]

    def cancel(self) -> None:
        """Asks no more."""
        for task in self._tasks:
            task.cancel()

    async def close(self) -> None:
        """Asks no more, and waits for what is being asked."""
        self.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _passed(self, kind: ProbeKind) -> None:
        self._found(kind, True)
        if kind is ProbeKind.STARTUP:
            self._started.set()

    async def _run_command(self, command: Sequence[str], timeout_s: float) -> str | None:
        try:
            argv = self._sandbox.command(self._container, command)
            execution = replace(self._execution, argv=argv, log=self._execution.log.with_name("probe.log"))
            execution.log.unlink(missing_ok=True)
            name = f"probe {next(_NUMBERS)} of {self._sandbox.address}/{self._container.name}"
            program = await self._programs.start(name, execution, lambda: None)
        except NotStarted as error:
            return error.message
        except ProgramError as error:
            return str(error).splitlines()[0]
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    code = await program.wait()
                    return None if code == 0 else tail(execution.log, MAX_LOG_BYTES) or f"exit status {code}"
            return f"command timed out after {timeout_s:g}s: {' '.join(command)}"
        finally:
            await self._programs.signal(program, Signals.SIGKILL)
