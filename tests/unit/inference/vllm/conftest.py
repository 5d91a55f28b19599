"""The stand-in for vLLM, first in PATH, and a line to it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from kaito.inference.options import EngineOptions, Limits, ModelOptions
from kaito.inference.vllm.options import VllmOptions
from kaito.inference.vllm.runtime import VllmRuntime

STAND_IN = Path(__file__).with_name("stand_in.py")


class Line:
    """What the stand-in says, and what it is told."""

    def __init__(self) -> None:
        self._events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._told: asyncio.Queue[None] = asyncio.Queue()
        self._writer: asyncio.StreamWriter | None = None

    def __len__(self) -> int:
        """Events that nobody has asked for."""
        return self._events.qsize()

    async def event(self, kind: str) -> dict[str, Any]:
        """The next event of a kind; those before it are forgotten."""
        async with asyncio.timeout(20):
            while (event := await self._events.get())["event"] != kind:
                pass
        return event

    async def tell(self, **what: Any) -> None:
        """Tells it something, and waits until it has heard it."""
        assert self._writer is not None
        self._writer.write(json.dumps(what).encode() + b"\n")
        async with asyncio.timeout(20):
            await self._told.get()

    async def reset(self) -> None:
        """Forgets all events so far, and what was told."""
        await self.tell(next={}, unwell=False, waiting=0, held=None)
        while not self._events.empty():
            self._events.get_nowait()

    async def follow(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A connection of the stand-in."""
        self._writer = writer
        while line := await reader.readline():
            if (event := json.loads(line))["event"] == "told":
                self._told.put_nowait(None)
            else:
                self._events.put_nowait(event)
        writer.close()


@contextlib.asynccontextmanager
async def stand_in(folder: Path) -> AsyncIterator[Line]:
    """Makes the stand-in what `vllm` in PATH is."""
    program = folder / "bin" / "vllm"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {STAND_IN} "$@"\n')
    program.chmod(0o755)
    line = Line()
    server = await asyncio.start_unix_server(line.follow, folder / "line")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
        environment.setenv("STAND_IN", str(folder / "line"))
        yield line
    server.close()
    await server.wait_closed()


@pytest.fixture
async def line(tmp_path: Path) -> AsyncIterator[Line]:
    """The stand-in for one test, which may end it."""
    async with stand_in(tmp_path) as line:
        yield line


@pytest.fixture(scope="module")
async def shared(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[VllmRuntime, Line]]:
    """A runtime with adapters, one of them at 0.8, for tests that leave it well."""
    async with stand_in(tmp_path_factory.mktemp("stand-in")) as line:
        runtime = runtime_of(tiny, strengths={"one": 0.8})
        await runtime.load()
        yield runtime, line
        await runtime.close()


@pytest.fixture
async def well(shared: tuple[VllmRuntime, Line]) -> tuple[VllmRuntime, Line]:
    """The shared one, and the line to its stand-in, on which nothing is left of other tests."""
    runtime, line = shared
    await line.reset()
    return runtime, line


async def until(condition: Callable[[], bool]) -> None:
    """Waits until something is so that nothing tells of."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0)


def runtime_of(
    tiny: Path,
    *,
    strengths: dict[str, float] | None = None,
    limits: Limits | None = None,
    adapters: bool = True,
    **options: Any,
) -> VllmRuntime:
    """A runtime of the tiny model, not loaded yet."""
    model = ModelOptions(
        str(tiny / "model"),
        served_name="base",
        adapters=tiny / "adapters" if adapters else None,
        strengths=strengths or {},
    )
    return VllmRuntime(model, EngineOptions(), limits or Limits(), VllmOptions(**{"poll_s": 0.02, **options}))
