"""EventBook: what is said becomes few objects with counts, in bounded memory, and what is lost is told."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from kaito.runtime.event_book import (
    COMBINED,
    MAX_SIMILAR,
    REFRESH_S,
    SERIES_ENDS_S,
    SIMILAR_WINDOW_S,
    SPAM_BURST,
    SPAM_REFILL_S,
    About,
    Drop,
    EventBook,
    Said,
    Series,
)

START = datetime(2026, 1, 1, tzinfo=UTC)


def said(note: str = "made", *, name: str = "a", reason: str = "Created") -> Said:
    return Said(About("v1", "ConfigMap", "default", name), "Normal", reason, "Create", note)


class Bench:
    """A book, and a server that takes whatever is due."""

    def __init__(self, **limits: int) -> None:
        self.book = EventBook(**limits)
        self.now = 0.0
        self.drops: list[Drop] = []
        self.told: dict[str, tuple[str, int]] = {}
        self.writes = 0

    def say(self, *what: Said) -> None:
        for each in what:
            dropped = self.book.record(each, START + timedelta(seconds=self.now), self.now)
            self.drops += [dropped] if dropped else []

    def write(self) -> None:
        while (series := self.book.take(self.now)) is not None:
            self.writes += 1
            self.told[series.name] = (series.said.note, series.count)
            self.book.told(series, series.count, self.now)

    def counts(self) -> list[tuple[str, int]]:
        return sorted(self.told.values())


def test_the_first_time_and_the_first_repetition_are_due_at_once_and_the_rest_adds_up() -> None:
    it = Bench()
    it.say(said())
    it.write()
    it.say(said())
    it.write()
    assert (it.counts(), it.writes) == ([("made", 2)], 2)
    for _ in range(100):
        it.now += 0.1
        it.say(said())
        it.write()
    assert it.writes == 2
    it.now = REFRESH_S + 1
    it.write()
    assert (it.counts(), it.writes) == ([("made", 102)], 3)
    assert it.book.due_at() is None


def test_what_is_repeated_before_it_was_written_is_written_once_with_its_count() -> None:
    it = Bench()
    it.say(said(), said(), said())
    it.write()
    assert (it.counts(), it.writes) == ([("made", 3)], 1)


def test_what_is_repeated_while_it_is_being_written_is_due_again() -> None:
    it = Bench()
    it.say(said())
    series = it.book.take(0.0)
    assert series is not None
    it.say(said())
    assert it.book.take(0.0) is None
    it.book.told(series, 1, 0.0)
    assert it.book.take(0.0) is series


def test_events_that_say_something_else_are_other_events() -> None:
    it = Bench()
    it.say(said("one"), said("two"), said("one", name="b"), said("one", reason="Deleted"))
    it.write()
    assert len(it.told) == 4


def test_a_series_that_was_silent_for_long_has_ended() -> None:
    it = Bench()
    it.say(said())
    it.write()
    it.now = SERIES_ENDS_S
    it.say(said())
    it.write()
    assert it.counts() == [("made", 1), ("made", 1)]


def test_many_that_differ_in_their_note_alone_are_combined_until_the_window_ends() -> None:
    it = Bench()
    it.say(*(said(f"note {number:02}") for number in range(MAX_SIMILAR + 20)))
    it.write()
    assert len(it.told) == MAX_SIMILAR + 1
    assert (f"{COMBINED}note {MAX_SIMILAR}", 20) in it.counts()
    it.now = SIMILAR_WINDOW_S
    it.say(said("later"))
    it.write()
    assert ("later", 1) in it.counts()


def test_an_object_of_which_too_much_is_said_has_its_new_events_dropped_and_no_other_object_suffers() -> None:
    it = Bench()
    it.say(*(said(reason=f"Reason{number}") for number in range(SPAM_BURST + 5)))
    it.say(said(name="b"))
    assert it.drops == [Drop.SPAM] * 5
    it.write()
    assert len(it.told) == SPAM_BURST + 1
    it.now = SPAM_REFILL_S
    it.say(said(reason="Again"), said(reason="AndAgain"))
    assert len(it.drops) == 6


def test_so_many_new_events_wait_and_further_ones_are_dropped() -> None:
    it = Bench(max_waiting=3)
    it.say(*(said(name=f"n{number}") for number in range(5)))
    assert it.drops == [Drop.QUEUE_FULL] * 2
    it.write()
    it.say(said(name="later"))
    assert len(it.drops) == 2


def test_a_series_that_was_forgotten_for_want_of_room_is_still_written_to_the_end() -> None:
    it = Bench(max_series=2)
    it.say(said(name="a"), said(name="a"), said(name="b"), said(name="c"))
    it.write()
    assert it.counts() == [("made", 1), ("made", 1), ("made", 2)]


def test_names_are_unique_and_keep_to_the_rule_whatever_the_object_is_called() -> None:
    names = ["x" * 253, "a-" * 120 + ".b", "system:node:N", "a"]
    book = EventBook()
    for name in names:
        book.record(said(name=name), START, 0.0)
        book.record(said(name=name, reason="Other"), START, 0.0)
    made = []
    while (series := book.take(0.0)) is not None:
        made.append(series.name)
    assert len(set(made)) == 2 * len(names)
    assert all(len(name) <= 253 and ":" not in name and ".." not in name and "-." not in name for name in made)
    assert any(name.startswith("a.") for name in made)


@given(
    steps=st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 30), st.floats(0, 400), st.booleans())),
    limit=st.integers(1, 5),
)
def test_each_event_is_told_or_dropped(steps: list[tuple[str, int, float, bool]], limit: int) -> None:
    book, now, dropped = EventBook(max_series=limit, max_waiting=limit), 0.0, 0
    everything: dict[Series, None] = {}
    for name, note, wait_s, written in steps:
        now += wait_s
        dropped += book.record(said(str(note), name=name), START, now) is not None
        everything |= dict.fromkeys(book.unwritten())
        while written and (series := book.take(now)) is not None:
            book.told(series, series.count, now)
    for series in book.unwritten():
        book.told(series, series.count, now)
    assert sum(series.told for series in everything) + dropped == len(steps)
