"""ExponentialRateLimiter: delays that double, are bounded and are forgotten."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from kaito.runtime.ratelimit import FIRST_DELAY_S, MAX_DELAY_S, ExponentialRateLimiter


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
