"""Leftover claims: what an operator that makes no nodes, and has no cloud, must not start beside."""

from __future__ import annotations

import asyncio
import logging

from kaito.client.client import Client
from kaito.client.errors import KubeError
from kaito.controllers.claim_registry import ClaimRegistry
from kaito.controllers.claims import is_managed, kind_of
from kaito.controllers.held import HeldKeys
from kaito.runtime.reconciler import KeyReconciler

log = logging.getLogger(__name__)

RETRY_S = 2.0
NAMED = 3
"""How many claims the message names."""


class LeftoverClaims(Exception):
    """Claims are there that nobody would terminate: their nodes would be paid for, for ever."""


class ClaimGuard:
    """Looks once, before anything is reconciled, whether there are claims of KAITO's; refuses to go on if so.

    Args:
        client: reads.
    """

    def __init__(self, client: Client) -> None:
        self._registry = ClaimRegistry(client)
        self._passed = asyncio.Event()

    async def run(self) -> None:
        """Returns when there are none; waits for an API server that does not answer.

        Raises:
            LeftoverClaims: there are some; says how many, which, and what to do.
        """
        while True:
            try:
                found = await self._registry.labelled("", live=True)
            except KubeError as error:
                log.warning("cannot look for claims yet", extra={"error": str(error), "retry_in_s": RETRY_S})
                await asyncio.sleep(RETRY_S)
                continue
            ours = [claim for claim in found.claims if is_managed(claim)]
            if ours:
                raise LeftoverClaims(_refusal([f"{kind_of(each).name}/{each.metadata.name}" for each in ours]))
            self._passed.set()
            return

    def holding(self, reconciler: KeyReconciler) -> KeyReconciler:
        """The reconciler, which does nothing before it is known that there are none."""
        return HeldKeys(reconciler, self._passed)


def _refusal(names: list[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return (
        f"--node-provisioner byo without --cloud: {len(names)} of KAITO's claims are there "
        f"({', '.join(names[:NAMED])}{more}), whose nodes nobody would terminate: give --cloud as before, or delete "
        f"their Workspaces before the operator is started so"
    )
