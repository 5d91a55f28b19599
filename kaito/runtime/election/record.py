"""The rules of leader election, as a pure function: what is known of a Lease, what happens, and what to do about it.

They rest on three facts and on no clock but the local one that counts up:

- The API server orders the writes of a Lease: each names the version that it replaces.
- A leader believes that it leads until `Rules.renew_deadline_s` after the moment before it *sent* its last successful
  renewal. Nobody else takes the Lease before it has *seen* it unchanged for the duration that the Lease itself names,
  which is longer. So the first one's belief ends before the second one's begins, however long either was paused and
  whatever their calendars say.
- A Lease that was not there may have been deleted under a leader. Who makes one out of nothing, or finds itself named
  in one without knowing why, is on probation: it renews for one whole duration, and leads with the first renewal that
  it sent after that. A leader whose Lease was deleted makes it anew while it may still believe, and leads on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from kaito.kube.coordination_v1 import Lease, LeaseSpec
from kaito.kube.meta_v1 import ObjectMeta
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
    Watching,
    Wrote,
)

NEVER = math.inf
RELEASED_DURATION_S = 1
"""What a clean release leaves as the duration, as client-go does: such a Lease is free at once."""


@dataclass(frozen=True, slots=True)
class State:
    """What a candidate knows. Times are those of the local clock.

    Attributes:
        phase: where it stands.
        known: whether the API server was ever asked successfully.
        lease: the Lease as last seen; None: there is none, or nothing is known.
        observed_at: since when the record is seen unchanged.
        longest_s: the longest duration seen in it.
        renewed_at: the moment before the last successful write of its own was sent.
        probation_ends_at: from when on a renewal makes it leader.
        pending: the outstanding request.
        sent_at: the moment before that was sent.
        due_at: not before then it asks for anything.
        look: the Lease has to be read before anything else.
        noticed: the newest version that a watch told of and nobody looked at.
        watching: whether a watch tells of changes.
        stopping: it was asked to stop.
    """

    phase: Phase = Phase.FOLLOWING
    known: bool = False
    lease: Lease | None = None
    observed_at: float = -NEVER
    longest_s: float = 0.0
    renewed_at: float = -NEVER
    probation_ends_at: float = NEVER
    pending: Action | None = None
    sent_at: float = -NEVER
    due_at: float = -NEVER
    look: bool = False
    noticed: int = 0
    watching: bool = False
    stopping: bool = False
    number: int = 0

    @property
    def holder(self) -> str:
        """Who is named in the Lease; empty: nobody."""
        return (self.lease.spec.holder_identity or "") if self.lease is not None else ""

    @property
    def must_look(self) -> bool:
        """Whether the Lease has to be read before anything else."""
        return self.look or self.noticed > _version(self.lease)


@dataclass(frozen=True, slots=True)
class Rules:
    """How one candidate behaves.

    Attributes:
        key: the Lease.
        identity: of this candidate; unique.
        lease_duration_s: what it promises others in the Lease; rounded up to whole seconds there.
        renew_deadline_s: how long it believes in its last renewal.
        retry_period_s: between two renewals, and before something that failed is tried again.
        trusts_absence: a missing Lease never was: who makes it leads at once (client-go's way).
    """

    key: ObjectKey
    identity: str
    lease_duration_s: float = 15.0
    renew_deadline_s: float = 10.0
    retry_period_s: float = 2.0
    trusts_absence: bool = False

    def leads(self, state: State, now: float) -> bool:
        """Whether it may believe at this moment that it leads."""
        return state.phase is Phase.LEADING and not state.stopping and now < self.believes_until(state)

    def believes_until(self, state: State) -> float:
        """When its belief ends unless it renews."""
        return state.renewed_at + self.renew_deadline_s

    def wakes_at(self, state: State) -> float:
        """When it wants the next `Tick`, if nothing happens before."""
        if state.phase in (Phase.LOST, Phase.RELEASED):
            return NEVER
        next_at = NEVER if state.pending else state.due_at
        if state.phase is Phase.LEADING:
            return min(next_at, self.believes_until(state))
        if state.phase is Phase.FOLLOWING and self._is_told(state):
            return max(next_at, self.free_at(state))
        return next_at

    def free_at(self, state: State) -> float:
        """When the Lease of another may be taken."""
        duration_s = self._duration_s(state.lease)
        if not state.holder and duration_s <= RELEASED_DURATION_S:
            # Empty in place of one that somebody held: that one may have been deleted under its leader.
            replaced = duration_s == 0.0 and state.longest_s > RELEASED_DURATION_S
            return state.observed_at + state.longest_s if replaced else -NEVER
        return state.observed_at + duration_s

    def step(self, state: State, event: Event, now: float, wall: datetime) -> tuple[State, Action | None]:
        """What follows from an event.

        Args:
            state: what was known before.
            event: what happened.
            now: the local clock; never runs backwards.
            wall: the time of day; only ever written, for people to read.

        Returns:
            What is known now, and what to send, if anything.
        """
        state = self._absorb(state, event, now)
        if state.phase is Phase.LEADING and now >= self.believes_until(state):
            # Asked to stop, it leaves the Lease to run out.
            state = replace(state, phase=Phase.RELEASED if state.stopping else Phase.LOST)
        asked = self._wanted(state, now)
        if asked is None:
            return state, None
        return self._send(state, asked, now, wall)

    # What an event says of the world.

    def _absorb(self, state: State, event: Event, now: float) -> State:
        if isinstance(event, Found | Wrote | Refused | Failed):
            if state.pending is None or event.number != state.pending.number:
                return state  # given up long ago; whatever it did will be found
            return self._answered(replace(state, pending=None), state.pending.asked, event, now)
        match event:
            case Noticed(lease, gone):
                return self._noticed(state, lease, gone, now)
            case Watching(is_open):
                return replace(state, watching=is_open)
            case Stop():
                # Of a Lease on probation nothing is said: somebody may still lead under an earlier one.
                leads = state.phase is Phase.LEADING
                return replace(state, stopping=True, due_at=now, phase=Phase.LEADING if leads else Phase.RELEASED)
        return state

    def _answered(self, state: State, asked: Asked, event: Found | Wrote | Refused | Failed, now: float) -> State:
        match event:
            case Found(_, None) | Refused(_, Refusal.MISSING):
                return self._missing(state, now)
            case Found(_, lease):
                assert lease is not None
                return self._saw(state, lease, now)
            case Wrote(_, lease):
                return self._wrote(state, asked, lease, now)
            case Refused():
                return replace(state, look=True, due_at=now)
        # A follower may have been told to look, and would not be told again.
        look = asked is Asked.READ and state.phase is Phase.FOLLOWING
        return replace(state, look=look, due_at=now + self.retry_period_s)

    def _wrote(self, state: State, asked: Asked, lease: Lease, now: float) -> State:
        sent_at = state.sent_at
        state = replace(
            state, lease=lease, observed_at=now, renewed_at=sent_at, due_at=sent_at + self.retry_period_s, known=True
        )
        if asked is Asked.RELEASE:
            return replace(state, phase=Phase.RELEASED)
        if state.phase is Phase.LEADING:
            return state
        if asked is Asked.RENEW:
            return _leading(state) if sent_at >= state.probation_ends_at else state
        if asked is Asked.CREATE and not self.trusts_absence:
            return self._on_probation(state, now)
        # Paused on the way, it has nothing to believe in yet, and nothing to lose either.
        return self._on_probation(state, now) if now >= self.believes_until(state) else _leading(state)

    def _on_probation(self, state: State, now: float) -> State:
        # The answer's moment, not the request's: the Lease began to be before it.
        ends_at = now + max(self.lease_duration_s, state.longest_s)
        return replace(state, phase=Phase.PROBATION, probation_ends_at=ends_at)

    def _missing(self, state: State, now: float) -> State:
        phase = Phase.FOLLOWING if state.phase is Phase.PROBATION else state.phase
        if phase is Phase.LEADING and state.stopping:
            phase = Phase.RELEASED
        return replace(state, phase=phase, known=True, lease=None, noticed=0, due_at=now)

    def _saw(self, state: State, lease: Lease, now: float) -> State:
        mine = lease.spec.holder_identity == self.identity
        longest_s = max(state.longest_s, 0.0 if mine else self._duration_s(lease))
        before, state = state.lease, replace(state, known=True, lease=lease, longest_s=longest_s)
        if mine:
            # Somebody wrote to it beside us, or an answer was lost: of this version renew at once.
            state = replace(state, due_at=now)
            return self._on_probation(state, now) if state.phase is Phase.FOLLOWING else state
        if state.phase is Phase.LEADING:
            return replace(state, phase=Phase.RELEASED if state.stopping else Phase.LOST)
        if before is None or _record(before) != _record(lease):
            state = replace(state, observed_at=now)
        state = replace(state, phase=Phase.FOLLOWING)
        return replace(state, due_at=max(now, min(now + self.retry_period_s, self.free_at(state))))

    def _noticed(self, state: State, lease: Lease, gone: bool, now: float) -> State:
        version = _version(lease)
        if state.phase in (Phase.LOST, Phase.RELEASED) or version <= max(_version(state.lease), state.noticed):
            return state
        mine = lease.spec.holder_identity == self.identity
        is_news = state.lease is not None or not state.known
        if state.phase is Phase.FOLLOWING and not state.pending and not mine and not gone and is_news:
            return self._saw(state, lease, now)
        # What a watch says may be late: whoever holds the Lease, or is about to, asks the API server.
        return replace(state, noticed=version, due_at=now)

    # What to do.

    def _wanted(self, state: State, now: float) -> Asked | None:
        if state.pending is not None or state.phase in (Phase.LOST, Phase.RELEASED) or now < state.due_at:
            return None
        if state.must_look:
            return Asked.READ
        if state.known and state.lease is None:
            return Asked.CREATE
        if state.phase is not Phase.FOLLOWING:
            return Asked.RELEASE if state.stopping else Asked.RENEW
        if state.known and now >= self.free_at(state):
            return Asked.TAKE
        return None if self._is_told(state) else Asked.READ

    def _is_told(self, state: State) -> bool:
        """Whether what it waits for will be told, or comes by itself."""
        return state.known and state.watching and state.lease is not None and not state.must_look

    def _send(self, state: State, asked: Asked, now: float, wall: datetime) -> tuple[State, Action]:
        action = Action(state.number + 1, asked, self._body(state, asked, wall))
        if asked is Asked.READ:
            state = replace(state, look=False, noticed=0)
        return replace(state, number=action.number, pending=action, sent_at=now), action

    def _body(self, state: State, asked: Asked, wall: datetime) -> Lease | None:
        if asked is Asked.READ:
            return None
        if state.lease is None:
            spec = self._spec(LeaseSpec(), wall, taken=True)
            metadata = ObjectMeta(name=self.key.name, namespace=self.key.namespace)
            return Lease(metadata=metadata, spec=spec)
        draft, spec = state.lease.edit(), self._spec(state.lease.spec, wall, taken=asked is Asked.TAKE)
        if asked is Asked.RELEASE:
            spec.holder_identity = ""
            spec.lease_duration_seconds = RELEASED_DURATION_S
        draft.spec = spec
        return draft

    def _spec(self, before: LeaseSpec, wall: datetime, *, taken: bool) -> LeaseSpec:
        # Every renewal must change the record, also under a calendar that stands still, or others would see none.
        if before.renew_time is not None and wall <= before.renew_time:
            wall = before.renew_time + timedelta(microseconds=1)
        spec = before.edit()
        spec.holder_identity = self.identity
        spec.lease_duration_seconds = math.ceil(self.lease_duration_s)
        spec.renew_time = wall
        if taken:
            spec.acquire_time = wall
            spec.lease_transitions = (before.lease_transitions or 0) + (before.holder_identity is not None)
        return spec

    def _duration_s(self, lease: Lease | None) -> float:
        """What the Lease itself says; a made one that nobody ever held says nothing."""
        if lease is None:
            return self.lease_duration_s
        said = lease.spec.lease_duration_seconds
        return float(said) if said else (self.lease_duration_s if lease.spec.holder_identity else 0.0)


def _record(lease: Lease) -> tuple[object, ...]:
    """What a renewal changes. Labels and the like are nobody's sign of life."""
    spec = lease.spec
    return (lease.metadata.uid, spec.holder_identity, spec.renew_time, spec.acquire_time, spec.lease_duration_seconds)


def _version(lease: Lease | None) -> int:
    return int(lease.metadata.resource_version or 0) if lease is not None else 0


def _leading(state: State) -> State:
    return replace(state, phase=Phase.LEADING)
