"""What a candidate is told, what it asks for, and where it can stand."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from kaito.kube.coordination_v1 import Lease


class Phase(StrEnum):
    """Where a candidate stands."""

    FOLLOWING = "following"
    PROBATION = "probation"
    """The Lease is its own, but somebody may still believe in an earlier one."""
    LEADING = "leading"
    LOST = "lost"
    """It led, and never will again: what runs in the process may rest on what is no longer so."""
    RELEASED = "released"
    """It was asked to stop, and has."""


class Refusal(StrEnum):
    """Why the API server did not write."""

    CHANGED = "changed"
    """Somebody wrote meanwhile."""
    MISSING = "missing"
    EXISTS = "exists"


class Asked(StrEnum):
    """What an outstanding request is for."""

    READ = "read"
    CREATE = "create"
    TAKE = "take"
    RENEW = "renew"
    RELEASE = "release"


@dataclass(frozen=True, slots=True)
class Action:
    """A request to be sent now.

    Attributes:
        number: to be named in the answer.
        asked: what for.
        lease: what to create, or to update (with the resourceVersion that it replaces); None: read.
    """

    number: int
    asked: Asked
    lease: Lease | None = None


@dataclass(frozen=True, slots=True)
class Tick:
    """Time went by."""


@dataclass(frozen=True, slots=True)
class Found:
    """The answer to a read; None: there is no Lease."""

    number: int
    lease: Lease | None


@dataclass(frozen=True, slots=True)
class Wrote:
    """A write succeeded; the Lease after it."""

    number: int
    lease: Lease


@dataclass(frozen=True, slots=True)
class Refused:
    """A write was refused, and changed nothing."""

    number: int
    why: Refusal


@dataclass(frozen=True, slots=True)
class Failed:
    """No answer came, or one that says nothing: whether a write took effect is unknown."""

    number: int


@dataclass(frozen=True, slots=True)
class Noticed:
    """A watch says that the Lease became so, or went (with this last state). It may be late, or come twice."""

    lease: Lease
    gone: bool = False


@dataclass(frozen=True, slots=True)
class Watching:
    """The watch is open (again), or broke."""

    open: bool


@dataclass(frozen=True, slots=True)
class Stop:
    """Give it up: nobody works under it any more."""


Event: TypeAlias = Tick | Found | Wrote | Refused | Failed | Noticed | Watching | Stop
