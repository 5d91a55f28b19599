"""Following: what a reflector tells, given to a consumer."""

from __future__ import annotations

from collections.abc import Iterator

from kaito.informers import Change
from kaito.informers.list_watch import State
from tests.unit.testing_histories.history import Consumer


class Following:
    """An observer of a reflector."""

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer

    def on_changes(self, changes: tuple[Change, ...]) -> None:
        """See `kaito.informers.reflector.Observer`."""
        for change in changes:
            self._consumer.take(change)

    async def on_replaced(self, changes: Iterator[Change]) -> None:
        """See `kaito.informers.reflector.Observer`."""
        self.on_changes(tuple(changes))

    def on_progress(self) -> None:
        """Not of interest here."""

    def on_state(self, state: State) -> None:
        """Not of interest here."""
