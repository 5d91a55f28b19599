"""How names, sizes and other libraries' errors are written in one line for people."""

from __future__ import annotations

from collections.abc import Iterable

_UNITS = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


def some(names: Iterable[str], limit: int = 3) -> str:
    """A few names, and how many more there are."""
    listed = list(names)
    more = len(listed) - limit
    return ", ".join(listed[:limit]) + (f" and {more} more" if more > 0 else "")


def size(count: float) -> str:
    """Bytes: 7.6 GB."""
    for unit, name in _UNITS:
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count:.0f} bytes"


def first_line(error: BaseException) -> str:
    """Of an error's text, where libraries write paragraphs; its kind, if it has none."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
