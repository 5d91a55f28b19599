"""Lookups: asks the hub what models are: few at a time, each one once, and not again while its answer is fresh."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from kaito.catalog import ModelPreset
from kaito.hub import Hub, HubError, HubToken, HubUnavailable

MOST_AT_ONCE = 2
"""Of the workers that reconcile Workspaces; the others go on with those that need no hub."""
BUSY_DELAY = timedelta(seconds=1)
KNOWN_FOR = timedelta(hours=1)
VERDICT_DELAY = timedelta(minutes=1)
"""A model may be uploaded, a licence accepted: no event tells."""
FIRST_RETRY = timedelta(seconds=5)
LAST_RETRY = timedelta(minutes=5)
LONGEST_WAIT = timedelta(minutes=15)
"""However long the hub itself asks to be left alone."""
MOST_KEPT = 1000

Key = tuple[str, str]


class LookupBusy(Exception):
    """The hub is being asked already, for as many models as may be or for this one; come back in `BUSY_DELAY`."""


class LookupFailed(Exception):
    """What a model is cannot be told for now.

    Attributes:
        error: why.
        look_again: in how long the hub is asked again.
    """

    def __init__(self, error: HubError, look_again: timedelta) -> None:
        super().__init__(str(error))
        self.error = error
        self.look_again = look_again


@dataclass(frozen=True, slots=True)
class _Answer:
    found: ModelPreset | HubError
    at: datetime
    keep: timedelta
    failures: int = 0

    def left(self, now: datetime) -> timedelta:
        """For how long it is still good; a clock that was set back makes it old."""
        return self.at + self.keep - now if now >= self.at else timedelta()


class Lookups:
    """Asks a hub.

    Args:
        hub: to ask.
        now: wall clock.
    """

    def __init__(self, hub: Hub, now: Callable[[], datetime]) -> None:
        self._hub = hub
        self._now = now
        self._answers: dict[Key, _Answer] = {}
        self._asking: set[Key] = set()

    async def find(self, model_id: str, token: HubToken | None) -> ModelPreset:
        """Returns what a model is, as the hub tells one with this token. Waits a minute at most.

        Raises:
            LookupBusy: no worker may wait for it now.
            LookupFailed: the hub cannot tell.
        """
        key = model_id, _digest(token)
        known = self._answers.get(key)
        if known is None or known.left(self._now()) <= timedelta():
            if key in self._asking or len(self._asking) >= MOST_AT_ONCE:
                raise LookupBusy
            known = await self._ask(key, model_id, token)
        if isinstance(known.found, HubError):
            raise LookupFailed(known.found, max(known.left(self._now()), BUSY_DELAY))
        return known.found

    async def _ask(self, key: Key, model_id: str, token: HubToken | None) -> _Answer:
        before = self._answers.get(key)
        self._asking.add(key)
        try:
            answer = _Answer(await self._hub.resolve(model_id, token), self._now(), KNOWN_FOR)
        except HubUnavailable as error:
            failures = before.failures + 1 if before is not None else 1
            answer = _Answer(error, self._now(), _retry_delay(error, failures), failures)
        except HubError as error:
            answer = _Answer(error, self._now(), VERDICT_DELAY)
        finally:
            self._asking.discard(key)
        # Back to the end: the oldest is the first to go.
        self._answers.pop(key, None)
        self._answers[key] = answer
        if len(self._answers) > MOST_KEPT:
            del self._answers[next(iter(self._answers))]
        return answer


def _digest(token: HubToken | None) -> str:
    """What tells tokens apart; with it a Secret that is corrected is asked with at once."""
    return hashlib.sha256(f"{token.origin} {token.value}".encode()).hexdigest() if token is not None else ""


def _retry_delay(error: HubUnavailable, failures: int) -> timedelta:
    if error.retry_after_s is not None:
        return min(LONGEST_WAIT, max(BUSY_DELAY, timedelta(seconds=error.retry_after_s)))
    doublings: int = 2 ** min(failures - 1, 16)
    return min(LAST_RETRY, FIRST_RETRY * doublings)
