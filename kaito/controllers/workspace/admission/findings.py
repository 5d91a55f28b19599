"""Findings: what a check says, a fault (`Cause`) or a warning (`Warned`); and how values and near names are shown."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from kaito.catalog import did_you_mean
from kaito.kube.validation_report import shown as written
from kaito.runtime.webhook import Cause, unsupported

LONGEST_SHOWN = 60
"""Characters of a given value that a warning repeats; clients show 256 of the whole."""


@dataclass(frozen=True, slots=True)
class Warned:
    """What the user is told, although nothing is refused for it.

    Attributes:
        field: the path of what it is about.
        text: what will happen, and what to do about it.
    """

    field: str
    text: str

    def __str__(self) -> str:
        return f"{self.field}: {self.text}"


Finding = Cause | Warned


def meant(given: str, known: Iterable[str]) -> str:
    """Returns ``; did you mean "x"?`` if a known name is near the given one, else nothing."""
    name = did_you_mean(given, known)
    return f"; did you mean {json.dumps(name)}?" if name is not None and name != given else ""


def unsupported_choice(field: str, given: str, allowed: Iterable[str]) -> Cause:
    """A value that is none of a few, with the one that was probably meant."""
    allowed = tuple(allowed)
    cause = unsupported(field, given, allowed)
    return cause._replace(message=cause.message + meant(given, allowed))


def shown(given: object) -> str:
    """A given value as a sentence repeats it: as JSON, and not too long."""
    return written(given, LONGEST_SHOWN)
