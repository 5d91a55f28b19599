"""ConditionsTable: the conditions of an object as they turn; a live table on a terminal, a line per turn elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from kaito.kube.meta_v1 import Condition

_COLOURS = {"True": "green", "False": "red", "Unknown": "yellow"}


class ConditionsTable:
    """Use as a context manager; `show` whenever the object changes.

    Args:
        console: where it is drawn.
        main: conditions whose every new message is worth a line; of the others only turns of the status are.
    """

    def __init__(self, console: Console, main: Iterable[str] = ()) -> None:
        self._console = console
        self._main = frozenset(main)
        self._began = time.monotonic()
        self._turned: dict[str, tuple[str, str, float]] = {}
        self._note = ""
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
        for condition in conditions:
            before = self._turned.get(condition.type)
            now = (condition.status, condition.message or condition.reason)
            if before is None or before[:2] != now:
                since_s = time.monotonic() - self._began
                self._turned[condition.type] = (*now, since_s)
                if before is None or before[0] != now[0] or condition.type in self._main:
                    self._tell(condition.type, *now, since_s)
        if self._live is not None:
            self._live.update(self._table(), refresh=True)

    def note(self, text: str) -> None:
        """Says what is waited for meanwhile: below the table, or in a line of its own whenever that changes."""
        if text == self._note:
            return
        self._note = text
        if self._live is not None:
            self._live.update(self._table(), refresh=True)
        elif text:
            self._console.print(f"    {time.monotonic() - self._began:5.1f} s  {text}", markup=False)

    def _tell(self, name: str, status: str, message: str, since_s: float) -> None:
        if self._live is None:
            self._console.print(f"    {since_s:5.1f} s  {name:18} {status:8} {message}", markup=False)

    def _table(self) -> RenderableType:
        table = Table("CONDITION", "STATUS", "SINCE", "MESSAGE", box=None, pad_edge=False)
        for name, (status, message, since_s) in self._turned.items():
            table.add_row(name, f"[{_COLOURS[status]}]{status}[/]", f"{since_s:.1f} s", message)
        return Group(table, Text(self._note, style="yellow")) if self._note else table
