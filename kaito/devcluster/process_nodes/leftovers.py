"""What an agent finds of the one before it, in the same directory, and what it leaves to none after it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import time
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from kaito.client import Client, KubeError
from kaito.devcluster.process_nodes import volumes
from kaito.devcluster.process_nodes.pod_sandbox import remove_orphans
from kaito.devcluster.process_nodes.programs import Programs
from kaito.devcluster.process_nodes.usage import all_pids
from kaito.devcluster.supervisor import program_of
from kaito.kube.core_v1 import Pod
from kaito.locks import FileLock
from kaito.runtime.service import Service

log = logging.getLogger(__name__)

_POLL_INTERVAL_S: Final = 0.1
_ORPHANS_S: Final = 5.0
_RETRY_S: Final = 2.0


@asynccontextmanager
async def programs_of(directory: Path) -> AsyncIterator[Programs]:
    """The programs of the agent of a directory, once those of the one before have ended: they may hold addresses."""
    memory = volumes.memory_folder(directory)
    lock = FileLock(directory / "lock", "runs the pods of process nodes")
    await lock.acquire(lambda owner: log.info("waiting for the programs of the agent before", extra={"holder": owner}))
    try:
        await asyncio.to_thread(_clear, directory, memory)
        async with Programs([memory], [lock.fileno()]) as programs:
            yield programs
    finally:
        lock.release()


def _clear(directory: Path, memory: Path) -> None:
    pods = {path.name for path in (directory / "pods").glob("*")}
    deadline_s = time.monotonic() + _ORPHANS_S
    while (orphans := _orphans(pods)) and time.monotonic() < deadline_s:
        log.warning("killing what is left of pods whose supervisor was killed", extra={"processes": orphans})
        for pid in orphans:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(_POLL_INTERVAL_S)
    try:
        volumes.remove(memory)
    except OSError as error:
        log.warning("memory of former pods cannot be given back", extra={"error": str(error)})


def _orphans(pods: Collection[str]) -> list[int]:
    """The processes of these pods; where there is no /proc, they are not found."""
    return [pid for pid in all_pids() if program_of(pid).partition("/")[0] in pods] if pods else []


class Leftovers(Service):
    """Removes the folders of pods that went while no agent ran.

    Args:
        client: reads from the API server.
        directory: the agent's.
    """

    def __init__(self, client: Client, directory: Path) -> None:
        self._client = client
        self._directory = directory

    async def run(self) -> None:
        """Does so once."""
        while True:
            try:
                removed = await remove_orphans(self._directory, self._uids)
            except (KubeError, OSError) as error:
                log.warning("folders of former pods are not removed yet; trying again", extra={"error": str(error)})
                await asyncio.sleep(_RETRY_S)
            else:
                break
        if removed:
            log.info("removed the folders of former pods", extra={"pods": removed})

    async def _uids(self) -> set[str]:
        return {pod.metadata.uid for pod in await self._client.list(Pod)}
