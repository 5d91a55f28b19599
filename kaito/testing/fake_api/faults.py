"""Faults: what goes wrong on purpose, as a list of rules that count the requests they match."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from kaito.testing.fake_api.failures import Failure
from kaito.testing.fake_api.routes import Place


@dataclass(frozen=True)
class Drop:
    """The connection breaks.

    Attributes:
        handled: after the server did what was asked, so that only the answer is lost; else before.
        sent: what the client knows: False for a connection that was refused.
    """

    handled: bool = False
    sent: bool = True


@dataclass(frozen=True)
class Refuse:
    """The server answers with a failure and does nothing.

    Attributes:
        code: HTTP status.
        reason: the Status's reason.
        message: its sentence.
        retry_after_s: seconds to wait, as header and in the details; None: not said.
    """

    code: int
    reason: str = "InternalError"
    message: str = "a scripted fault"
    retry_after_s: int | None = None

    def failure(self) -> Failure:
        """The failure to answer with."""
        details = None if self.retry_after_s is None else {"retryAfterSeconds": self.retry_after_s}
        return Failure(self.code, self.reason, self.message, details=details)


@dataclass(frozen=True)
class Delay:
    """The request takes longer by so many seconds on its way to the server."""

    seconds: float


@dataclass(frozen=True)
class Hang:
    """No answer ever comes: a half-open connection. The client's timeout ends it."""


@dataclass(frozen=True)
class CutWatch:
    """A watch ends early.

    Attributes:
        after: lines that come through before.
        how: ``reset`` breaks the connection, ``close`` ends it cleanly, ``expire`` sends 410 Expired first, ``silence``
            leaves it open without anything coming any more.
    """

    after: int = 0
    how: Literal["reset", "close", "expire", "silence"] = "reset"


Action: TypeAlias = Drop | Refuse | Delay | Hang | CutWatch


def throttled(retry_after_s: int = 1) -> Refuse:
    """429 with Retry-After."""
    return Refuse(429, "TooManyRequests", "the server has received too many requests", retry_after_s)


def version_expired() -> Refuse:
    """410 as the answer to a list or watch."""
    return Refuse(410, "Expired", "too old resource version")


@dataclass
class Fault:
    """One rule.

    Attributes:
        then: what goes wrong.
        verb: which verb; ``*``: any.
        resource: which plural, or ``plural/subresource``; ``*``: any.
        name: which object; ``*``: any.
        nth: the first of the matching requests that it hits, counted from 1.
        times: how many it hits from there on; None: all.
        seen: requests that matched so far.
    """

    then: Action
    verb: str = "*"
    resource: str = "*"
    name: str = "*"
    nth: int = 1
    times: int | None = 1
    seen: int = field(default=0, init=False)

    def hits(self, verb: str, place: Place | None) -> bool:
        """Whether it hits this request; counts it if it matches."""
        if not self._matches(verb, place):
            return False
        self.seen += 1
        return self.seen >= self.nth and (self.times is None or self.seen < self.nth + self.times)

    def _matches(self, verb: str, place: Place | None) -> bool:
        resource = f"{place.plural}/{place.subresource}".rstrip("/") if place else ""
        name = place.name if place else ""
        asked = ((self.verb, verb), (self.resource, resource), (self.name, name))
        return all(wanted in ("*", have) for wanted, have in asked)


class Faults(list[Fault]):
    """The rules in force; a list, to be changed at any time."""

    def add(self, fault: Fault) -> Fault:
        """Adds a rule and returns it."""
        self.append(fault)
        return fault

    def hit(self, verb: str, place: Place | None) -> list[Action]:
        """What goes wrong with this request."""
        return [fault.then for fault in self if fault.hits(verb, place)]
