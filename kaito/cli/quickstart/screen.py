"""Screen: how the quickstart tells its steps, and what it waits for between them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from rich.console import Console
from rich.markup import escape

_QUIET_S = 2.0
"""A wait that takes longer says what it is for."""


class Screen:
    """The console of one run.

    Args:
        console: where it is written.

    Attributes:
        seconds: how long each phase took, by its name.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self.seconds: dict[str, float] = {}

    def step(self, text: str, command: str = "") -> None:
        """Begins a step; with the command that a user would type for it."""
        self.console.print(f"[cyan]==>[/cyan] {escape(text)}")
        if command:
            self.console.print(f"    [bold]$ {escape(command)}[/bold]")

    def note(self, text: str) -> None:
        """Says what is good to know."""
        self.console.print(f"    [yellow]{escape(text)}[/yellow]")

    def plain(self, text: str) -> None:
        """Prints text as it is."""
        self.console.print(text, markup=False)

    def more(self, text: str) -> None:
        """Goes on in the same line."""
        self.console.print(text, end="", markup=False, style="green")

    @asynccontextmanager
    async def phase(self, name: str, waits_for: Callable[[], str] | str = "") -> AsyncIterator[None]:
        """Measures a phase, and says every two seconds of it what is waited for, when that has changed."""
        began = time.monotonic()
        teller = asyncio.create_task(self._tell(waits_for), name=f"what {name} waits for") if waits_for else None
        try:
            yield
        finally:
            if teller is not None:
                teller.cancel()
                await asyncio.wait({teller})
            self.seconds[name] = round(time.monotonic() - began, 1)

    async def _tell(self, waits_for: Callable[[], str] | str) -> None:
        told, began = "", time.monotonic()
        while True:
            await asyncio.sleep(_QUIET_S)
            text = waits_for if isinstance(waits_for, str) else waits_for()
            if text and text != told:
                self.console.print(f"    {time.monotonic() - began:5.1f} s  {text}", markup=False)
                told = text
