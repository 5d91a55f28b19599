"""What an agent finds of the one before it, in the same directory, and what it leaves to none after it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from kaito.client import Client, KubeError
from kaito.devcluster.process_nodes import volumes
from kaito.devcluster.process_nodes.pod_sandbox import remove_orphans
from kaito.devcluster.process_nodes.programs import Programs
from kaito.kube.core_v1 import Pod
from kaito.locks import FileLock
from kaito.runtime.service import Service

log = logging.getLogger(__name__)

_POLL_INTERVAL_S: Final = 0.1
_RETRY_S: Final = 2.0


@asynccontextmanager
async def programs_of(directory: Path) -> AsyncIterator[Programs]:
    """The programs of the agent of a directory, once those of the one before have ended: they may hold addresses."""
    memory = volumes.memory_folder(directory)
    lock = FileLock(directory / "lock", "runs the pods of process nodes")
    if not lock.try_acquire():
        log.info("waiting for the programs of the agent before", extra={"holder": str(lock.owner())})
        while not lock.try_acquire():  # noqa: ASYNC110 - of a process that ends, the kernel tells nobody here
            await asyncio.sleep(_POLL_INTERVAL_S)
    try:
        await asyncio.to_thread(volumes.remove, memory)
        async with Programs([memory], [lock.fileno()]) as programs:
            yield programs
    finally:
        lock.release()


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
