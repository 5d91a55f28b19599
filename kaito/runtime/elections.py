"""Elections: what a manager asks of leader election; without one, controllers work as soon as they can."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from kaito.kube.resource import Resource
    from kaito.runtime.controller import Controller

BeforeWork = Callable[[], Awaitable[None]]
"""Returns once a controller may work. Awaited in the controller's own task, whose context its workers inherit."""


class Elections(Protocol):
    """Decides which controllers may work here. A manager calls all of this from its event loop."""

    def gate(self, controller: Controller[Resource]) -> BeforeWork | None:
        """What a controller awaits between being warm and working; None: nothing. Called in its task."""
        ...

    async def run(self) -> None:
        """Runs until cancelled, from before the first controller is started until after the last has ended.

        Raising ends the manager without grace, with that very error.
        """
        ...

    async def release(self, controller: str) -> None:
        """Gives the leadership of a controller up, if it has it: its workers have ended. Bounded by the manager."""
        ...

    def fault(self) -> str | None:
        """Why the manager is not ready because of it, in a sentence. To stand by is no fault."""
        ...
