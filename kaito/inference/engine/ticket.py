"""A request in the engine, as the event loop sees it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from kaito.inference.engine.tokens import TokenRequest, Update
from kaito.inference.requests import FinishReason

Sink = Callable[[Update], None]


class _Cancels(Protocol):
    def cancel(self, ticket: Ticket) -> None: ...


@dataclass(slots=True, eq=False)
class Ticket:
    """A request in the engine.

    Attributes:
        request: what was asked for.
        sink: gets its updates, in the event loop.
        arrived: when, on the monotonic clock.
        cancelled: why it is to end early; none: it is not.
        started: whether it has, or had, a slot.
        ended: whether its last update was given to the sink.
        new_tokens: given to the sink so far.
        last_token_at: when the last of them came.
    """

    request: TokenRequest
    sink: Sink
    engine: _Cancels = field(repr=False)
    arrived: float = field(default_factory=time.monotonic)
    cancelled: FinishReason | None = None
    started: bool = False
    ended: bool = False
    new_tokens: int = 0
    last_token_at: float = 0.0
    timer: asyncio.TimerHandle | None = field(default=None, repr=False)

    def cancel(self, reason: FinishReason = "abort") -> None:
        """Ends it within one step; does nothing if it has ended.

        Args:
            reason: finish reason of its last update.
        """
        if self.cancelled is None and not self.ended:
            self.cancelled = reason
            self.engine.cancel(self)
