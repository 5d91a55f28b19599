"""Programs of pods: what is started is ended, also when whoever started it does not wait, or its owner is killed."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest_asyncio

from kaito.devcluster.process_nodes.container_commands import ContainerCommands
from kaito.devcluster.process_nodes.leftovers import programs_of
from kaito.devcluster.process_nodes.pod_sandbox import PodSandbox
from kaito.devcluster.process_nodes.programs import Programs
from kaito.kube.core_v1 import Container
from kaito.testing import eventually

Make = Callable[[dict[str, Any]], PodSandbox]
CONTAINER = Container.model_validate({"name": "main", "image": "tools:1", "command": ["true"]})


@pytest_asyncio.fixture
async def programs() -> AsyncIterator[Programs]:
    """Watched for ends, as in an agent."""
    async with Programs() as made:
        watching = asyncio.create_task(made.run())
        yield made
        watching.cancel()
        await asyncio.wait([watching])


async def commands(sandbox: Make, programs: Programs) -> tuple[ContainerCommands, Path]:
    pod = sandbox({})
    await pod.prepare()
    execution = await pod.execution(CONTAINER, 0)
    return ContainerCommands(CONTAINER, pod, programs, execution), execution.termination_log.parent


async def test_commands_that_cannot_be_started_leave_nothing_and_say_the_same_each_time(
    sandbox: Make, programs: Programs
) -> None:
    made, folder = await commands(sandbox, programs)
    results = [await made.run(["/absent"], 1.0) for _ in range(2)]
    assert results[0] == results[1]
    assert results[0].output.startswith("could not be started: FileNotFoundError")
    assert [*folder.glob("command-*")] == []


async def test_a_command_that_is_called_off_while_it_starts_does_not_run_on(sandbox: Make, programs: Programs) -> None:
    made, folder = await commands(sandbox, programs)
    running = asyncio.create_task(made.run(["sleep", "60"], None))
    await asyncio.sleep(0)  # now its start is under way, in a thread
    running.cancel()
    await asyncio.wait([running])
    assert running.cancelled()

    async def none_runs() -> bool:
        return not await programs.leaders()

    await eventually(none_runs)
    assert [*folder.glob("command-*")] == []


async def test_what_pods_ran_is_killed_by_the_next_agent_if_their_supervisor_was_killed(tmp_path: Path) -> None:
    (tmp_path / "pods" / "5a0ad0a2").mkdir(parents=True)
    left, other = [
        await asyncio.create_subprocess_exec("sleep", "60", env={**os.environ, "KAITO_PROGRAM": f"{uid}/main/0"})
        for uid in ("5a0ad0a2", "another")
    ]
    try:
        async with programs_of(tmp_path), asyncio.timeout(5):
            assert await left.wait() == -9
            assert other.returncode is None
    finally:
        for each in (left, other):
            with suppress(ProcessLookupError):
                each.kill()
            await each.wait()
