"""One failover: a leader and a warm standby; the leader goes, and the standby says when it first works."""

from __future__ import annotations

import asyncio
import random
import signal
import sys
import time
from collections.abc import Mapping
from typing import Literal

from benchmarks.opponents import go_program
from benchmarks.processes import child

OURS = "ours"
CONTROLLER_RUNTIME = "controller-runtime"
How = Literal["kill", "stop"]

_TIMEOUT_S = 90.0


async def measure(side: str, how: How, lease_s: float, environment: Mapping[str, str], rng: random.Random) -> float:
    """Seconds from the signal to the leader to the first reconcile of the standby, as the parent hears of it.

    Args:
        side: whose managers.
        how: ``kill``: -9, at any moment between two renewals; ``stop``: SIGTERM, while nothing is worked on.
        lease_s: duration of the lease; the deadline is two thirds of it, the period two fifteenths, as by default.
        environment: tells them where the API server is.
        rng: when.

    Raises:
        ChildFailed: one did not get so far.
    """
    argv = _command(side, lease_s)
    async with child(f"{side} leader", argv, environment) as leader:
        await leader.expect("warm", _TIMEOUT_S)
        await leader.expect("reconciled", _TIMEOUT_S)
        async with child(f"{side} standby", argv, environment) as standby:
            await standby.expect("warm", _TIMEOUT_S)
            await asyncio.sleep(lease_s * rng.uniform(0.5, 1.0))
            began = time.perf_counter()
            leader.send(signal.SIGKILL if how == "kill" else signal.SIGTERM)
            await standby.expect("reconciled", _TIMEOUT_S)
            seconds = time.perf_counter() - began
            await leader.ended()
            return seconds


def _command(side: str, lease_s: float) -> list[str]:
    if side == OURS:
        return [sys.executable, "-m", "benchmarks.failover.ours", "--lease-s", str(lease_s)]
    return [str(go_program("controllerruntime")), "failover", "--lease", f"{lease_s}s"]
