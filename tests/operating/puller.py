"""The init container's program, as a process."""

from __future__ import annotations

import asyncio
import os
import sys


async def start_puller(*arguments: object, **environment: str) -> asyncio.subprocess.Process:
    """Starts `python -m kaito.inference.pull`."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "kaito.inference.pull", *map(str, arguments)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "DOCKER_CONFIG": "/nonexistent", **environment},
    )


async def ended(process: asyncio.subprocess.Process) -> tuple[int, str, list[str]]:
    """Its exit code, standard output and the lines of its log that were not read before."""
    output, log = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode(), log.decode().splitlines()


async def puller(*arguments: object, **environment: str) -> tuple[int, str, list[str]]:
    """Runs it to its end."""
    return await ended(await start_puller(*arguments, **environment))
