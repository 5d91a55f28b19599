"""Rate limiters: delays that grow, are bounded and are forgotten."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaito.runtime.ratelimit import (
    FIRST_DELAY_S,
    MAX_DELAY_S,
    BucketRateLimiter,
    ExponentialRateLimiter,
    FastSlowRateLimiter,
    MaxOfRateLimiter,
    RateLimiter,
)
from kaito.testing import virtual_clock


class Hand:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Hand:
    return Hand()


def limiter(jitter: float = 0.0) -> ExponentialRateLimiter[str]:
    return ExponentialRateLimiter(jitter=jitter, rng=random.Random(1))


def test_delays_double_from_five_milliseconds() -> None:
    waits = limiter()
    assert [waits.delay_s("a") for _ in range(4)] == [0.005, 0.01, 0.02, 0.04]


def test_delays_stop_growing_at_the_cap_even_after_ten_thousand_failures() -> None:
    waits = limiter()
    assert [waits.delay_s("a") for _ in range(10_000)][-1] == MAX_DELAY_S


def test_a_key_that_succeeded_begins_anew() -> None:
    waits = limiter()
    for _ in range(5):
        waits.delay_s("a")
    waits.forget("a")
    assert waits.failures("a") == 0
    assert waits.delay_s("a") == FIRST_DELAY_S


def test_keys_do_not_wait_for_each_others_failures() -> None:
    waits = limiter()
    for _ in range(5):
        waits.delay_s("a")
    assert waits.delay_s("b") == FIRST_DELAY_S
    assert (waits.failures("a"), waits.failures("b")) == (5, 1)


def test_forgetting_a_key_that_never_failed_is_harmless() -> None:
    waits = limiter()
    waits.forget("a")
    assert waits.failures("a") == 0


@given(failures=st.integers(0, 200), seed=st.integers(0, 1000))
def test_jitter_only_adds_and_at_most_its_share(failures: int, seed: int) -> None:
    waits: ExponentialRateLimiter[str] = ExponentialRateLimiter(1.0, 60.0, jitter=0.5, rng=random.Random(seed))
    for _ in range(failures):
        waits.delay_s("a")
    base_s = min(60.0, 2.0 ** min(failures, 64))
    assert base_s <= waits.delay_s("a") <= base_s * 1.5


def test_the_first_attempts_are_fast_and_the_others_slow_until_the_key_succeeds() -> None:
    waits: FastSlowRateLimiter[str] = FastSlowRateLimiter(0.1, 30.0, 2)
    assert [waits.delay_s("a") for _ in range(4)] == [0.1, 0.1, 30.0, 30.0]
    assert waits.failures("a") == 4
    waits.forget("a")
    assert waits.delay_s("a") == 0.1


@pytest.mark.parametrize(
    "make",
    [
        lambda clock: ExponentialRateLimiter(1.0, 8.0, jitter=0.0, keep_s=60.0, clock=clock),
        lambda clock: FastSlowRateLimiter(1.0, 8.0, 1, keep_s=60.0, clock=clock),
    ],
    ids=["exponential", "fast and slow"],
)
def test_failures_of_keys_that_do_not_come_back_are_forgotten_in_time(
    make: Callable[[Hand], ExponentialRateLimiter[str]], clock: Hand
) -> None:
    waits = make(clock)
    for number in range(1000):
        waits.delay_s(f"gone {number}")
    waits.delay_s("lasting")
    clock.now += 50.0
    assert waits.delay_s("lasting") > 1.0
    clock.now += 50.0
    assert waits.failures("gone 0") == 0
    assert waits.failures("lasting") == 2
    for _ in range(500):
        waits.delay_s("lasting")
    assert len(waits._failures) == 1


def test_a_key_that_comes_back_late_begins_anew(clock: Hand) -> None:
    waits: ExponentialRateLimiter[str] = ExponentialRateLimiter(1.0, 8.0, jitter=0.0, keep_s=60.0, clock=clock)
    for _ in range(5):
        waits.delay_s("a")
    clock.now += 61.0
    assert waits.delay_s("a") == 1.0


def test_a_bucket_lets_a_burst_through_and_then_its_rate_whatever_the_keys(clock: Hand) -> None:
    waits: BucketRateLimiter[str] = BucketRateLimiter(10.0, 3, clock=clock)
    assert [waits.delay_s(key) for key in "abcaa"] == pytest.approx([0.0, 0.0, 0.0, 0.1, 0.2])
    clock.now += 0.2
    assert waits.delay_s("d") == pytest.approx(0.1)
    clock.now += 1000.0
    assert [waits.delay_s(key) for key in "abcd"] == pytest.approx([0.0, 0.0, 0.0, 0.1])


def test_a_bucket_knows_no_keys(clock: Hand) -> None:
    waits: BucketRateLimiter[str] = BucketRateLimiter(1.0, 1, clock=clock)
    waits.delay_s("a")
    waits.forget("a")
    assert waits.failures("a") == 0
    assert waits.delay_s("a") == 1.0


def test_reservations_do_not_pile_up_beyond_the_longest_wait(clock: Hand) -> None:
    waits: BucketRateLimiter[str] = BucketRateLimiter(10.0, 1, max_wait_s=5.0, clock=clock)
    assert max(waits.delay_s("a") for _ in range(100_000)) == 5.0
    clock.now += 5.1
    assert waits.delay_s("a") <= 0.1


@given(
    steps=st.lists(st.floats(0.0, 3.0), max_size=60),
    rate=st.floats(0.5, 50.0),
    burst=st.integers(1, 10),
)
def test_a_bucket_that_nobody_waits_longest_for_never_lets_more_through_than_its_rate_and_burst(
    steps: list[float], rate: float, burst: int
) -> None:
    clock = Hand()
    waits: BucketRateLimiter[str] = BucketRateLimiter(rate, burst, max_wait_s=1e6, clock=clock)
    through = []
    for step_s in steps:
        clock.now += step_s
        through.append(clock.now + waits.delay_s("a"))
    assert through == sorted(through)
    for first in range(len(through)):
        for last in range(first, len(through)):
            assert last - first + 1 <= burst + (through[last] - through[first]) * rate + 1e-6


def test_the_longest_of_several_delays_counts_and_all_of_them_are_told(clock: Hand) -> None:
    by_key: ExponentialRateLimiter[str] = ExponentialRateLimiter(1.0, 8.0, jitter=0.0)
    bucket: BucketRateLimiter[str] = BucketRateLimiter(0.5, 1, clock=clock)
    waits: RateLimiter[str] = MaxOfRateLimiter(by_key, bucket)
    assert [waits.delay_s("a") for _ in range(4)] == [1.0, 2.0, 4.0, 8.0]
    assert waits.failures("a") == 4
    waits.forget("a")
    assert waits.failures("a") == 0
    assert waits.delay_s("a") == 8.0


def test_time_is_that_of_the_loop() -> None:
    async def main() -> None:
        waits: BucketRateLimiter[str] = BucketRateLimiter(1.0, 1)
        assert [waits.delay_s("a") for _ in range(3)] == [0.0, 1.0, 2.0]
        await asyncio.sleep(3.0)
        assert waits.delay_s("a") == 0.0

    virtual_clock.run(main())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ExponentialRateLimiter(0.0), "first_s is 0; allowed is more than 0"),
        (lambda: ExponentialRateLimiter(5.0, 1.0), r"cap_s is 1; allowed is first_s \(5\) or more, and finite"),
        (lambda: ExponentialRateLimiter(jitter=-0.1), "jitter is -0.1; allowed is from 0 to 1"),
        (lambda: ExponentialRateLimiter(1.0, 100.0, keep_s=110.0), "keep_s is 110; .* longest delay, 110"),
        (lambda: ExponentialRateLimiter(float("nan")), "first_s is nan"),
        (lambda: FastSlowRateLimiter(-1.0, 1.0, 1), "fast_s is -1; allowed is 0 or more"),
        (lambda: FastSlowRateLimiter(2.0, 1.0, 1), r"slow_s is 1; allowed is fast_s \(2\) or more"),
        (lambda: FastSlowRateLimiter(1.0, 2.0, -1), "fast_attempts is -1; allowed is 0 or more"),
        (lambda: FastSlowRateLimiter(1.0, 2.0, 1, keep_s=2.0), "keep_s is 2; .* longest delay, 2"),
        (lambda: BucketRateLimiter(0.0, 1), "rate is 0; allowed is more than 0"),
        (lambda: BucketRateLimiter(1.0, 0), "burst is 0; allowed is 1 or more"),
        (lambda: BucketRateLimiter(1.0, 1, max_wait_s=0.0), "max_wait_s is 0; allowed is more than 0"),
        (lambda: MaxOfRateLimiter(), "there are no limiters; give one or more"),
    ],
)
def test_settings_that_make_no_sense_are_refused_by_name(make: Callable[[], RateLimiter[str]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
