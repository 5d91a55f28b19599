"""A manager as a process of its own, whose reconciler does to ConfigMaps what their data tells it, good or bad."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import cast

from kaito.client import load_config
from kaito.informers import InformerOptions
from kaito.kube.core_v1 import ConfigMap
from kaito.runtime import DONE, Controller, Manager, Result, run_until_signal
from kaito.runtime.logs import configure

BLOCKED_AFTER_S = 1.0
STUCK_S = 1.0
GRACE_S = 2.0


class Troubled:
    """Does what ``data.do`` says; what is well behaved gets ``data.done``."""

    def __init__(self, manager: Manager) -> None:
        self._client = manager.client

    async def reconcile(self, obj: ConfigMap) -> Result:
        """See `Reconciler.reconcile`."""
        match obj.data.get("do"):
            case "raise":
                raise ZeroDivisionError("on purpose")
            case "hang":
                await asyncio.get_running_loop().create_future()
            case "nonsense":
                return cast("Result", "nonsense")
            case "block" if "done" not in obj.data:
                self.block(float(obj.data["seconds"]))
            case None:
                return DONE
        if "done" not in obj.data:
            await self._client.patch(ConfigMap, obj.key, {"data": {"done": "yes"}})
        return DONE

    def block(self, seconds: float) -> None:
        """Holds the event loop."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(0.01)


async def main(kubeconfig: str, namespace: str) -> None:
    """Runs until a signal."""
    manager = Manager(
        "troubled",
        load_config(Path(kubeconfig)),
        metrics="127.0.0.1:0",
        health="127.0.0.1:0",
        cache=InformerOptions(namespaces=[namespace]),
        blocked_after_s=BLOCKED_AFTER_S,
        stuck_s=STUCK_S,
        grace_s=GRACE_S,
        stop_timeout_s=2.0,
        debug=True,
    )
    manager.add(Controller(ConfigMap, Troubled(manager), concurrency=4))
    await run_until_signal(manager)


if __name__ == "__main__":
    configure("json", "info")
    asyncio.run(main(*sys.argv[1:]))
