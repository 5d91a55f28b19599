"""What was found wrong with an object: faults, the paths they are at, values as the API server prints them."""

from __future__ import annotations

import json
import math
from typing import Any, Final, NamedTuple

MAX_FAULTS: Final = 100
"""How many faults are told of one object; one more says that there are others."""
MAX_VALUE_CHARACTERS: Final = 256
"""How much of a value a message repeats."""


class Fault(NamedTuple):
    """A field that may not be as it is.

    Attributes:
        field: its path as the API server writes it, such as ``inference.adapters[0].source.name``; empty: the object.
        reason: such as ``FieldValueInvalid``, ``FieldValueRequired``, ``FieldValueTypeInvalid``.
        message: what was given and what is allowed, in the API server's form: ``Invalid value: 11: …``.
    """

    field: str
    reason: str
    message: str


class MapKey(str):
    """A key of a map in a path; rules and list types write it in brackets, schema faults after a dot."""

    __slots__ = ()


Path = tuple[str | int, ...]

# What a rule in Python cannot rely on, and with it what keeps the API server from running any rule of the object.
UNTYPED: Final = frozenset({"FieldValueRequired", "FieldValueTypeInvalid"})
BLOCKING: Final = UNTYPED | {"FieldValueNotSupported", "FieldValueTooLong", "FieldValueTooMany"}


class Report:
    """Collects faults until there are enough.

    Attributes:
        faults: what was found, in the order of finding.
        unsound: places that something below, or they themselves, is too wrong for rules to be asked about.
    """

    def __init__(self, blocking: frozenset[str] = BLOCKING) -> None:
        self._blocking = blocking
        self.faults: list[Fault] = []
        self.unsound: set[Path] = set()

    @property
    def is_full(self) -> bool:
        """Whether nothing more is taken, the last fault saying so."""
        return len(self.faults) > MAX_FAULTS

    def add(
        self, path: Path, reason: str, message: str, *, at: Path | None = None, keys_in_brackets: bool = False
    ) -> None:
        """Takes a fault.

        Args:
            path: the field that is to blame.
            reason: the machine-readable cause.
            message: what people read.
            at: the place whose rules can then not be asked, when it is not the field itself.
            keys_in_brackets: how keys of maps are written in the path.
        """
        if self.is_full:
            return
        if len(self.faults) == MAX_FAULTS:
            more = f"there are more faults than the {MAX_FAULTS} named here"
            self.faults.append(Fault("", "FieldValueInvalid", more))
            return
        self.faults.append(Fault(written(path, keys_in_brackets=keys_in_brackets), reason, message))
        if reason in self._blocking:
            place = path if at is None else at
            self.unsound.update(place[:length] for length in range(len(place) + 1))


def written(path: Path, *, keys_in_brackets: bool) -> str:
    """Returns a path as people read it: ``spec.items[0].labels[app]``, or ``….labels.app``."""
    text = ""
    for part in path:
        if isinstance(part, int) or (keys_in_brackets and isinstance(part, MapKey)):
            text += f"[{part}]"
        else:
            text += f".{part}" if text else part
    return text


def shown(value: Any, most: int = MAX_VALUE_CHARACTERS) -> str:
    """Returns a value as the API server repeats it, cut to so many characters."""
    if isinstance(value, float):
        return number(value)
    try:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True, default=repr)
    except (TypeError, ValueError, RecursionError):
        text = json_type(value)
    return text if len(text) <= most else f"{text[:most]}…"


def number(value: float) -> str:
    """Returns a number as Go prints it: no fraction when there is none."""
    if isinstance(value, float) and math.isfinite(value) and value.is_integer() and abs(value) < 1e21:
        return str(int(value))
    return str(value)


def json_type(value: Any) -> str:
    """Returns what JSON calls the type of a value; Python's name for what JSON does not have."""
    if value is None:
        return "null"
    return next((name for kind, name in _JSON_TYPES if isinstance(value, kind)), type(value).__name__)


# bool first, which Python takes for an int.
_JSON_TYPES: Final[tuple[tuple[type, str], ...]] = (
    (bool, "boolean"),
    (str, "string"),
    (int, "integer"),
    (float, "number"),
    (dict, "object"),
    (list, "array"),
)
