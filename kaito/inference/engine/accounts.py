"""What is in the engine and how fast it goes, counted in the event loop; who is let in."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from kaito.inference.engine.ticket import Ticket
from kaito.inference.engine.tokens import TokenRequest, Update
from kaito.inference.errors import BadRequest, Overloaded
from kaito.inference.observer import Ended, Load, Observer
from kaito.inference.options import Limits


@dataclass(frozen=True, slots=True)
class EngineStats:
    """A snapshot.

    Attributes:
        running: sequences that have a slot.
        waiting: requests without one.
        waiting_tokens: their prompt tokens together.
        kv_usage: used part of the key-value cache, 0 to 1.
        slots: sequences that can run together.
        tokens: generated since the start.
        ended: requests that ended since the start.
    """

    running: int
    waiting: int
    waiting_tokens: int
    kv_usage: float
    slots: int
    tokens: int
    ended: int


class Accounts:
    """Counts requests from queue to end, and tells an observer.

    Attributes:
        positions: tokens that the key-value cache may grow to hold.
    """

    def __init__(self, limits: Limits, observer: Observer, slots: int, positions: int) -> None:
        self._limits, self._observer = limits, observer
        self._slots, self.positions, self._used = slots, positions, 0
        self._waiting: set[Ticket] = set()
        self._running: set[Ticket] = set()
        self._waiting_tokens = self._tokens = self._ended = 0
        self._ends: deque[float] = deque(maxlen=32)

    @property
    def open(self) -> set[Ticket]:
        """All that have not ended."""
        return self._waiting | self._running

    def stats(self) -> EngineStats:
        """A snapshot."""
        return EngineStats(
            running=len(self._running),
            waiting=len(self._waiting),
            waiting_tokens=self._waiting_tokens,
            kv_usage=self._used / max(self.positions, 1),
            slots=self._slots,
            tokens=self._tokens,
            ended=self._ended,
        )

    def check_room(self, requests: Sequence[TokenRequest]) -> None:
        """Refuses what would wait beyond the limits. What gets a slot at once does not wait.

        Raises:
            Overloaded: Some of them do not fit; none is to be queued.
            BadRequest: They would not fit if nothing else was there.
        """
        most = self._slots + self._limits.max_waiting
        if len(requests) > most:
            raise BadRequest(
                f"{len(requests)} answers are asked for in one request, n for each prompt; this server takes at most "
                f"{most}: ask for fewer at once",
                param="n",
            )
        waiting = len(self._waiting) + len(requests)
        waiting_beyond_slots = waiting - max(0, self._slots - len(self._running))
        if waiting_beyond_slots <= 0:
            return
        tokens = self._waiting_tokens + sum(len(request.prompt) for request in requests)
        limits = self._limits
        if waiting_beyond_slots <= limits.max_waiting and tokens <= limits.max_waiting_tokens:
            return
        retry_after_s = self._retry_after_s()
        raise Overloaded(
            f"{len(self._waiting)} requests with {self._waiting_tokens} prompt tokens are waiting and {len(requests)} "
            f"more do not fit: at most {limits.max_waiting} requests with {limits.max_waiting_tokens} prompt tokens "
            f"may wait; try again in {retry_after_s} s",
            retry_after_s=retry_after_s,
        )

    def _retry_after_s(self) -> int:
        # The time in which half of what waits ends, at the pace of the last ends.
        if len(self._ends) < 2:
            return 1
        pace = (time.monotonic() - self._ends[0]) / len(self._ends)
        return max(1, min(60, math.ceil(pace * (len(self._waiting) + 1) / 2)))

    def queued(self, ticket: Ticket) -> None:
        """A request came."""
        self._waiting.add(ticket)
        self._waiting_tokens += len(ticket.request.prompt)

    def started(self, ticket: Ticket) -> None:
        """It got a slot."""
        if ticket not in self._waiting:
            return
        self._leave_queue(ticket)
        self._running.add(ticket)
        ticket.started = True
        self._observer.started(time.monotonic() - ticket.arrived)

    def _leave_queue(self, ticket: Ticket) -> None:
        self._waiting.discard(ticket)
        self._waiting_tokens -= len(ticket.request.prompt)

    def came(self, ticket: Ticket, count: int, at: float) -> None:
        """Some new tokens, at a time."""
        for _ in range(count):
            if ticket.new_tokens:
                self._observer.next_token(at - ticket.last_token_at)
            else:
                self._observer.first_token(at - ticket.arrived)
            ticket.new_tokens += 1
            ticket.last_token_at = at
        self._tokens += count

    def finished(self, ticket: Ticket, update: Update) -> None:
        """It ended."""
        if ticket in self._waiting:
            self._leave_queue(ticket)
        self._running.discard(ticket)
        now = time.monotonic()
        self._ended += 1
        self._ends.append(now)
        reason: Ended = "error" if update.error else update.finish_reason or "abort"
        self._observer.ended(reason, len(ticket.request.prompt), ticket.new_tokens, now - ticket.arrived)

    def step(self, prefilled: int, positions: int) -> None:
        """The engine made a step."""
        self._used = positions
        if prefilled:
            self._observer.prefilled(prefilled)

    def tell_load(self) -> None:
        """Tells the observer what is in the engine now."""
        stats = self.stats()
        self._observer.load(
            Load(
                stats.running,
                stats.waiting,
                stats.waiting_tokens,
                stats.kv_usage,
                _adapters(self._running),
                _adapters(self._waiting),
            )
        )


def _adapters(tickets: set[Ticket]) -> Collection[str]:
    return {name for ticket in tickets for name in ticket.request.adapters} or ()
