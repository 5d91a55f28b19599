"""The reflector's state machine: what comes after each outcome, as a table and as properties."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaito.client.errors import (
    ApiError,
    BadRequest,
    Cause,
    Forbidden,
    Gone,
    Invalid,
    KubeError,
    MethodNotAllowed,
    NotFound,
    ServerTimeout,
    ServiceUnavailable,
    TooManyRequests,
    TransportError,
    Unauthorized,
)
from kaito.informers.list_watch import (
    BACKOFF_CAP_S,
    BACKOFF_FIRST_S,
    DORMANT_WAIT_S,
    REFUSED_CAP_S,
    REFUSED_WATCHES,
    Ended,
    Listed,
    Phase,
    State,
    step,
)

STREAM, LIST, WATCH = Phase.STREAM_LIST, Phase.LIST, Phase.WATCH
RESET = TransportError("reset", sent=True)
GONE = Gone("too old", status=410)


def too_large_by_cause() -> ApiError:
    return ServerTimeout("later", status=504, causes=(Cause("", "ResourceVersionTooLarge", ""),))


def too_large_by_text() -> ApiError:
    return ServerTimeout("Too large resource version: 9, current: 3", status=504)


@pytest.mark.parametrize(
    "refusal",
    [
        Invalid("sendInitialEvents: Forbidden: unless the WatchList feature gate is enabled", status=422),
        BadRequest("sendInitialEvents is unknown", status=400),
        Invalid("resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch", status=422),
        MethodNotAllowed("no", status=405),
    ],
)
def test_a_server_without_streaming_lists_is_asked_for_a_paged_one_at_once_and_for_good(refusal: ApiError) -> None:
    after = step(State(), Ended("", 0, 0.0, refusal), 0.5)
    assert after == State(LIST, streaming=False)
    watching = step(after, Listed("7"), 0.5)
    assert watching == State(WATCH, "7", streaming=False)
    assert step(watching, Ended("9", 3, 10.0, GONE), 0.5).phase is LIST


def test_the_same_words_in_another_phase_or_with_another_code_change_nothing_about_streaming() -> None:
    for state in (State(WATCH, "7"), State(LIST, streaming=True)):
        assert step(state, Ended("", 0, 0.0, Invalid("sendInitialEvents", status=422)), 0.5).streaming
    assert step(State(), Ended("", 0, 0.0, ServiceUnavailable("sendInitialEvents", status=503)), 0.5).streaming


@pytest.mark.parametrize("error", [GONE, too_large_by_cause(), too_large_by_text()])
@pytest.mark.parametrize("streaming", [True, False])
def test_a_position_that_the_server_does_not_have_means_a_list_from_scratch_the_first_time_without_wait(
    error: ApiError, streaming: bool
) -> None:
    first = step(State(WATCH, "7", streaming=streaming), Ended("9", 4, 100.0, error), 0.5)
    assert (first.phase, first.resource_version, first.wait_s) == (STREAM if streaming else LIST, "", 0.0)
    again = step(first, Ended("", 0, 0.0, error), 0.5)
    assert again.wait_s >= BACKOFF_FIRST_S
    assert again.error is error


def test_a_list_that_works_and_a_watch_that_is_always_gone_do_not_alternate_at_full_speed() -> None:
    state = State(LIST, streaming=False)
    waits = []
    for _ in range(6):
        state = step(state, Listed("7"), 0.0)
        state = step(state, Ended("7", 0, 0.0, GONE), 0.0)
        waits.append(state.wait_s)
    assert waits == [0.0, 1.6, 3.2, 6.4, 12.8, 25.6]


def test_a_kind_that_does_not_exist_makes_the_watch_dormant_until_it_does() -> None:
    error = NotFound("no such kind", status=404)
    state = step(State(WATCH, "7"), Ended("7", 0, 0.0, error), 0.0)
    assert (state.dormant, state.phase, state.resource_version) == (True, STREAM, "")
    assert state.wait_s > 0
    assert not step(state, Ended("12", 5, 100.0), 0.0).dormant


@pytest.mark.parametrize("error", [Forbidden("no", status=403), Unauthorized("who?", status=401), RESET])
def test_other_failures_are_visible_and_keep_the_position(error: KubeError) -> None:
    state = step(State(WATCH, "7"), Ended("7", 0, 0.0, error), 0.0)
    assert (state.error, state.phase, state.resource_version) == (error, WATCH, "7")
    assert not state.dormant


def test_throttling_of_a_watch_neither_relists_nor_comes_back_sooner_than_asked() -> None:
    error = TooManyRequests("later", status=429, retry_after_s=45.0)
    state = step(State(WATCH, "7"), Ended("7", 0, 0.0, error), 0.9)
    assert (state.phase, state.resource_version, state.wait_s) == (WATCH, "7", 45.0)


def test_a_short_retry_after_does_not_shorten_the_backoff() -> None:
    error = TooManyRequests("later", status=429, retry_after_s=0.1)
    assert step(State(WATCH, "7", failures=3), Ended("7", 0, 0.0, error), 0.0).wait_s == BACKOFF_FIRST_S * 8


def test_a_watch_that_ends_in_time_goes_on_where_it_was_without_list_and_without_wait() -> None:
    assert step(State(WATCH, "7", failures=3), Ended("9", 2, 200.0), 0.5) == State(WATCH, "9")
    assert step(State(WATCH, "7"), Ended("7", 0, 200.0), 0.5) == State(WATCH, "7")
    assert step(State(), Ended("9", 2, 200.0), 0.5) == State(WATCH, "9")


def test_a_watch_closed_at_once_without_an_event_is_a_failure_and_backs_off() -> None:
    state = State(WATCH, "7")
    waits = []
    for _ in range(8):
        state = step(state, Ended("7", 0, 0.2), 0.0)
        waits.append(state.wait_s)
    assert waits == [0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0, 30.0]
    assert (state.phase, state.resource_version) == (WATCH, "7")
    assert state.error is not None


@pytest.mark.parametrize(("events", "lasted_s"), [(500, 30.0), (3, 0.1), (0, 30.0)])
def test_a_streaming_list_closed_before_its_end_is_a_failure_and_backs_off(events: int, lasted_s: float) -> None:
    state = State()
    waits = []
    for _ in range(3):
        state = step(state, Ended("", events, lasted_s), 0.0)
        waits.append(state.wait_s)
    assert waits == [0.8, 1.6, 3.2]
    assert (state.phase, state.resource_version) == (STREAM, "")
    assert "before its first list" in str(state.error)


@pytest.mark.parametrize(("events", "lasted_s"), [(2, 0.1), (0, 60.0)])
def test_a_watch_that_had_worked_until_it_broke_is_resumed_at_once(events: int, lasted_s: float) -> None:
    state = step(State(WATCH, "7", failures=6), Ended("9", events, lasted_s, RESET), 0.0)
    assert (state.resource_version, state.failures, state.wait_s) == ("9", 0, 0.0)


def test_a_watch_that_breaks_as_soon_as_it_is_open_waits_longer_each_time() -> None:
    state = step(State(WATCH, "7", failures=1), Ended("7", 0, 0.1, RESET), 0.0)
    assert (state.resource_version, state.failures, state.wait_s) == ("7", 2, BACKOFF_FIRST_S * 2)


def test_a_streaming_list_that_breaks_half_way_has_made_no_progress() -> None:
    state = step(State(failures=2), Ended("", 500, 5.0, RESET), 0.0)
    assert (state.phase, state.failures, state.wait_s) == (STREAM, 3, BACKOFF_FIRST_S * 4)


ERRORS: list[Callable[[], Exception | None]] = [
    lambda: None,
    lambda: RESET,
    lambda: GONE,
    too_large_by_cause,
    lambda: NotFound("no", status=404),
    lambda: Forbidden("no", status=403),
    lambda: Invalid("sendInitialEvents", status=422),
    lambda: TooManyRequests("later", status=429, retry_after_s=2.0),
    lambda: ServiceUnavailable("down", status=503),
]
OUTCOMES = st.one_of(
    st.builds(Listed, st.sampled_from(["5", "6"])),
    st.builds(
        Ended,
        st.sampled_from(["", "8", "9"]),
        st.integers(0, 3),
        st.sampled_from([0.0, 0.5, 1.0, 200.0]),
        st.sampled_from(ERRORS).map(lambda make: make()),
    ),
)
JITTER = st.floats(0.0, 0.999)


@given(st.lists(st.tuples(OUTCOMES, JITTER), max_size=40))
def test_whatever_happens_waits_are_bounded_watches_have_a_position_and_refused_streaming_is_not_asked_for_again(
    outcomes: list[tuple[Ended | Listed, float]],
) -> None:
    state = State()
    for outcome, jitter in outcomes:
        before = state
        state = step(state, outcome, jitter)
        assert 0.0 <= state.wait_s <= BACKOFF_CAP_S * (1 + jitter)
        assert (state.phase is WATCH) == bool(state.resource_version)
        assert state.streaming or state.phase is not STREAM
        assert before.streaming or not state.streaming
        if state.error is None:
            assert not state.dormant
            assert state.wait_s in (0.0, 2.0)  # not at all, or as long as was asked for
        else:
            assert state.wait_s > 0.0 or isinstance(state.error, Gone | ServerTimeout)
        assert state.failures <= before.failures + 1


@given(
    st.lists(st.sampled_from([RESET, GONE, too_large_by_text(), NotFound("no", status=404)]), min_size=2, max_size=20)
)
def test_no_two_failures_in_a_row_come_without_a_wait(errors: list[Exception]) -> None:
    state = State(WATCH, "7")
    for number, error in enumerate(errors):
        before, state = state, step(state, Ended("", 0, 0.0, error), 0.0)
        assert number == 0 or state.wait_s >= BACKOFF_FIRST_S or before.wait_s >= BACKOFF_FIRST_S


def failed(state: State, error: Exception, times: int) -> State:
    for _ in range(times):
        state = step(state, Ended("", 0, 0.0, error), 0.0)
    return state


def test_the_first_answer_after_an_outage_is_acted_on_at_once_if_the_position_has_expired() -> None:
    state = failed(State(WATCH, "7"), RESET, 8)
    assert state.wait_s == BACKOFF_CAP_S
    state = failed(state, GONE, 1)
    assert (state.phase, state.wait_s) == (STREAM, 0.0)
    assert failed(state, GONE, 1).wait_s >= BACKOFF_FIRST_S


def test_refusals_of_a_server_that_has_just_come_back_are_backed_off_from_anew() -> None:
    state = failed(State(WATCH, "7"), RESET, 8)
    assert failed(state, ServiceUnavailable("starting", status=503), 1).wait_s == BACKOFF_FIRST_S


def test_a_kind_that_has_just_come_to_exist_does_not_sit_out_how_long_it_was_missing() -> None:
    state = failed(State(), NotFound("no", status=404), 34)
    assert (state.dormant, state.wait_s) == (True, DORMANT_WAIT_S)
    state = failed(state, TooManyRequests("storage is (re)initializing", status=429), 1)
    assert state.wait_s == BACKOFF_FIRST_S


def test_watches_that_are_refused_again_and_again_end_in_a_list() -> None:
    broken = ApiError("no watch today", status=500)
    state = failed(State(WATCH, "7"), broken, REFUSED_WATCHES - 1)
    assert (state.phase, state.resource_version) == (WATCH, "7")
    state = failed(state, broken, 1)
    assert (state.phase, state.resource_version) == (STREAM, "")
    assert state.wait_s > BACKOFF_FIRST_S
    throttled = failed(State(WATCH, "7"), TooManyRequests("later", status=429), 9)
    assert throttled.phase is WATCH
    assert failed(State(WATCH, "7"), RESET, 9).phase is WATCH


def test_watches_that_are_silent_again_and_again_end_in_a_list() -> None:
    silent = Ended("", 0, 90.0, TransportError("silent", sent=True, timed_out=True))
    state = step(State(WATCH, "7"), silent, 0.0)
    assert (state.phase, state.silent, state.wait_s) == (WATCH, 1, 0.0)
    assert step(state, Ended("9", 1, 90.0, silent.error), 0.0).silent == 0
    assert step(state, silent, 0.0) == State(STREAM)


def test_a_watch_that_ends_throttled_waits_as_long_as_asked_although_it_had_worked() -> None:
    state = step(State(WATCH, "7"), Ended("9", 3, 10.0, TooManyRequests("later", status=429, retry_after_s=7.0)), 0.0)
    assert (state.phase, state.resource_version, state.wait_s) == (WATCH, "9", 7.0)


def test_a_server_that_refuses_connections_is_looked_for_every_few_seconds() -> None:
    refused = TransportError("refused", sent=False)
    assert failed(State(WATCH, "7"), refused, 20).wait_s == REFUSED_CAP_S


def test_steps_are_pure() -> None:
    state, outcome = State(WATCH, "7", failures=1), Ended("9", 2, 5.0, RESET)
    kept = replace(state)
    assert step(state, outcome, 0.3) == step(state, outcome, 0.3)
    assert state == kept
