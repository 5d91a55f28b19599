"""The runtime `transformers`: its model's names, its answers as text, and transformers' own `generate`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import torch

from kaito.inference.engine import choice
from kaito.inference.errors import BadRequest, ContextLengthExceeded, RequestTimeout, StartError, Unavailable
from kaito.inference.loading.placement import free_memory
from kaito.inference.options import EngineOptions, Limits, ModelOptions
from kaito.inference.requests import GenerationRequest, Sampling
from kaito.inference.runtime import State, WithTransformers
from kaito.inference.transformers_runtime import TransformersRuntime
from tests.unit.inference.engine.machine import machine_with

_GREEDY = Sampling(temperature=0.0)


@pytest.fixture(scope="module")
async def runtime(tiny: Path) -> AsyncIterator[TransformersRuntime]:
    """A runtime that is ready."""
    options = ModelOptions(str(tiny / "model"), adapters=tiny / "adapters", strengths={"two": 0.5})
    runtime = TransformersRuntime(options, EngineOptions(max_num_seqs=2, max_model_len=512, threads=1), Limits())
    await runtime.load()
    yield runtime
    await runtime.close()


async def test_it_serves_the_base_model_and_each_adapter(runtime: TransformersRuntime) -> None:
    assert [(each.name, each.parent, each.strength, each.max_model_len) for each in runtime.models()] == [
        ("model", None, None, 512),
        ("one", "model", 1.0, 512),
        ("two", "model", 0.5, 512),
    ]


async def test_an_adapter_with_the_models_name_is_refused(tiny: Path) -> None:
    options = ModelOptions(str(tiny / "model"), served_name="one", adapters=tiny / "adapters")
    runtime = TransformersRuntime(options, EngineOptions(threads=1), Limits())
    with pytest.raises(StartError, match=r"adapter one has the name of the model.*--served-model-name"):
        await runtime.load()
    await runtime.close()


async def test_before_it_is_loaded_nothing_can_be_asked_for(tiny: Path) -> None:
    runtime = TransformersRuntime(ModelOptions(str(tiny / "model")), EngineOptions(threads=1), Limits())
    assert runtime.status().state is State.LOADING
    assert runtime.models() == ()
    with pytest.raises(Unavailable, match="loading"):
        await runtime.submit([GenerationRequest((5,), 3)])
    await runtime.close()


async def test_a_generation_that_is_left_gives_its_slot_back(runtime: TransformersRuntime) -> None:
    held = await runtime.submit([GenerationRequest((5,), 500, sampling=_GREEDY, ignore_eos=True) for _ in range(2)])
    await anext(held[0])
    [waits] = await runtime.submit([GenerationRequest((6,), 3, sampling=_GREEDY, ignore_eos=True)])
    await held[0].aclose()
    deltas = [delta async for delta in waits]
    assert deltas[-1].finish_reason == "length"
    await held[1].aclose()


async def test_a_request_that_takes_too_long_raises_a_timeout(tiny: Path) -> None:
    runtime = TransformersRuntime(
        ModelOptions(str(tiny / "model")), EngineOptions(threads=1), Limits(request_timeout_s=0.1)
    )
    await runtime.load()
    [generation] = await runtime.submit([GenerationRequest((5,), 2000, sampling=_GREEDY, ignore_eos=True)])
    with pytest.raises(RequestTimeout, match=r"longer than 0\.1 s"):
        async for _ in generation:
            pass
    with pytest.raises(RequestTimeout, match=r"longer than 0\.1 s"):
        await runtime.generate_with_transformers([5], {"max_new_tokens": 2000, "num_beams": 2, "eos_token_id": 485}, {})
    await runtime.close()


def own(runtime: TransformersRuntime, prompt: list[int], adapters: dict[str, float], **kwargs: Any) -> list[list[int]]:
    """What transformers says itself."""
    assert runtime._loaded is not None
    assert runtime._adapters is not None
    tokens = torch.tensor([prompt])
    with torch.inference_mode(), runtime._adapters.applied(runtime._adapters.weights([adapters])):
        out = runtime._loaded.model.generate(tokens, attention_mask=torch.ones_like(tokens), **kwargs)
    rows: list[list[int]] = out[:, len(prompt) :].tolist()
    return rows


@pytest.mark.parametrize("adapters", [{}, {"one": 0.8, "two": -1.0}], ids=["base", "adapters"])
async def test_beams_are_those_of_transformers_while_other_requests_run(
    runtime: TransformersRuntime, adapters: dict[str, float]
) -> None:
    assert isinstance(runtime, WithTransformers)
    kwargs = {"num_beams": 3, "num_return_sequences": 2, "max_new_tokens": 12, "eos_token_id": 485}
    wanted = own(runtime, [5, 6, 7], adapters, **kwargs)
    alone = own(runtime, [8], {"one": 1.0}, max_new_tokens=30, do_sample=False, eos_token_id=None)
    [beside] = await runtime.submit(
        [GenerationRequest((8,), 30, sampling=_GREEDY, ignore_eos=True, adapters={"one": 1.0})]
    )
    first = await anext(beside)
    assert await runtime.generate_with_transformers([5, 6, 7], kwargs, adapters) == wanted
    tokens = [*first.tokens, *[token async for delta in beside for token in delta.tokens]]
    assert [tokens] == alone


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"no_such_thing": 1}, "no_such_thing"),
        ({"num_beams": 2, "num_return_sequences": 3}, "num_return_sequences"),
        ({"temperature": "hot", "do_sample": True}, "temperature"),
        ({"custom_generate": "somebody/repository"}, r"generate_kwargs\.custom_generate cannot be set"),
        ({"num_beams": 100000}, "from 1 to 64"),
        ({"max_new_tokens": "many"}, "whole number"),
    ],
)
async def test_what_transformers_refuses_is_a_bad_request_in_its_words(
    runtime: TransformersRuntime, kwargs: dict[str, Any], words: str
) -> None:
    with pytest.raises(BadRequest, match=words):
        await runtime.generate_with_transformers([5, 6], kwargs, {})


async def test_lengths_beyond_the_context_are_refused_for_transformers_too(runtime: TransformersRuntime) -> None:
    with pytest.raises(ContextLengthExceeded):
        await runtime.generate_with_transformers([5, 6], {"num_beams": 2, "max_length": 513}, {})


async def test_beams_that_memory_does_not_hold_are_refused(
    runtime: TransformersRuntime, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # Two layers of two heads of 16 numbers, keys and values, 4 bytes each, for 4 beams of 100 tokens.
    there = machine_with(tmp_path, available=1 << 40, limit=int(4 * 100 * 512 / 0.8) + 1)
    monkeypatch.setattr(choice, "free_memory", lambda: free_memory(there))
    kwargs = {"num_beams": 4, "max_new_tokens": 98, "eos_token_id": 485}
    assert len((await runtime.generate_with_transformers([5, 6], kwargs, {}))[0]) == 98
    with pytest.raises(BadRequest, match=r"num_beams is 4: so many .* of 101 tokens are 404 .* holds 400 now"):
        await runtime.generate_with_transformers([5, 6, 7], kwargs, {})


async def test_a_cancelled_call_of_transformers_leaves_the_engine_free(runtime: TransformersRuntime) -> None:
    call = asyncio.create_task(
        runtime.generate_with_transformers([5], {"max_new_tokens": 500, "num_beams": 2, "eos_token_id": 485}, {})
    )
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    [generation] = await runtime.submit([GenerationRequest((6,), 2, sampling=_GREEDY, ignore_eos=True)])
    assert [delta async for delta in generation][-1].finish_reason == "length"
