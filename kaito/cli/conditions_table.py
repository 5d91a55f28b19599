"""ConditionsTable: the conditions of an object as they turn; a live table on a terminal, a line per turn elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import NamedTuple, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from kaito.kube.meta_v1 import Condition

STILL_S = 10.0
"""What is waited for is said again after so long, so that nobody thinks that all has stopped."""
_COLOURS = {"True": "green", "False": "red", "Unknown": "yellow"}
_NARROW = 72
"""Columns of a terminal; with fewer, messages go below the table."""


class _Turn(NamedTuple):
    status: str
    message: str
    since_s: float


class ConditionsTable:
    """Use as a context manager; `show` whenever the object changes.

    A message that several conditions have is written once; the others say whose it is.

    Args:
        console: where it is drawn.
        main: conditions whose every new message is worth a line; of the others only turns of the status are.
        clock: seconds.
    """

    def __init__(self, console: Console, main: Iterable[str] = (), clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._main = frozenset(main)
        self._clock = clock
        self._began = clock()
        self._turns: dict[str, _Turn] = {}
        self._note = ""
        self._noted_s = self._told_s = 0.0
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.__exit__(None, None, None)

    def show(self, conditions: Iterable[Condition]) -> None:
        """Takes the conditions as they are now."""
        turned = []
        for condition in conditions:
            before = self._turns.get(condition.type)
            status, message = condition.status, condition.message or condition.reason
            if before is None or before[:2] != (status, message):
                self._turns[condition.type] = _Turn(status, message, self._elapsed_s)
                if before is None or before.status != status or condition.type in self._main:
                    turned.append(condition.type)
        for name in turned:
            self._tell(name)
        self._draw()

    def note(self, text: str) -> None:
        """Says what is waited for meanwhile: below the table, or in a line of its own, when it changes and at times."""
        is_news = text != self._note
        if is_news:
            self._note, self._noted_s = text, self._elapsed_s
        if self._live is not None:
            self._draw()
        elif text and (is_news or self._elapsed_s >= self._told_s + STILL_S):
            self._told_s = self._elapsed_s
            self._line(text, "" if is_news else " (still)")

    @property
    def _elapsed_s(self) -> float:
        return self._clock() - self._began

    def _tell(self, name: str) -> None:
        if self._live is None:
            self._line(f"{name:18} {self._turns[name].status:8} ", self._says(name))

    def _line(self, *parts: str) -> None:
        self._console.print(f"    {self._elapsed_s:5.1f} s  {''.join(parts)}", markup=False)

    def _says(self, name: str) -> str:
        """The message, or which condition above has the same."""
        turn = self._turns[name]
        first = next(other for other, its in self._turns.items() if its[:2] == turn[:2])
        return turn.message if first == name else f"as {first}"

    def _draw(self) -> None:
        if self._live is not None:
            self._live.update(self._drawn(), refresh=True)

    def _drawn(self) -> RenderableType:
        is_narrow = self._console.width < _NARROW
        table = Table(box=None, pad_edge=False)
        for header in ("CONDITION", "STATUS", "SINCE"):
            table.add_column(header, no_wrap=True)
        if not is_narrow:
            table.add_column("MESSAGE")
        below: list[Text] = []
        for name, turn in self._turns.items():
            says = self._says(name)
            cells = (name, Text(turn.status, _COLOURS[turn.status]), f"{turn.since_s:.1f} s", Text(says))
            table.add_row(*cells[: len(table.columns)])
            if is_narrow and turn.status != "True" and says == turn.message:
                below.append(_wrapped(f"{name}: {says}"))
        if self._note:
            below.append(_wrapped(f"{self._note} ({self._elapsed_s - self._noted_s:.0f} s)", "yellow"))
        return Group(table, *below)


def _wrapped(text: str, style: str = "") -> Text:
    """Broken where the terminal ends, although the console leaves long lines to it: a live table counts its lines."""
    return Text(text, style, no_wrap=False, overflow="fold")
