"""The operator of the quickstart: `kaito manager`, in this process, so that nothing of it can outlive us."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path

from kaito.cli.quickstart.errors import QuickstartError
from kaito.client.config import load_config
from kaito.controllers.operator import OperatorOptions, add_operator
from kaito.controllers.webhooks import NAME, WebhookOptions
from kaito.devcluster.controlplane import ControlPlane
from kaito.kube.object_key import ObjectKey
from kaito.runtime.logs import ConsoleFormatter
from kaito.runtime.manager import Manager
from kaito.runtime.webhook import AtUrl

SYNC_TIMEOUT_S = 60.0


@asynccontextmanager
async def operator(cluster: ControlPlane, url: str, options: OperatorOptions) -> AsyncIterator[Manager]:
    """Runs the operator, ready when it is entered.

    Args:
        cluster: that it works in.
        url: where its webhook listens.
        options: how it works, but for the webhook.

    Raises:
        QuickstartError: it ended at once, or is not ready in time.
    """
    config = await asyncio.to_thread(load_config, cluster.kubeconfig)  # what it imports takes time
    manager = Manager("kaito", config, metrics="127.0.0.1:0", health="127.0.0.1:0")
    serving = WebhookOptions(AtUrl(url), ObjectKey(NAME, "default"), address=url.removeprefix("https://"))
    add_operator(manager, replace(options, webhooks=serving))
    running = asyncio.create_task(manager.run(), name="manager")
    synced = asyncio.create_task(_ready(manager), name="caches synced, webhook in place")
    try:
        await asyncio.wait({running, synced}, timeout=SYNC_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            raise QuickstartError(f"the operator ended at once: {running.exception()}")
        if not synced.done():
            raise QuickstartError(f"the operator was not ready after {SYNC_TIMEOUT_S:.0f} s: {_faults(manager)}")
        yield manager
    finally:
        synced.cancel()
        manager.stop()
        await asyncio.wait({running, synced})


@contextmanager
def logging_to(path: Path) -> Iterator[None]:
    """Sends the log to a file meanwhile: the console is for the steps."""
    root, level = logging.getLogger(), logging.getLogger().level
    handler = logging.FileHandler(path)
    handler.setFormatter(ConsoleFormatter())
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
        handler.close()


async def _ready(manager: Manager) -> None:
    """Waits until caches are synced, and the API server asks the webhook."""
    await manager.cache.wait_synced()
    while True:
        if not _faults(manager):
            return
        await asyncio.sleep(0.05)  # nothing tells of it


def _faults(manager: Manager) -> str:
    return "; ".join(fault for service in manager.services if (fault := service.fault()))
