"""Rate limiters: how long a key waits before it is tried again."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, Protocol, TypeVar

K = TypeVar("K", bound=Hashable)
K_contra = TypeVar("K_contra", bound=Hashable, contravariant=True)

Clock = Callable[[], float]
"""Seconds that never go backwards."""

FIRST_DELAY_S = 0.005
# controller-runtime lets the delay grow to 1000 s: a quarter of an hour until a mended fault shows.
MAX_DELAY_S = 300.0
KEEP_S = 3600.0
"""How long the failures of a key that is neither tried again nor forgotten are remembered at least."""
MAX_WAIT_S = 60.0


class RateLimiter(Protocol[K_contra]):
    """Decides delays by key."""

    def delay_s(self, key: K_contra) -> float:
        """Counts a failure of the key and returns how many seconds it waits."""
        ...

    def forget(self, key: K_contra) -> None:
        """The key succeeded: its next failure is its first."""
        ...

    def failures(self, key: K_contra) -> int:
        """Failures since it was forgotten last."""
        ...


def loop_time() -> float:
    """The running loop's clock, or the machine's where no loop runs."""
    try:
        return asyncio.get_running_loop().time()
    except RuntimeError:
        return time.monotonic()


class _Failures(Generic[K]):
    """Failures in a row by key. Those of keys that do not come back are dropped, two at a time with each new one."""

    def __init__(self, keep_s: float, clock: Clock) -> None:
        self._keep_s = keep_s
        self._clock = clock
        # The key whose last failure is the longest ago comes first.
        self._by_key: OrderedDict[K, tuple[int, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._by_key)

    def add(self, key: K) -> int:
        """Counts one; returns how many there were before."""
        now = self._clock()
        for _ in range(2):
            self._drop_oldest(now)
        before, _ = self._by_key.pop(key, (0, now))
        self._by_key[key] = (before + 1, now)
        return before

    def of(self, key: K) -> int:
        """How many there are."""
        count, last = self._by_key.get(key, (0, 0.0))
        return count if count and self._clock() - last <= self._keep_s else 0

    def forget(self, key: K) -> None:
        """There are none any more."""
        self._by_key.pop(key, None)

    def _drop_oldest(self, now: float) -> None:
        if self._by_key:
            key, (_, last) = next(iter(self._by_key.items()))
            if now - last > self._keep_s:
                del self._by_key[key]


class ExponentialRateLimiter(Generic[K]):
    """Doubles the delay with each failure of a key, up to a cap, with jitter.

    Remembers as many keys as failed within `keep_s` without success since.

    Args:
        first_s: delay after the first failure (client-go: 5 ms).
        cap_s: longest delay before jitter.
        jitter: share of the delay that is added at random, so that keys that failed together do not retry together.
        rng: source of jitter.
        keep_s: after how long without another failure a key's failures are forgotten; more than its longest delay;
            default an hour, or twice that delay if it is more.
        clock: tells `keep_s`; default the running loop's.

    Raises:
        ValueError: an argument makes no sense; the text says which and what is allowed.
    """

    def __init__(
        self,
        first_s: float = FIRST_DELAY_S,
        cap_s: float = MAX_DELAY_S,
        *,
        jitter: float = 0.1,
        rng: random.Random | None = None,
        keep_s: float | None = None,
        clock: Clock = loop_time,
    ) -> None:
        who = "ExponentialRateLimiter"
        _check(who, "first_s", first_s, 0 < first_s < math.inf, "more than 0")
        _check(who, "cap_s", cap_s, first_s <= cap_s < math.inf, f"first_s ({first_s:g}) or more, and finite")
        _check(who, "jitter", jitter, 0 <= jitter <= 1, "from 0 to 1")
        self._first_s = first_s
        self._cap_s = cap_s
        self._jitter = jitter
        self._rng = rng or random.Random()
        self._failures: _Failures[K] = _Failures(_keep_s(who, keep_s, cap_s * (1 + jitter)), clock)

    def delay_s(self, key: K) -> float:
        """See `RateLimiter.delay_s`."""
        before = self._failures.add(key)
        # A bounded exponent keeps the float finite: 2**1000 times the least first delay still exceeds any cap.
        delay_s = min(self._cap_s, self._first_s * 2.0 ** min(before, 1000))
        return delay_s * (1 + self._jitter * self._rng.random())

    def forget(self, key: K) -> None:
        """See `RateLimiter.forget`."""
        self._failures.forget(key)

    def failures(self, key: K) -> int:
        """See `RateLimiter.failures`."""
        return self._failures.of(key)


class FastSlowRateLimiter(Generic[K]):
    """One delay for a key's first failures, another for all that follow.

    Args:
        fast_s: delay of the first failures.
        slow_s: delay of the others.
        fast_attempts: how many are the first.
        keep_s: see `ExponentialRateLimiter`.
        clock: tells `keep_s`; default the running loop's.

    Raises:
        ValueError: an argument makes no sense; the text says which and what is allowed.
    """

    def __init__(
        self, fast_s: float, slow_s: float, fast_attempts: int, *, keep_s: float | None = None, clock: Clock = loop_time
    ) -> None:
        who = "FastSlowRateLimiter"
        _check(who, "fast_s", fast_s, 0 <= fast_s < math.inf, "0 or more")
        _check(who, "slow_s", slow_s, fast_s <= slow_s < math.inf, f"fast_s ({fast_s:g}) or more, and finite")
        _check(who, "fast_attempts", fast_attempts, fast_attempts >= 0, "0 or more")
        self._fast_s = fast_s
        self._slow_s = slow_s
        self._fast_attempts = fast_attempts
        self._failures: _Failures[K] = _Failures(_keep_s(who, keep_s, slow_s), clock)

    def delay_s(self, key: K) -> float:
        """See `RateLimiter.delay_s`."""
        return self._fast_s if self._failures.add(key) < self._fast_attempts else self._slow_s

    def forget(self, key: K) -> None:
        """See `RateLimiter.forget`."""
        self._failures.forget(key)

    def failures(self, key: K) -> int:
        """See `RateLimiter.failures`."""
        return self._failures.of(key)


class BucketRateLimiter(Generic[K]):
    """A token bucket for all keys together: so many retries per second, after a burst.

    client-go's bucket lets reservations pile up: hours of them after an hour of overload, which later failures wait
    behind. Here nobody waits longer than `max_wait_s`, and who would waits just that without a token: under lasting
    overload retries come later than failures by `max_wait_s`, but at their rate, not at the bucket's. Together with a
    limiter by key (`MaxOfRateLimiter`) that ends, since those who fail again come ever more rarely.

    Args:
        rate: tokens per second.
        burst: how many the bucket holds.
        max_wait_s: the longest delay.
        clock: fills the bucket; default the running loop's.

    Raises:
        ValueError: an argument makes no sense; the text says which and what is allowed.
    """

    def __init__(self, rate: float, burst: int, *, max_wait_s: float = MAX_WAIT_S, clock: Clock = loop_time) -> None:
        who = "BucketRateLimiter"
        _check(who, "rate", rate, 0 < rate < math.inf, "more than 0")
        _check(who, "burst", burst, burst >= 1, "1 or more")
        _check(who, "max_wait_s", max_wait_s, 0 < max_wait_s < math.inf, "more than 0")
        self._rate = rate
        self._burst = burst
        self._max_wait_s = max_wait_s
        self._clock = clock
        self._tokens = float(burst)
        self._filled = -math.inf

    def delay_s(self, key: K) -> float:
        """Takes a token, also one that is not there yet, and returns how many seconds it takes to come."""
        now = self._clock()
        self._tokens = min(self._burst, self._tokens + (now - self._filled) * self._rate)
        self._filled = now
        wait_s = max(0.0, (1 - self._tokens) / self._rate)
        if wait_s > self._max_wait_s:
            return self._max_wait_s
        self._tokens -= 1
        return wait_s

    def forget(self, key: K) -> None:
        """Does nothing: a bucket knows no keys."""

    def failures(self, key: K) -> int:
        """Always 0: a bucket knows no keys."""
        return 0


class MaxOfRateLimiter(Generic[K]):
    """The longest delay that any of several limiters says; each of them counts every failure.

    Args:
        limiters: which; at least one.

    Raises:
        ValueError: there is none.
    """

    def __init__(self, *limiters: RateLimiter[K]) -> None:
        if not limiters:
            raise ValueError("MaxOfRateLimiter: there are no limiters; give one or more")
        self._limiters = limiters

    def delay_s(self, key: K) -> float:
        """See `RateLimiter.delay_s`."""
        return max([limiter.delay_s(key) for limiter in self._limiters])

    def forget(self, key: K) -> None:
        """See `RateLimiter.forget`."""
        for limiter in self._limiters:
            limiter.forget(key)

    def failures(self, key: K) -> int:
        """The most that any of them knows of."""
        return max([limiter.failures(key) for limiter in self._limiters])


def _keep_s(who: str, keep_s: float | None, longest_s: float) -> float:
    if keep_s is None:
        return max(KEEP_S, 2 * longest_s)
    _check(who, "keep_s", keep_s, keep_s > longest_s, f"more than the longest delay, {longest_s:g}")
    return keep_s


def _check(who: str, name: str, value: float, allowed: bool, what: str) -> None:
    if not allowed:
        raise ValueError(f"{who}: {name} is {value:g}; allowed is {what}")
