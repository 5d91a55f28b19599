"""vLLM's process: started, its output told in our log, ended; it never outlives us."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import importlib.util
import logging
import os
import shutil
import socket
import sys
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import Mapping, Sequence
from pathlib import Path

from kaito.inference.errors import StartError

_log = logging.getLogger(__name__)
_WATCHDOG = Path(__file__).with_name("watchdog.py")
_KEPT_LINES = 20
_LONGEST_LINE = 64 * 1024
_OUTPUT_S = 2.0
"""For the last of its output, once it has ended."""


def command() -> list[str]:
    """What starts vLLM's server here.

    Raises:
        StartError: vLLM is not installed.
    """
    if executable := shutil.which("vllm"):
        return [executable, "serve"]
    if importlib.util.find_spec("vllm") is not None:
        return [sys.executable, "-m", "vllm.entrypoints.cli.main", "serve"]
    raise StartError(
        "the runtime vllm needs vLLM, and there is neither a command `vllm` nor a package; "
        "use an image with vLLM in it, or --runtime transformers"
    )


def reserve_port() -> socket.socket:
    """A socket that holds a free port of loopback, on which nobody listens: vLLM binds it, too, as it shares ports."""
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    held.bind(("127.0.0.1", 0))
    return held


class Child:
    """The running process; `start` makes one."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._lines: collections.deque[str] = collections.deque(maxlen=_KEPT_LINES)
        self._output = asyncio.create_task(self._forward(), name="vllm output")

    @classmethod
    async def start(cls, arguments: Sequence[str], environment: Mapping[str, str]) -> Child:
        """Starts it under a watchdog, which ends it when we end, however we do.

        Args:
            arguments: the command.
            environment: variables beside our own.
        """
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", str(_WATCHDOG), *arguments),
            stdin=PIPE,
            stdout=PIPE,
            stderr=STDOUT,
            env={**os.environ, **environment},
            limit=_LONGEST_LINE,
            # Ctrl-C in a terminal is for us, who then end it in order.
            start_new_session=True,
        )
        return cls(process)

    @property
    def last_line(self) -> str:
        """What it said last."""
        return self._lines[-1] if self._lines else ""

    @property
    def output(self) -> str:
        """Its last lines."""
        return "\n".join(self._lines)

    async def wait(self) -> int:
        """Waits for its end, and that of its output; its exit status, 128 + N for a signal."""
        status = await self._process.wait()
        # A process of its own making that got away may hold the other end.
        await asyncio.wait([self._output], timeout=_OUTPUT_S)
        self._output.cancel()
        return status

    async def stop(self, grace_s: float) -> None:
        """SIGTERM; SIGKILL to it and its processes if it takes longer."""
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        try:
            async with asyncio.timeout(grace_s):
                await self.wait()
        except TimeoutError:
            _log.warning("vllm: did not end in %.0f s after SIGTERM; it is killed", grace_s)
        finally:
            self._kill()
            await self.wait()

    def _kill(self) -> None:
        # The watchdog takes the end of its input for ours, and kills the whole group.
        assert self._process.stdin is not None
        self._process.stdin.close()

    async def _forward(self) -> None:
        output = self._process.stdout
        assert output is not None
        while True:
            try:
                raw = await output.readuntil(b"\n")
            except asyncio.IncompleteReadError as end:
                raw = end.partial
                if not raw:
                    return
            except asyncio.LimitOverrunError as too_long:
                raw = await output.readexactly(too_long.consumed)
            # A progress bar writes its states over each other: the last one is what one sees.
            line = raw.decode(errors="replace").rstrip().rpartition("\r")[2].rstrip()
            if line:
                self._lines.append(line)
                _log.info("vllm: %s", line)
