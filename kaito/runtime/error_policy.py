"""Error policy: what follows from what a reconcile raised, and how often that is worth a line in the log."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Hashable
from enum import StrEnum
from typing import Generic, TypeVar

from kaito.client.errors import (
    CacheNotSynced,
    Conflict,
    KubeError,
    LeadershipLost,
    ServiceUnavailable,
    TooManyRequests,
    TransportError,
)
from kaito.runtime.reconciler import ReconcileError, TerminalError

K = TypeVar("K", bound=Hashable)

# What happens in a healthy cluster; retried like any error, but no reason to wake a person.
EXPECTED_ERRORS = (Conflict, CacheNotSynced, TooManyRequests, ServiceUnavailable, TransportError, LeadershipLost)
# These say nothing about the object: once the API server is back, its key must not sit out what the outage added up to.
OUTAGE_ERRORS = (CacheNotSynced, ServiceUnavailable, TransportError)
# What is expected is expected to pass.
EXPECTED_UNTIL = 8


class ErrorAction(StrEnum):
    """What follows from an error."""

    EXPECTED = "expected"
    """Tried again; it happens in healthy clusters, so it is logged at info, and from the 8th time on at warning."""
    RETRY = "retry"
    """Tried again; logged at warning."""
    BUG = "bug"
    """Tried again; nobody foresaw it: logged at error with its traceback, and counted as a panic."""
    TERMINAL = "terminal"
    """Not tried again until something changes; logged at error."""
    RAISE = "raise"
    """The controller ends with it, and so does its manager."""


ErrorPolicy = Callable[[Exception], ErrorAction]
"""Decides about an error, quickly. If it raises, or returns anything else, that is a bug; the key is tried again."""


def default_error_policy(error: Exception) -> ErrorAction:
    """What a controller does unless told otherwise: no Exception ends it, and few end a key.

    Conflicts, throttling, a cache that lags and an API server that is away are expected; `TerminalError` is terminal;
    other refusals of the API server and `ReconcileError` are tried again; everything else is a bug.
    """
    if isinstance(error, TerminalError):
        return ErrorAction.TERMINAL
    if isinstance(error, EXPECTED_ERRORS):
        return ErrorAction.EXPECTED
    return ErrorAction.RETRY if isinstance(error, (KubeError, ReconcileError)) else ErrorAction.BUG


class FailureLog(Generic[K]):
    """How often keys have failed since they last succeeded, to say it seldom.

    Of one key, the 1st, 2nd, 4th, 8th … failure of each class of error is worth its level; the others are logged at
    debug. A key that fails for an hour makes a dozen lines, and an error of another class in between is not missed.
    """

    def __init__(self) -> None:
        self._counts: dict[K, Counter[type]] = {}

    def __len__(self) -> int:
        return len(self._counts)

    def failed(self, key: K, error: BaseException, action: ErrorAction) -> int:
        """Counts a failure, and returns the level at which it is to be logged."""
        counts = self._counts.setdefault(key, Counter())
        counts[type(error)] += 1
        return level_of(action, counts[type(error)])

    def failures(self, key: K) -> int:
        """Failures of whatever class since the key succeeded last."""
        return self._counts[key].total() if key in self._counts else 0

    def succeeded(self, key: K) -> None:
        """Forgets a key's failures."""
        self._counts.pop(key, None)

    def failing(self) -> tuple[K, ...]:
        """The keys that failed and have not succeeded since."""
        return tuple(self._counts)


def level_of(action: ErrorAction, times: int) -> int:
    """The level of logging for an error that happens for the given time in a row."""
    if not is_power_of_two(times):
        return logging.DEBUG
    if action is ErrorAction.EXPECTED:
        return logging.INFO if times < EXPECTED_UNTIL else logging.WARNING
    return logging.WARNING if action is ErrorAction.RETRY else logging.ERROR


def is_power_of_two(number: int) -> bool:
    """Whether to speak of what happened for the nth time: 1, 2, 4, 8 …"""
    return number & (number - 1) == 0
