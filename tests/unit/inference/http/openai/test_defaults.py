"""What a model's own generation_config.json says holds where a request says nothing."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from kaito.inference.http import make_app
from kaito.inference.http.settings import HttpSettings
from kaito.inference.options import EngineOptions, Limits, ModelOptions
from kaito.inference.requests import GenerationRequest
from kaito.inference.testing import tiny_model
from kaito.inference.transformers_runtime import TransformersRuntime
from tests.unit.inference.serving import serving


@pytest.fixture(scope="module")
async def runtime(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[TransformersRuntime]:
    """A model that asks to be drawn from its likeliest token alone, and has no chat template."""
    model = tiny_model(tmp_path_factory.mktemp("greedy"), layers=1, adapters={})
    config = model / "generation_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"do_sample": True, "top_k": 1, "temperature": 1.5}))
    (model / "chat_template.jinja").unlink()
    runtime = TransformersRuntime(ModelOptions(str(model), served_name="base"), EngineOptions(), Limits())
    await runtime.load()
    yield runtime
    await runtime.close()


@pytest.fixture(scope="module")
async def http(runtime: TransformersRuntime) -> AsyncIterator[aiohttp.ClientSession]:
    async with serving(make_app(runtime, HttpSettings())) as address, aiohttp.ClientSession(address) as http:
        yield http


async def complete(http: aiohttp.ClientSession, **fields: Any) -> str:
    async with http.post("/v1/completions", json={"prompt": "fox", "max_tokens": 12, **fields}) as response:
        return str((await response.json())["choices"][0]["text"])


async def test_the_model_s_own_defaults_hold_until_a_request_says_otherwise(http: aiohttp.ClientSession) -> None:
    greedy = await complete(http, temperature=0)
    assert await complete(http) == greedy
    assert len({await complete(http, top_k=0, seed=seed) for seed in range(3)} - {greedy}) > 1


async def test_a_chat_with_a_model_that_has_no_template_is_refused_with_what_to_do(
    http: aiohttp.ClientSession,
) -> None:
    body = {"messages": [{"role": "user", "content": "fox"}]}
    async with http.post("/v1/chat/completions", json=body) as response:
        error = (await response.json())["error"]
    assert (response.status, error["param"]) == (400, "messages")
    assert "/v1/completions" in error["message"]


async def test_what_came_while_nobody_looked_is_one_delta(runtime: TransformersRuntime) -> None:
    prompt = runtime.tokenizer().encode("fox")
    request = GenerationRequest(prompt, 8, ignore_eos=True)
    late, timely = await runtime.submit([request, request])
    assert len([delta async for delta in timely]) > 0
    [delta] = [delta async for delta in late]
    assert (len(delta.tokens), delta.finish_reason) == (8, "length")
