"""A server on a socket of its own, and OpenAI's client of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from openai import AsyncOpenAI

from kaito.inference.http import make_app
from kaito.inference.http.settings import HttpSettings
from kaito.inference.options import EngineOptions, Limits, ModelOptions
from kaito.inference.transformers_runtime import TransformersRuntime
from tests.unit.inference.serving import serving


@pytest.fixture(scope="session")
async def runtime(tiny: Path) -> AsyncIterator[TransformersRuntime]:
    """The tiny model as ``base``, with its adapters ``one`` at 1.0 and ``two`` at 0.5."""
    model = ModelOptions(
        str(tiny / "model"), served_name="base", adapters=tiny / "adapters", strengths={"two": 0.5}, dtype="float32"
    )
    runtime = TransformersRuntime(model, EngineOptions(max_num_seqs=8), Limits())
    await runtime.load()
    yield runtime
    await runtime.close()


@pytest.fixture(scope="session")
async def address(runtime: TransformersRuntime) -> AsyncIterator[str]:
    """Where it is served."""
    async with serving(make_app(runtime, HttpSettings())) as address:
        yield address


@pytest.fixture
async def client(address: str) -> AsyncIterator[AsyncOpenAI]:
    """OpenAI's own client, which tries nothing twice."""
    async with AsyncOpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0, timeout=10) as client:
        yield client
