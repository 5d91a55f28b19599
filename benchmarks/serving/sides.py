"""The servers: ours, and `transformers serve` with and without its continuous batching."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path

import aiohttp

from benchmarks.processes import Child, child
from benchmarks.serving.load import TIMEOUT_S, Figures, load, over_http
from benchmarks.serving.workload import requests
from kaito.devcluster.ports import free_port

OURS, BATCHING, PLAIN, BARE = "ours", "transformers-batching", "transformers-plain", "bare"
SERVERS = (OURS, BATCHING, PLAIN)

_START_TIMEOUT_S = 180.0
_POLL_S = 0.1
# What the server's command sets, too.
_AS_SERVED = {"OMP_WAIT_POLICY": "passive", "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "256"}
_TRANSFORMERS = ("-m", "transformers.cli.transformers", "serve")


def command(side: str, model: Path, port: int, most: int) -> list[str]:
    """What starts a side.

    Args:
        side: one of `SERVERS`.
        model: the model's folder.
        port: to listen on.
        most: requests at once that it shall not keep waiting.
    """
    if side == OURS:
        served = ("-m", "kaito.inference", "--model", str(model), "--host", "127.0.0.1", "--port", str(port))
        return [sys.executable, *served, "--max-num-seqs", str(most), "--served-model-name", "bench"]
    serve = [sys.executable, *_TRANSFORMERS, str(model), "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    if side == PLAIN:
        return serve
    # Without these it takes 60 % of the machine's memory for its cache and half a minute to start.
    pages = ("--cb-block-size", "32", "--cb-num-blocks", str(16 * most), "--cb-max-batch-tokens", "512")
    return [*serve, "--continuous-batching", *pages]


@asynccontextmanager
async def serving(side: str, model: Path, most: int, *flags: str) -> AsyncIterator[tuple[Child, aiohttp.ClientSession]]:
    """A server that answers, and a session with it; ends with the block.

    Args:
        side: one of `SERVERS`.
        model: the model's folder.
        most: requests at once that it shall not keep waiting.
        flags: more of the server's own.
    """
    port = free_port()
    environment = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
    async with child(side, [*command(side, model, port, most), *flags], environment) as server:
        base, timeout = f"http://127.0.0.1:{port}", aiohttp.ClientTimeout(total=TIMEOUT_S)
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(base, timeout=timeout, connector=connector) as session:
            await _healthy(side, session)
            yield server, session
        # Only now: some do not end while somebody is connected.
        server.send(signal.SIGTERM)


async def _healthy(side: str, session: aiohttp.ClientSession) -> None:
    async with asyncio.timeout(_START_TIMEOUT_S):
        while True:
            try:
                async with session.get("/health") as response:
                    if response.status == 200:
                        return
            except aiohttp.ClientConnectionError:
                pass
            await asyncio.sleep(_POLL_S)


async def measure(side: str, model: Path, concurrency: int, count: int, seed: int, most: int) -> Figures:
    """Starts a side, warms it up, loads it once."""
    if side == BARE:
        return await _bare(model, concurrency, count, seed)
    async with serving(side, model, most) as (_, session):
        name = "bench" if side == OURS else str(model)
        ask = over_http(session, name)
        await load(ask, requests(concurrency, seed=-1), concurrency)
        return await load(ask, requests(count, seed), concurrency)


async def _bare(model: Path, concurrency: int, count: int, seed: int) -> Figures:
    arguments = [str(value) for value in (model, concurrency, count, seed, 1)]
    async with child(BARE, [sys.executable, "-m", "benchmarks.serving.bare", *arguments], dict(_AS_SERVED)) as engine:
        said = await engine.expect("figures", TIMEOUT_S)
        return Figures(**{name: said[name] for name in asdict(Figures(0, 0, 0, 0, 0, 0))})


def threads() -> int:
    """CPUs that every side may use."""
    return len(os.sched_getaffinity(0))
