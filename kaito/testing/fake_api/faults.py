"""Faults: what goes wrong on purpose, as a list of rules that count the requests they match."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from kaito.client.transport import Request
from kaito.testing.fake_api.failures import Failure, Json
from kaito.testing.fake_api.routes import place_of, verb_of


@dataclass(frozen=True)
class Drop:
    """The connection breaks, and no answer comes.

    Attributes:
        handled: after the server did what was asked, so that only the answer is lost; else before.
        sent: what the client knows: False for a connection that was refused. Over HTTP a request was always sent:
            close the door with ``away()`` instead.
        act: called at that moment, before the connection breaks: to kill a process at its write, say.
    """

    handled: bool = False
    sent: bool = True
    act: Callable[[], None] | None = None


@dataclass(frozen=True)
class Refuse:
    """The server answers with a failure and does nothing.

    Attributes:
        code: HTTP status.
        reason: the Status's reason.
        message: its sentence.
        retry_after_s: seconds to wait, as header and in the details; None: not said.
        cause: the reason of the one cause in the details; empty: none.
    """

    code: int
    reason: str = "InternalError"
    message: str = "a scripted fault"
    retry_after_s: int | None = None
    cause: str = ""

    def failure(self) -> Failure:
        """The failure to answer with."""
        details: Json = {} if self.retry_after_s is None else {"retryAfterSeconds": self.retry_after_s}
        if self.cause:
            details["causes"] = [{"reason": self.cause, "message": self.message}]
        return Failure(self.code, self.reason, self.message, details=details or None)


@dataclass(frozen=True)
class Delay:
    """The request takes longer by so many seconds on its way to the server."""

    seconds: float


@dataclass(frozen=True)
class Hang:
    """No answer ever comes: a half-open connection. The client's timeout ends it."""


@dataclass(frozen=True)
class Trickle:
    """The body of the answer, or what a watch says, comes a few bytes at a time.

    Attributes:
        size: bytes of a piece.
        pause_s: seconds before each piece.
    """

    size: int = 16
    pause_s: float = 0.01


@dataclass(frozen=True)
class CutAnswer:
    """The connection breaks when half of the answer's body has come. Of a watch: use `CutWatch`."""


@dataclass(frozen=True)
class CutWatch:
    """A watch ends early.

    Attributes:
        after: lines that come through before.
        how: ``reset`` breaks the connection, ``close`` ends it cleanly, ``expire`` sends 410 Expired first, ``silence``
            leaves it open without anything coming any more.
        torn: half of the next line still comes through.

    Raises:
        ValueError: torn and expire: what is sent last is a whole line.
    """

    after: int = 0
    how: Literal["reset", "close", "expire", "silence"] = "reset"
    torn: bool = False

    def __post_init__(self) -> None:
        if self.torn and self.how == "expire":
            raise ValueError("CutWatch: torn goes with how=reset, close or silence; expire ends in a whole line")


@dataclass(frozen=True)
class FailWatch:
    """A watch ends in an ERROR event.

    Attributes:
        error: what it says.
        after: lines that come through before.
    """

    error: Refuse
    after: int = 0


@dataclass(frozen=True)
class Alter:
    """What the server says reaches the client as something else. JSON only.

    Attributes:
        how: ``malformed``: as what is no JSON; ``without_uid``: the object (the first one of a list) has no uid;
            ``other_kind``: the object, or list, says that it is of another kind; and of watches ``drop``: the event
            never comes; ``double``: it comes twice; ``repeat``: it comes again after the line that follows it.
        nth: of a watch, the first event that is altered, counted from 1.
        times: how many events from there on; None: all.
        event: of a watch, which events count: ``ADDED``, ``MODIFIED``, ``DELETED``, ``BOOKMARK``, ``ERROR``; ``*``: any
            but bookmarks and errors.
    """

    how: Literal["malformed", "without_uid", "other_kind", "drop", "double", "repeat"]
    nth: int = 1
    times: int | None = 1
    event: str = "*"


Action: TypeAlias = Drop | Refuse | Delay | Hang | Trickle | CutAnswer | CutWatch | FailWatch | Alter


def throttled(retry_after_s: int = 1) -> Refuse:
    """429 with Retry-After."""
    return Refuse(429, "TooManyRequests", "the server has received too many requests", retry_after_s)


def version_expired(reason: Literal["Expired", "Gone"] = "Expired") -> Refuse:
    """410, as a server says it today, or as old ones did (``Gone``)."""
    return Refuse(410, reason, "too old resource version")


def version_too_large(*, legacy: bool = False) -> Refuse:
    """504: the server has not come as far as that resourceVersion; old servers name no cause."""
    cause = "" if legacy else "ResourceVersionTooLarge"
    return Refuse(504, "Timeout", "Too large resource version: 2, current: 1", retry_after_s=1, cause=cause)


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
        only: a further condition on the request; None: none.
        seen: requests that matched so far.
    """

    then: Action
    verb: str = "*"
    resource: str = "*"
    name: str = "*"
    nth: int = 1
    times: int | None = 1
    only: Callable[[Request], bool] | None = None
    seen: int = field(default=0, init=False)

    @property
    def has_hit(self) -> bool:
        """Whether it has hit a request."""
        return self.seen >= self.nth

    def hits(self, request: Request) -> bool:
        """Whether it hits this request; counts it if it matches."""
        if not self._matches(request):
            return False
        self.seen += 1
        return self.seen >= self.nth and (self.times is None or self.seen < self.nth + self.times)

    def _matches(self, request: Request) -> bool:
        place = place_of(request.path)
        resource = f"{place.plural}/{place.subresource}".rstrip("/") if place else ""
        name = place.name if place else ""
        asked = ((self.verb, verb_of(request)), (self.resource, resource), (self.name, name))
        matches = all(wanted in ("*", have) for wanted, have in asked)
        return matches and (self.only is None or self.only(request))


class Faults(list[Fault]):
    """The rules in force; a list, to be changed at any time."""

    def add(self, fault: Fault) -> Fault:
        """Adds a rule and returns it."""
        self.append(fault)
        return fault

    def hit(self, request: Request) -> list[Action]:
        """What goes wrong with this request."""
        return [fault.then for fault in self if fault.hits(request)]
