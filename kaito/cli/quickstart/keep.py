"""What --keep leaves running: its addresses, and every turn of a condition until Ctrl-C."""

from __future__ import annotations

import asyncio
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from kaito.api import keys
from kaito.cli.quickstart.act import Act
from kaito.cli.quickstart.chat import curl
from kaito.cli.quickstart.screen import Screen
from kaito.client.errors import KubeError
from kaito.devcluster.controlplane import ControlPlane
from kaito.runtime.manager import Manager

_LOOK_AGAIN_S = 0.5


async def keep(screen: Screen, cluster: ControlPlane, manager: Manager, acts: Sequence[Act], *, serves: bool) -> None:
    """Prints the addresses, and tells what happens until it is cancelled, which it takes for the end of its task.

    Raises:
        QuickstartError: a program of the cluster has ended, and cannot be started anew.
    """
    for act in acts if serves else ():
        address = await act.address()
        screen.plain(f"kept: {act.workspace.name} answers at {address}\n      {curl(address)}")
    _addresses(screen, cluster, manager, acts, serves=serves)
    try:
        await _tell(screen, acts)
    except asyncio.CancelledError:
        # Ctrl-C, which is how this ends well: cleaning up goes on.
        if (task := asyncio.current_task()) is not None:
            task.uncancel()


def _addresses(screen: Screen, cluster: ControlPlane, manager: Manager, acts: Sequence[Act], *, serves: bool) -> None:
    bound = manager.addresses
    name = acts[0].workspace.name
    kaito = _kaito()
    lines = [
        f"kept: export KUBECONFIG={cluster.kubeconfig}",
        *([f"      {kaito} chat {name}"] if serves else []),
        f"      {kaito} explain workspace {name}",
        f"      metrics of the operator at http://127.0.0.1:{bound['metrics'].port}/metrics, "
        f"health at http://127.0.0.1:{bound['health'].port}/readyz?verbose",
        f"      logs in {cluster.data_dir}",
        "      Ctrl-C cleans up",
    ]
    screen.plain("\n".join(lines))


def _kaito() -> str:
    """What to type for it in another terminal: nobody has the folder of a virtual environment in their PATH."""
    if shutil.which("kaito"):
        return "kaito"
    beside = Path(sys.executable).with_name("kaito")
    return str(beside) if beside.exists() else f"{sys.executable} -m kaito"


async def _tell(screen: Screen, acts: Sequence[Act]) -> None:
    """A line for each turn of a condition, and for what a pod waits for."""
    told: dict[tuple[str, str], str] = {}
    while True:
        for act in acts:
            act.check()
            news = {("pod", act.workspace.name): await act.waits_for(), **await _conditions(act)}
            for key, text in news.items():
                if text is None:
                    continue
                if told.get(key, text) != text and text:
                    screen.plain(f"{time.strftime('%H:%M:%S')}  {act.workspace.name}  {text}")
                told[key] = text
        await asyncio.sleep(_LOOK_AGAIN_S)


async def _conditions(act: Act) -> dict[tuple[str, str], str]:
    try:
        found = await act.found()
    except KubeError:
        return {}
    main = (keys.RESOURCE_READY, keys.INFERENCE_READY)
    conditions = [each for each in found.status.conditions if each.type in main] if found is not None else []
    return {(each.type, act.workspace.name): f"{each.type} {each.status}: {each.message}" for each in conditions}
