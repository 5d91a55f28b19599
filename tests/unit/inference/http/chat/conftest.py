"""A server of the tiny model with both adapters, and transformers' own pipeline on the same model."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from transformers import pipeline

from kaito.inference.http import make_app
from kaito.inference.http.settings import HttpSettings
from kaito.inference.options import EngineOptions, Limits, ModelOptions
from kaito.inference.transformers_runtime import TransformersRuntime
from tests.unit.inference.serving import serving

Ask = Callable[..., Awaitable[tuple[int, Any]]]


@pytest.fixture(scope="session")
async def chat_address(tiny: Path) -> AsyncIterator[str]:
    """Where the tiny model is served, with the adapters ``one`` at 1.0 and ``two`` at 0.5."""
    model = ModelOptions(str(tiny / "model"), adapters=tiny / "adapters", strengths={"two": 0.5}, dtype="float32")
    runtime = TransformersRuntime(model, EngineOptions(max_num_seqs=8), Limits())
    await runtime.load()
    async with serving(make_app(runtime, HttpSettings())) as address:
        yield address
    await runtime.close()


@pytest.fixture
async def session(chat_address: str) -> AsyncIterator[aiohttp.ClientSession]:
    """A client of it."""
    async with aiohttp.ClientSession(chat_address, timeout=aiohttp.ClientTimeout(20)) as session:
        yield session


@pytest.fixture
def ask(session: aiohttp.ClientSession) -> Ask:
    """Sends a body to /chat, of the base model alone unless it says otherwise; gives status and answer."""

    async def ask(**body: Any) -> tuple[int, Any]:
        async with session.post("/chat", json={"lora": [], **body}) as answer:
            return answer.status, await answer.json()

    return ask


@pytest.fixture(scope="session")
def original(tiny: Path) -> Any:
    """transformers' pipeline, called as the first KAITO called it, greedily unless told otherwise."""
    generate = pipeline("text-generation", model=str(tiny / "model"), device="cpu")

    def call(text: Any, **kwargs: Any) -> Any:
        return generate(text, **{"do_sample": False, "max_length": 200, **kwargs})

    return call
