"""WorkQueue: its invariants, by random histories against a naive model; then each rule by name."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from kaito.runtime.workqueue import LOW_PRIORITY, WorkQueue

KEYS = st.sampled_from("abcde")
PRIORITIES = st.sampled_from([LOW_PRIORITY, 0, 10])
DELAYS_S = st.sampled_from([-1.0, 0.0, 0.5, 1.0, 1.5, 3.0])


@dataclass
class Waiting:
    priority: int
    place: int
    since: float


class NaiveQueue:
    """What the queue should do, written for the reader: everything is looked for in plain dicts."""

    def __init__(self) -> None:
        self.ready: dict[str, Waiting] = {}
        self.delayed: dict[str, tuple[float, int, int]] = {}
        self.processing: dict[str, float] = {}
        self.again: dict[str, int] = {}
        self.places = 0

    def place(self) -> int:
        self.places += 1
        return self.places

    def add(self, key: str, now: float, priority: int) -> None:
        _, kept, _ = self.delayed.pop(key, (0.0, priority, 0))
        priority = max(priority, kept)
        if key in self.processing:
            self.again[key] = max(priority, self.again.get(key, priority))
        elif key not in self.ready:
            self.ready[key] = Waiting(priority, self.place(), now)
        elif priority > self.ready[key].priority:
            self.ready[key].priority, self.ready[key].place = priority, self.place()

    def add_after(self, key: str, delay_s: float, now: float, priority: int) -> None:
        if delay_s <= 0:
            self.add(key, now, priority)
        elif key not in self.ready:
            due, kept, place = self.delayed.get(key, (float("inf"), priority, 0))
            earlier = now + delay_s < due
            self.delayed[key] = (
                min(due, now + delay_s),
                max(priority, kept),
                self.place() if earlier else place,
            )

    def wake(self, now: float) -> None:
        for key, (due, priority, _) in sorted(self.delayed.items(), key=lambda item: (item[1][0], item[1][2])):
            if due <= now:
                del self.delayed[key]
                self.add(key, now, priority)

    def pop(self, now: float) -> tuple[str, int, float] | None:
        self.wake(now)
        if not self.ready:
            return None
        key = min(self.ready, key=lambda key: (-self.ready[key].priority, self.ready[key].place))
        waiting = self.ready.pop(key)
        self.processing[key] = now
        return key, waiting.priority, now - waiting.since

    def done(self, key: str, now: float) -> float:
        worked_s = now - self.processing.pop(key)
        if key in self.again:
            self.add(key, now, self.again.pop(key))
        return worked_s


class QueueAgainstModel(RuleBasedStateMachine):
    """Any history of calls gives the same answers as the model."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: WorkQueue[str] = WorkQueue()
        self.model = NaiveQueue()
        self.now = 100.0

    @rule(key=KEYS, priority=PRIORITIES)
    def add(self, key: str, priority: int) -> None:
        before = len(self.model.ready) + len(self.model.again)
        self.model.add(key, self.now, priority)
        news = self.queue.add(key, self.now, priority=priority)
        assert news == (len(self.model.ready) + len(self.model.again) > before)

    @rule(key=KEYS, delay_s=DELAYS_S, priority=PRIORITIES)
    def add_after(self, key: str, delay_s: float, priority: int) -> None:
        self.queue.add_after(key, delay_s, self.now, priority=priority)
        self.model.add_after(key, delay_s, self.now, priority)

    @rule(key=KEYS)
    def cancel(self, key: str) -> None:
        assert self.queue.cancel(key) == (self.model.delayed.pop(key, None) is not None)

    @rule()
    def pop(self) -> None:
        expected = self.model.pop(self.now)
        item = self.queue.pop(self.now)
        assert (None if item is None else tuple(item)) == expected

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
    def the_snapshot_shows_the_model(self) -> None:
        snapshot = self.queue.snapshot(self.now)
        in_order = sorted(
            self.model.ready, key=lambda key: (-self.model.ready[key].priority, self.model.ready[key].place)
        )
        assert [waiting.key for waiting in snapshot.ready] == in_order
        assert {key: -seconds + self.now for key, seconds in snapshot.ready} == {
            key: waiting.since for key, waiting in self.model.ready.items()
        }
        assert {key: seconds + self.now for key, seconds in snapshot.delayed} == {
            key: due for key, (due, _, _) in self.model.delayed.items()
        }
        assert {waiting.key for waiting in snapshot.processing} == set(self.model.processing)
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
        """I2: whatever was added comes out in the end."""
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


@pytest.fixture
def queue() -> WorkQueue[str]:
    return WorkQueue()


def drain(queue: WorkQueue[str], now: float) -> list[str]:
    keys = []
    while (item := queue.pop(now)) is not None:
        keys.append(item.key)
    return keys


def test_many_adds_before_a_hand_out_make_one_hand_out(queue: WorkQueue[str]) -> None:
    for _ in range(100):
        queue.add("a", 0.0)
    assert drain(queue, 0.0) == ["a"]


def test_a_hundred_adds_during_processing_make_one_more_hand_out(queue: WorkQueue[str]) -> None:
    queue.add("a", 0.0)
    assert drain(queue, 0.0) == ["a"]
    for _ in range(100):
        queue.add("a", 1.0)
    assert drain(queue, 1.0) == []
    queue.done("a", 2.0)
    assert drain(queue, 2.0) == ["a"]
    queue.done("a", 3.0)
    assert drain(queue, 9.0) == []


def test_of_two_delayed_adds_the_earlier_counts_in_either_order(queue: WorkQueue[str]) -> None:
    queue.add_after("a", 5.0, 0.0)
    queue.add_after("a", 2.0, 0.0)
    queue.add_after("b", 2.0, 0.0)
    queue.add_after("b", 5.0, 0.0)
    assert drain(queue, 1.9) == []
    assert sorted(drain(queue, 2.0)) == ["a", "b"]
    for key in "ab":
        queue.done(key, 2.0)
    assert drain(queue, 10.0) == []


def test_an_immediate_add_replaces_a_delayed_one(queue: WorkQueue[str]) -> None:
    queue.add_after("a", 5.0, 0.0)
    queue.add("a", 0.0)
    assert drain(queue, 0.0) == ["a"]
    queue.done("a", 0.0)
    assert drain(queue, 10.0) == []


def test_a_delay_that_ends_during_processing_makes_the_key_ready_afterwards(queue: WorkQueue[str]) -> None:
    queue.add("a", 0.0)
    queue.pop(0.0)
    queue.add_after("a", 1.0, 0.0)
    assert drain(queue, 5.0) == []
    queue.done("a", 5.0)
    assert drain(queue, 5.0) == ["a"]


def test_a_delay_that_ends_after_processing_is_not_lost(queue: WorkQueue[str]) -> None:
    queue.add("a", 0.0)
    queue.pop(0.0)
    queue.add_after("a", 1.0, 0.0)
    queue.done("a", 0.5)
    assert drain(queue, 0.9) == []
    assert drain(queue, 1.0) == ["a"]


def test_keys_whose_time_has_come_are_handed_out_in_the_order_of_their_times(queue: WorkQueue[str]) -> None:
    for key, delay_s in (("c", 3.0), ("a", 1.0), ("b", 2.0)):
        queue.add_after(key, delay_s, 0.0)
    assert drain(queue, 5.0) == ["a", "b", "c"]


def test_higher_priorities_overtake_and_equal_ones_keep_their_order(queue: WorkQueue[str]) -> None:
    queue.add("low", 0.0, priority=LOW_PRIORITY)
    for key in ("one", "two", "three"):
        queue.add(key, 0.0)
    queue.add("urgent", 0.0, priority=10)
    assert drain(queue, 0.0) == ["urgent", "one", "two", "three", "low"]


def test_a_raised_key_goes_to_the_end_of_its_new_priority(queue: WorkQueue[str]) -> None:
    queue.add("raised", 0.0, priority=LOW_PRIORITY)
    queue.add("first", 0.0)
    queue.add("raised", 0.0)
    queue.add("last", 0.0)
    assert drain(queue, 0.0) == ["first", "raised", "last"]


def test_adding_again_never_lowers_a_priority(queue: WorkQueue[str]) -> None:
    queue.add("a", 0.0, priority=10)
    queue.add("a", 0.0, priority=LOW_PRIORITY)
    item = queue.pop(0.0)
    assert item is not None
    assert item.priority == 10


def test_a_relist_does_not_lower_the_priority_of_a_retry_that_waits(queue: WorkQueue[str]) -> None:
    queue.add_after("a", 5.0, 0.0, priority=0)
    queue.add("a", 1.0, priority=LOW_PRIORITY)
    item = queue.pop(1.0)
    assert item is not None
    assert item.priority == 0


def test_an_earlier_delayed_add_of_low_priority_keeps_the_higher_one(queue: WorkQueue[str]) -> None:
    queue.add_after("a", 5.0, 0.0, priority=10)
    queue.add_after("a", 1.0, 0.0, priority=LOW_PRIORITY)
    item = queue.pop(1.0)
    assert item is not None
    assert item.priority == 10


def test_a_cancelled_delay_never_comes(queue: WorkQueue[str]) -> None:
    queue.add_after("a", 1.0, 0.0)
    assert queue.cancel("a")
    assert not queue.cancel("a")
    assert queue.next_due() is None
    assert drain(queue, 9.0) == []


def test_giving_back_a_key_that_nobody_has_is_an_error(queue: WorkQueue[str]) -> None:
    queue.add("a", 0.0)
    with pytest.raises(KeyError):
        queue.done("a", 0.0)


def test_times_of_waiting_and_working_are_told(queue: WorkQueue[str]) -> None:
    queue.add("a", 1.0)
    item = queue.pop(3.5)
    assert item is not None
    assert item.waited_s == 2.5
    assert queue.done("a", 4.0) == 0.5


def test_keys_need_not_be_comparable() -> None:
    keys = [object(), object()]
    queue: WorkQueue[object] = WorkQueue()
    for key in keys:
        queue.add(key, 0.0)
        queue.add_after((key,), 1.0, 0.0)
    assert [item.key for item in (queue.pop(1.0), queue.pop(1.0)) if item] == keys


def test_a_key_that_was_raised_once_has_no_better_place_the_next_time(queue: WorkQueue[str]) -> None:
    queue.add("a", 0.0, priority=LOW_PRIORITY)
    queue.add("a", 0.0)
    assert queue.pop(0.0) is not None
    queue.done("a", 1.0)
    queue.add("b", 1.0, priority=LOW_PRIORITY)
    queue.add("a", 1.0, priority=LOW_PRIORITY)
    assert drain(queue, 1.0) == ["b", "a"]


def test_timers_that_were_superseded_do_not_pile_up_behind_a_quiet_key(queue: WorkQueue[str]) -> None:
    queue.add_after("quiet", 1.0, 0.0)
    for number in range(1, 1000):
        queue.add_after("busy", 600.0, float(number))
        queue.add("busy", float(number))
        item = queue.pop(0.5)
        assert item is not None
        queue.done(item.key, 0.5)
    assert len(queue._timers) < 100
    assert queue.next_due() == 1.0
