"""Simulation: candidates around one Lease, with clocks of their own, over a network that loses, delays and repeats.

Time is true time, which nobody in it can read. Whatever is drawn, at no moment may two candidates believe.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from kaito.kube.coordination_v1 import Lease
from kaito.kube.object_key import ObjectKey
from kaito.runtime.election.messages import (
    Action,
    Asked,
    Event,
    Failed,
    Found,
    Noticed,
    Phase,
    Refusal,
    Refused,
    Stop,
    Tick,
    Watching,
    Wrote,
)
from kaito.runtime.election.record import Rules, State

KEY = ObjectKey("widgets", "system")
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
REQUEST_TIMEOUT_S = 4.0


class Server:
    """The one Lease, with optimistic locking; tells watchers of each change."""

    def __init__(self, changed: Callable[[Lease, bool], None]) -> None:
        self.lease: Lease | None = None
        self._version = 100
        self._uids = itertools.count()
        self._changed = changed

    def handle(self, action: Action) -> Event:
        if action.asked is Asked.READ:
            return Found(action.number, self.lease)
        assert action.lease is not None
        given = action.lease.metadata.resource_version
        if not given:
            if self.lease is not None:
                return Refused(action.number, Refusal.EXISTS)
            return Wrote(action.number, self._store(action.lease, f"uid-{next(self._uids)}"))
        if self.lease is None:
            return Refused(action.number, Refusal.MISSING)
        if self.lease.metadata.resource_version != given:
            return Refused(action.number, Refusal.CHANGED)
        return Wrote(action.number, self._store(action.lease, self.lease.metadata.uid))

    def delete(self) -> None:
        """An administrator deletes the Lease."""
        if self.lease is not None:
            self._version += 1
            gone, self.lease = self._at(self.lease, self.lease.metadata.uid), None
            self._changed(gone, True)

    def touch(self) -> None:
        """Somebody writes a label."""
        if self.lease is not None:
            self._store(self.lease, self.lease.metadata.uid)

    def _store(self, lease: Lease, uid: str) -> Lease:
        self._version += 1
        self.lease = self._at(lease, uid)
        self._changed(self.lease, False)
        return self.lease

    def _at(self, lease: Lease, uid: str) -> Lease:
        draft = lease.edit()
        draft.metadata.resource_version = str(self._version)
        draft.metadata.uid = uid
        return Lease.model_validate(draft.to_dict())


@dataclass(eq=False)
class Candidate:
    """A process: its rules, what it knows, and its clocks."""

    rules: Rules
    started_at: float
    clock_offset_s: float
    wall_offset: timedelta
    rate: float = 1.0
    state: State = field(default_factory=State)
    paused_until: float = 0.0
    dead: bool = False
    led: bool = False

    def local(self, true_s: float) -> float:
        return self.clock_offset_s + true_s * self.rate

    def true(self, local_s: float) -> float:
        return (local_s - self.clock_offset_s) / self.rate

    def leads(self, true_s: float) -> bool:
        return not self.dead and self.rules.leads(self.state, self.local(true_s))


class Simulation:
    """Runs candidates against a server, event by event, in true time.

    Args:
        seed: of all that is drawn.
        trouble: how likely each kind of trouble is, from 0 to 1.
    """

    def __init__(self, seed: int, *, trouble: float = 0.2, rate_skew: float = 0.0) -> None:
        self.rng = random.Random(seed)
        self.trouble = trouble
        self.rate_skew = rate_skew
        self.now = 0.0
        self.candidates: list[Candidate] = []
        self.server = Server(self._tell)
        self.reigns: list[str] = []
        self.overlaps: list[tuple[float, list[str]]] = []
        self._queue: list[tuple[float, int, Callable[[], object]]] = []
        self._order = itertools.count()
        self._names = itertools.count()

    def join(self, **changes: float) -> Candidate:
        """Another process starts."""
        rng = self.rng
        settings = {"lease_duration_s": 15.0, "renew_deadline_s": 10.0, "retry_period_s": 2.0, **changes}
        made = Candidate(
            Rules(KEY, f"process-{next(self._names)}", **settings),  # type: ignore[arg-type]
            self.now,
            rng.uniform(-1e6, 1e6),
            timedelta(seconds=rng.uniform(-3600, 3600)),
            1 + rng.uniform(-self.rate_skew, self.rate_skew),
        )
        self.candidates.append(made)
        self.at(self.now, lambda: self.tell(made, Watching(True)))
        return made

    def at(self, true_s: float, act: Callable[[], object]) -> None:
        heapq.heappush(self._queue, (true_s, next(self._order), act))

    def run(self, until_s: float) -> None:
        while self._queue and self._queue[0][0] <= until_s:
            self.now, _, act = heapq.heappop(self._queue)
            act()
            self.check()
        self.now = until_s
        self.check()

    def check(self) -> None:
        leading = [one for one in self.candidates if one.leads(self.now)]
        if len(leading) > 1:
            self.overlaps.append((self.now, [one.rules.identity for one in leading]))
        if leading and self.reigns[-1:] != [leading[0].rules.identity]:
            self.reigns.append(leading[0].rules.identity)

    def tell(self, to: Candidate, event: Event) -> None:
        """Delivers an event, or keeps it until its process runs again."""
        if to.dead:
            return
        if self.now < to.paused_until:
            self.at(to.paused_until, lambda: self.tell(to, event))
            return
        wall = BEGIN + timedelta(seconds=self.now) + to.wall_offset
        to.state, action = to.rules.step(to.state, event, to.local(self.now), wall)
        if action is not None:
            self._send(to, action)
        self._wake(to)

    def kill(self, who: Candidate) -> None:
        """kill -9."""
        who.dead = True

    def pause(self, who: Candidate, seconds: float) -> None:
        """SIGSTOP, and SIGCONT later."""
        who.paused_until = max(who.paused_until, self.now + seconds)

    def stop(self, who: Candidate) -> None:
        """Its workers ended, and it gives the Lease back."""
        self.tell(who, Stop())

    def leader(self) -> Candidate | None:
        return next((one for one in self.candidates if one.leads(self.now)), None)

    def ended(self) -> list[Candidate]:
        return [one for one in self.candidates if one.dead or one.state.phase in (Phase.LOST, Phase.RELEASED)]

    def _wake(self, who: Candidate) -> None:
        due = who.rules.wakes_at(who.state)
        if due < 1e18:
            known = who.state
            true_s = max(self.now, who.true(due) + 1e-6)
            # An older timer, whose state is not the present one, is as good as cancelled.
            self.at(true_s, lambda: self.tell(who, Tick()) if who.state is known else None)

    def _chance(self) -> bool:
        return self.rng.random() < self.trouble

    def _travel_s(self) -> float:
        return self.rng.uniform(0.0, 30.0) if self._chance() else self.rng.uniform(0.001, 0.02)

    def _send(self, who: Candidate, action: Action) -> None:
        if not self._chance():
            self.at(self.now + self._travel_s(), lambda: self._handle(who, action))
            if self._chance():
                self.at(self.now + self._travel_s(), lambda: self._handle(who, action))
        timeout_s = REQUEST_TIMEOUT_S * who.rules.renew_deadline_s / 10.0
        self.at(self.now + timeout_s, lambda: self.tell(who, Failed(action.number)))

    def _handle(self, who: Candidate, action: Action) -> None:
        answer = self.server.handle(action)
        if not self._chance():
            self.at(self.now + self._travel_s(), lambda: self.tell(who, answer))

    def _tell(self, lease: Lease, gone: bool) -> None:
        for one in self.candidates:
            if not self._chance():
                self.at(self.now + self._travel_s(), lambda one=one: self.tell(one, Noticed(lease, gone)))  # type: ignore[misc]
