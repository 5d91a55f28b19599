"""Rate limiters: how long a key waits before it is tried again."""

from __future__ import annotations

import random
from collections.abc import Hashable
from typing import Generic, Protocol, TypeVar

K = TypeVar("K", bound=Hashable)
K_contra = TypeVar("K_contra", bound=Hashable, contravariant=True)

FIRST_DELAY_S = 0.005
# controller-runtime lets the delay grow to 1000 s: a quarter of an hour until a mended fault shows.
MAX_DELAY_S = 300.0


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


class ExponentialRateLimiter(Generic[K]):
    """Doubles the delay with each failure of a key, up to a cap, with jitter.

    Args:
        first_s: delay after the first failure (client-go: 5 ms).
        cap_s: longest delay before jitter.
        jitter: share of the delay that is added at random, so that keys that failed together do not retry together.
        rng: source of jitter.
    """

    def __init__(
        self,
        first_s: float = FIRST_DELAY_S,
        cap_s: float = MAX_DELAY_S,
        *,
        jitter: float = 0.1,
        rng: random.Random | None = None,
    ) -> None:
        self._first_s = first_s
        self._cap_s = cap_s
        self._jitter = jitter
        self._rng = rng or random.Random()
        self._failures: dict[K, int] = {}

    def delay_s(self, key: K) -> float:
        """See `RateLimiter.delay_s`."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        # 2**64 already exceeds any cap; a bounded exponent keeps the float finite.
        return min(self._cap_s, self._first_s * 2.0 ** min(failures, 64)) * (1 + self._jitter * self._rng.random())

    def forget(self, key: K) -> None:
        """See `RateLimiter.forget`."""
        self._failures.pop(key, None)

    def failures(self, key: K) -> int:
        """See `RateLimiter.failures`."""
        return self._failures.get(key, 0)
