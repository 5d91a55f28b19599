"""Service: what a manager runs beside its controllers, and when it starts and stops it."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from enum import IntEnum
from typing import Protocol

from kaito.runtime.access import Access


class Stage(IntEnum):
    """When a service starts, relative to the others; stops go the other way round.

    Servers for probes and metrics stand before all of them, controllers after all of them.
    """

    WEBHOOKS = 1
    """Before the caches: the API server may need our conversion to answer the first list."""
    CACHES = 2
    OTHERS = 3


class Runnable(Protocol):
    """Something that runs beside the controllers, until cancelled."""

    async def run(self) -> None:
        """Runs; raising stops the manager."""
        ...


class Service(abc.ABC):
    """A `Runnable` that says more of itself. Each part has a default; only `run` must be written.

    Attributes:
        stage: when it starts and stops.
    """

    stage: Stage = Stage.OTHERS

    @property
    def name(self) -> str:
        """In readiness checks, logs and errors; unique in a manager."""
        return type(self).__name__

    @property
    def needs(self) -> Sequence[Access]:
        """The permissions that it needs, for RBAC and the check at the start."""
        return ()

    def fault(self) -> str | None:
        """Why the manager is not ready because of it, in a sentence; None: it is. Asked by /readyz; must not block."""
        return None

    async def started(self) -> None:  # noqa: B027 - a default, not a demand
        """Returns once the next stage may start. Called after `run` has begun; bounded by the manager."""

    @abc.abstractmethod
    async def run(self) -> None:
        """Runs until cancelled, and cleans up then. Raising stops the manager; returning means that it is done."""
