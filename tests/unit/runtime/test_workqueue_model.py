"""WorkQueue: its invariants, by random histories against a naive model."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from kaito.runtime.workqueue import LOW_PRIORITY, WorkQueue

KEYS = st.sampled_from("abcde")
PRIORITIES = st.sampled_from([LOW_PRIORITY, 0, 10])
# Few, so that short histories reach it.
MAX_OVERTAKES = 2
DELAYS_S = st.sampled_from([-1.0, 0.0, 0.5, 1.0, 1.5, 3.0])


@dataclass
class Waiting:
    priority: int
    place: int
    since: float


class NaiveQueue:
    """What the queue should do, written for the reader: everything is looked for in plain dicts.

    `ready` is in the order in which keys became ready.
    """

    def __init__(self, max_overtakes: int) -> None:
        self.max_overtakes = max_overtakes
        self.ready: dict[str, Waiting] = {}
        self.delayed: dict[str, tuple[float, int, int]] = {}
        self.processing: dict[str, tuple[float, int]] = {}
        self.again: dict[str, Waiting] = {}
        self.places = 0
        self.overtakes = 0

    def place(self) -> int:
        self.places += 1
        return self.places

    def add(self, key: str, now: float, priority: int) -> bool:
        _, kept, _ = self.delayed.pop(key, (0.0, priority, 0))
        priority = max(priority, kept)
        if self.raised(key, priority):
            return False
        if key in self.processing:
            self.again[key] = Waiting(priority, 0, now)
        else:
            self.ready[key] = Waiting(priority, self.place(), now)
        return True

    def raised(self, key: str, priority: int) -> bool:
        waiting = self.ready.get(key) or self.again.get(key)
        if waiting is not None and priority > waiting.priority:
            waiting.priority, waiting.place = priority, self.place()
        return waiting is not None

    def add_after(self, key: str, delay_s: float, now: float, priority: int) -> None:
        if delay_s <= 0:
            self.add(key, now, priority)
        elif not self.raised(key, priority):
            due, kept, place = self.delayed.get(key, (float("inf"), priority, 0))
            earlier = now + delay_s < due
            self.delayed[key] = (
                min(due, now + delay_s),
                max(priority, kept),
                self.place() if earlier else place,
            )

    def discard(self, key: str) -> bool:
        return sum(adds.pop(key, None) is not None for adds in (self.ready, self.again, self.delayed)) > 0

    def wake(self, now: float) -> None:
        for key, (due, priority, _) in sorted(self.delayed.items(), key=lambda item: (item[1][0], item[1][2])):
            if due <= now:
                del self.delayed[key]
                self.add(key, now, priority)

    def pop(self, now: float) -> tuple[str, int, float] | None:
        self.wake(now)
        if not self.ready:
            return None
        oldest = next(iter(self.ready))
        key = min(self.ready, key=lambda key: (-self.ready[key].priority, self.ready[key].place))
        if self.overtakes == self.max_overtakes:
            key = oldest
        self.overtakes = 0 if key == oldest else self.overtakes + 1
        waiting = self.ready.pop(key)
        self.processing[key] = (now, waiting.priority)
        return key, waiting.priority, now - waiting.since

    def done(self, key: str, now: float) -> float:
        since, _ = self.processing.pop(key)
        if key in self.again:
            self.ready[key] = self.again.pop(key)
            self.ready[key].place = self.place()
        return now - since


class QueueAgainstModel(RuleBasedStateMachine):
    """Any history of calls gives the same answers as the model."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: WorkQueue[str] = WorkQueue(MAX_OVERTAKES)
        self.model = NaiveQueue(MAX_OVERTAKES)
        self.now = 100.0
        self.hand_outs = 0
        # I5 and ageing: by when each ready key must have been handed out.
        self.deadlines: dict[str, int] = {}

    @rule(key=KEYS, priority=PRIORITIES)
    def add(self, key: str, priority: int) -> None:
        assert self.queue.add(key, self.now, priority=priority) == self.model.add(key, self.now, priority)

    @rule(key=KEYS, delay_s=DELAYS_S, priority=PRIORITIES)
    def add_after(self, key: str, delay_s: float, priority: int) -> None:
        self.queue.add_after(key, delay_s, self.now, priority=priority)
        self.model.add_after(key, delay_s, self.now, priority)

    @rule(key=KEYS)
    def cancel(self, key: str) -> None:
        assert self.queue.cancel(key) == (self.model.delayed.pop(key, None) is not None)

    @rule(key=KEYS)
    def discard(self, key: str) -> None:
        assert self.queue.discard(key) == self.model.discard(key)

    @rule()
    def pop(self) -> None:
        self.wake()
        self.note_deadlines()
        expected = self.model.pop(self.now)
        item = self.queue.pop(self.now)
        assert (None if item is None else tuple(item)) == expected
        if item is not None:
            self.hand_outs += 1
            assert self.hand_outs <= self.deadlines.pop(item.key)

    @precondition(lambda self: self.model.processing)
    @rule(data=st.data())
    def done(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.model.processing)))
        assert self.queue.done(key, self.now) == self.model.done(key, self.now)

    @rule(seconds=st.sampled_from([0.25, 0.5, 2.0]))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def wake(self) -> None:
        self.queue.wake(self.now)
        self.model.wake(self.now)

    @invariant()
    def note_deadlines(self) -> None:
        """The documented bound, for every key that came to be ready since the last look."""
        self.deadlines = {key: deadline for key, deadline in self.deadlines.items() if key in self.model.ready}
        for older, key in enumerate(self.model.ready):
            self.deadlines.setdefault(key, self.hand_outs + (older + 1) * (MAX_OVERTAKES + 1))

    @invariant()
    def the_snapshot_shows_the_model(self) -> None:
        snapshot, model, now = self.queue.snapshot(self.now), self.model, self.now
        in_order = sorted(model.ready.items(), key=lambda item: (-item[1].priority, item[1].place))
        assert [tuple(key) for key in snapshot.ready] == [
            (key, waiting.priority, now - waiting.since, False) for key, waiting in in_order
        ]
        assert {tuple(key) for key in snapshot.delayed} == {
            (key, priority, due - now, False) for key, (due, priority, _) in model.delayed.items()
        }
        assert [tuple(key) for key in snapshot.processing] == [
            (key, priority, now - since, key in model.again) for key, (since, priority) in model.processing.items()
        ]

    @invariant()
    def the_counts_are_those_of_the_model(self) -> None:
        waiting = Counter(key.priority for key in (*self.model.ready.values(), *self.model.again.values()))
        assert self.queue.depths() == waiting
        assert self.queue.waiting == waiting.total()
        assert len(self.queue) == len(self.model.ready)
        assert self.queue.processing == len(self.model.processing)

    @invariant()
    def the_next_due_time_is_that_of_the_earliest_delayed_key(self) -> None:
        dues = [due for due, _, _ in self.model.delayed.values()]
        assert self.queue.next_due() == (min(dues) if dues else None)

    @invariant()
    def a_key_is_ready_or_processed_but_never_both(self) -> None:
        snapshot = self.queue.snapshot(self.now)
        assert not {waiting.key for waiting in snapshot.ready} & {waiting.key for waiting in snapshot.processing}

    def teardown(self) -> None:
        """I2 and I5: whatever was added comes out in the end, once."""
        owed = set(self.model.ready) | set(self.model.delayed) | set(self.model.again)
        for key in list(self.model.processing):
            self.queue.done(key, self.now)
        self.now += 10.0
        handed_out: set[str] = set()
        while (item := self.queue.pop(self.now)) is not None:
            assert item.key not in handed_out
            handed_out.add(item.key)
        assert handed_out == owed


TestQueueAgainstModel = QueueAgainstModel.TestCase
TestQueueAgainstModel.settings = settings(max_examples=60, stateful_step_count=40)
