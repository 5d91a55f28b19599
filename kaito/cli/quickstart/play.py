"""play: runs the quickstart, and turns each way in which it may end into words and an exit code."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Coroutine
from typing import Any, NoReturn

import typer

from kaito.catalog import CatalogError
from kaito.cli.quickstart.errors import QuickstartError
from kaito.cli.quickstart.run import Quickstart, QuickstartOptions
from kaito.cli.quickstart.screen import Screen
from kaito.client.errors import KubeError
from kaito.devcluster.errors import DevClusterError
from kaito.oci.errors import OciError

_FAILURES = (QuickstartError, DevClusterError, KubeError, OciError, CatalogError)
_BY_SIGNAL = 128


def play(screen: Screen, options: QuickstartOptions) -> dict[str, object]:
    """Runs it; returns what came of it.

    Raises:
        typer.Exit: it failed (1), or was interrupted (130, 143). All that it started has ended by then.
    """
    interrupts = Interrupts(screen)
    try:
        return asyncio.run(interrupts.heeded(Quickstart(screen, options).run()))
    except _FAILURES as error:
        screen.failed(str(error))
        raise typer.Exit(1) from None
    except (KeyboardInterrupt, asyncio.CancelledError):
        screen.say("interrupted; everything was stopped")
        raise typer.Exit(_BY_SIGNAL + (interrupts.number or signal.SIGINT)) from None


class Interrupts:
    """SIGINT and SIGTERM: the first cancels the run, which then cleans up; the next ends the process at once.

    Args:
        screen: where it is said.

    Attributes:
        number: the first that came.
    """

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self.number: signal.Signals | None = None

    async def heeded(self, steps: Coroutine[Any, Any, dict[str, object]]) -> dict[str, object]:
        """Runs the steps, with the signals cancelling them."""
        task = asyncio.create_task(steps)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._take, number, task)
        return await task

    def _take(self, number: signal.Signals, task: asyncio.Task[dict[str, object]]) -> None:
        if self.number is not None:
            self._end_at_once(number)
        self.number = number
        self._screen.say("stopping everything; Ctrl-C once more does not wait for it")
        task.cancel()

    def _end_at_once(self, number: signal.Signals) -> NoReturn:
        self._screen.say("ended; what was started goes with it")
        self._screen.console.show_cursor()
        # Supervisors, processes of their own, kill what was started and remove its folders as soon as this one is gone.
        os._exit(_BY_SIGNAL + number)
