"""WorkQueue: each rule by name; random histories are in the files beside."""

from __future__ import annotations

import pytest

from kaito.runtime.workqueue import LOW_PRIORITY, MAX_OVERTAKES, WorkQueue


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


def test_an_add_during_processing_waits_from_then_and_is_behind_what_was_ready_before_it_came_back(
    queue: WorkQueue[str],
) -> None:
    queue.add("a", 0.0)
    queue.pop(0.0)
    queue.add("a", 1.0)
    queue.add("b", 2.0)
    queue.done("a", 3.0)
    items = [queue.pop(4.0), queue.pop(4.0)]
    assert [item and (item.key, item.waited_s) for item in items] == [("b", 2.0), ("a", 3.0)]


def test_a_key_that_a_worker_has_does_not_hold_up_the_others(queue: WorkQueue[str]) -> None:
    queue.add("busy", 0.0, priority=10)
    queue.pop(0.0)
    queue.add("busy", 0.0, priority=10)
    queue.add("other", 0.0)
    assert drain(queue, 0.0) == ["other"]


def test_a_delayed_add_of_a_waiting_key_raises_it_and_makes_no_second_hand_out(queue: WorkQueue[str]) -> None:
    queue.add("first", 0.0)
    queue.add("a", 0.0, priority=LOW_PRIORITY)
    queue.add("last", 0.0)
    queue.add_after("a", 5.0, 0.0, priority=10)
    assert queue.next_due() is None
    assert drain(queue, 0.0) == ["a", "first", "last"]


def test_a_delay_of_no_number_is_none(queue: WorkQueue[str]) -> None:
    queue.add_after("a", float("nan"), 0.0)
    assert drain(queue, 0.0) == ["a"]


@pytest.mark.parametrize("older", [0, 1, 7])
def test_a_key_of_low_priority_leaves_within_the_bound_beside_an_endless_stream_of_others(
    queue: WorkQueue[str], older: int
) -> None:
    for number in range(older):
        queue.add(f"older {number}", 0.0, priority=LOW_PRIORITY)
    queue.add("low", 0.0, priority=LOW_PRIORITY)
    for number in range(1, 1000):
        # Two come for each that leaves: what is of priority 0 never ends.
        queue.add(f"live {number}", float(number))
        queue.add(f"more {number}", float(number), priority=10)
        item = queue.pop(float(number))
        assert item is not None
        if item.key == "low":
            break
        queue.done(item.key, float(number))
    assert number == (older + 1) * (MAX_OVERTAKES + 1)


def test_of_a_wave_of_low_priority_live_keys_wait_for_one_hand_out_in_ten_at_most(queue: WorkQueue[str]) -> None:
    for number in range(1000):
        queue.add(f"wave {number}", 0.0, priority=LOW_PRIORITY)
    for number in range(90):
        queue.add(f"live {number}", 1000.0)
    first = [item.key for _ in range(100) if (item := queue.pop(1000.0))]
    assert sum(key.startswith("live") for key in first) == 90


def test_hand_outs_of_the_oldest_key_for_its_priority_are_no_overtakes(queue: WorkQueue[str]) -> None:
    for number in range(MAX_OVERTAKES * 2):
        queue.add(f"{number:02}", 0.0)
    queue.add("late but urgent", 0.0, priority=10)
    assert drain(queue, 0.0)[0] == "late but urgent"


def test_without_overtakes_priorities_count_for_nothing() -> None:
    queue: WorkQueue[str] = WorkQueue(max_overtakes=0)
    queue.add("first", 0.0, priority=LOW_PRIORITY)
    queue.add("second", 0.0, priority=10)
    assert drain(queue, 0.0) == ["first", "second"]


def test_fewer_than_no_overtakes_are_refused() -> None:
    with pytest.raises(ValueError, match="max_overtakes is -1; 0 or more is allowed"):
        WorkQueue(max_overtakes=-1)


def test_depths_count_what_is_ready_and_what_will_be_by_priority(queue: WorkQueue[str]) -> None:
    for key, priority in (("a", 0), ("b", LOW_PRIORITY), ("c", LOW_PRIORITY)):
        queue.add(key, 0.0, priority=priority)
    queue.add_after("delayed", 5.0, 0.0, priority=10)
    assert queue.depths() == {0: 1, LOW_PRIORITY: 2}
    queue.pop(0.0)
    assert queue.depths() == {LOW_PRIORITY: 2}
    queue.add("a", 0.0)
    queue.add("b", 0.0)
    assert queue.depths() == {0: 2, LOW_PRIORITY: 1}
    assert (len(queue), queue.waiting) == (2, 3)
    queue.done("a", 0.0)
    drain(queue, 0.0)
    assert queue.depths() == {}


def test_a_discarded_key_is_handed_out_only_if_it_is_added_anew(queue: WorkQueue[str]) -> None:
    queue.add("busy", 0.0)
    queue.pop(0.0)
    queue.add("busy", 0.0)
    queue.add_after("delayed", 1.0, 0.0)
    queue.add("ready", 0.0)
    assert [queue.discard(key) for key in ("busy", "delayed", "ready", "unknown")] == [True, True, True, False]
    assert queue.depths() == {}
    queue.done("busy", 0.5)
    assert drain(queue, 9.0) == []
    queue.add("ready", 9.0)
    assert drain(queue, 9.0) == ["ready"]


def test_clearing_leaves_with_the_workers_what_they_have(queue: WorkQueue[str]) -> None:
    queue.add("busy", 0.0)
    queue.pop(0.0)
    queue.add("busy", 0.0)
    queue.add("ready", 0.0)
    queue.add_after("delayed", 1.0, 0.0)
    queue.clear()
    assert queue.processing == 1
    queue.done("busy", 1.0)
    assert drain(queue, 9.0) == []
    assert queue.depths() == {}


def test_the_snapshot_says_all_of_each_key(queue: WorkQueue[str]) -> None:
    queue.add("again", 0.0, priority=10)
    queue.add("busy", 0.0)
    queue.pop(1.0)
    queue.pop(2.0)
    queue.add("again", 2.0)
    queue.add("ready", 3.0, priority=LOW_PRIORITY)
    queue.add_after("busy", 5.0, 3.0, priority=7)
    snapshot = queue.snapshot(4.0)
    assert [tuple(key) for key in snapshot.processing] == [("again", 10, 3.0, True), ("busy", 0, 2.0, False)]
    assert [tuple(key) for key in snapshot.ready] == [("ready", LOW_PRIORITY, 1.0, False)]
    assert [tuple(key) for key in snapshot.delayed] == [("busy", 7, 4.0, False)]
    assert queue.in_work(4.0) == snapshot.processing


def test_adds_that_were_news_and_adds_with_a_delay_are_counted(queue: WorkQueue[str]) -> None:
    for _ in range(3):
        queue.add("a", 0.0)
    queue.pop(0.0)
    for _ in range(3):
        queue.add("a", 0.0)
    queue.add_after("b", 5.0, 0.0)
    queue.add_after("b", 9.0, 0.0)
    assert (queue.adds, queue.retries) == (2, 2)
    queue.wake(5.0)
    assert (queue.adds, queue.retries) == (3, 2)


def test_places_that_were_given_up_do_not_pile_up_below_an_endless_stream(queue: WorkQueue[str]) -> None:
    for number in range(1000):
        queue.add("stream", float(number))
        queue.add(f"low {number}", float(number), priority=LOW_PRIORITY)
        queue.discard(f"low {number}")
        item = queue.pop(float(number))
        assert item is not None
        queue.done(item.key, float(number))
    assert len(queue._order) < 100


def test_the_order_outlasts_the_removal_of_places_that_were_given_up(queue: WorkQueue[str]) -> None:
    keys = {"c": 0, "e": LOW_PRIORITY, "a": 10, "d": 0, "b": 10}
    for key, priority in keys.items():
        queue.add(key, 0.0, priority=priority)
    for number in range(200):
        queue.add(f"gone {number}", 0.0, priority=LOW_PRIORITY)
        queue.discard(f"gone {number}")
    assert len(queue._order) < 100
    assert drain(queue, 0.0) == sorted(keys)


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
