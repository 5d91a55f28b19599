"""Screen: how the quickstart tells its steps, and what it waits for between them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from rich.console import Console
from rich.markup import escape

from kaito.cli.conditions_table import STILL_S
from kaito.cli.control import CONTROL

QUIET_S = 2.0
"""A wait that takes longer says what it is for."""


class Screen:
    """The console of one run.

    Args:
        console: where it is written.

    Attributes:
        seconds: how long each phase took, by its name; one that came twice, both times together.
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

    def say(self, text: str) -> None:
        """A line about the run as a whole."""
        self.console.print(escape(text))

    def failed(self, text: str) -> None:
        """Says on standard error why it ends."""
        told = Console(stderr=True, highlight=False, soft_wrap=True)
        told.print("[red]quickstart failed:[/red] ", end="")
        told.print(text, markup=False)

    def plain(self, text: str) -> None:
        """Prints text as it is."""
        self.console.print(text, markup=False)

    def more(self, text: str) -> None:
        """Goes on in the same line, with what a model says; what would steer the terminal is left out."""
        self.console.print(CONTROL.sub("", text), end="", markup=False, style="green")

    @asynccontextmanager
    async def phase(self, name: str, waits_for: Callable[[], str] | str = "") -> AsyncIterator[None]:
        """Measures a phase, and says after two seconds what is waited for, when that changes, and now and then."""
        began = time.monotonic()
        telling = self._tell(waits_for, began) if waits_for else None
        teller = asyncio.create_task(telling, name=f"what {name} waits for") if telling is not None else None
        try:
            yield
        finally:
            if teller is not None:
                teller.cancel()
                await asyncio.wait({teller})
            self.seconds[name] = round(self.seconds.get(name, 0.0) + time.monotonic() - began, 1)

    async def _tell(self, waits_for: Callable[[], str] | str, began: float) -> None:
        told, told_at = "", began
        while True:
            await asyncio.sleep(QUIET_S)
            text = waits_for if isinstance(waits_for, str) else waits_for()
            now = time.monotonic()
            if text and (text != told or now - told_at >= STILL_S):
                still = " (still)" if text == told else ""
                self.console.print(f"    {now - began:5.1f} s  {text}{still}", markup=False)
                told, told_at = text, now
