"""The slot cache: room that grows, rows that forget."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from kaito.inference.engine.lane import SlotLane
from kaito.inference.engine.slots import SlotCache
from tests.unit.inference.engine.driver import Answer, generated, loaded_of, request_of, running


def test_a_cache_grows_with_what_is_in_it_and_keeps_it() -> None:
    cache = SlotCache(layers=1, max_rows=16, max_length=4096)
    [layer] = cache.layers
    layer.lazy_initialization(torch.zeros(1, 2, 1, 4), torch.zeros(1, 2, 1, 4))
    before = cache.nbytes()
    layer.keys[3, :, 200] = 5.0
    cache.reserve(2, 100)
    assert cache.nbytes() == before
    cache.reserve(5, 300)
    assert (cache.rows, cache.capacity) == (8, 512)
    assert layer.keys[3, :, 200].eq(5.0).all()
    assert layer.keys.sum() == 5.0 * 8
    cache.reserve(16, 4096)
    assert (cache.rows, cache.capacity) == (16, 4096)


def test_a_cache_that_grew_can_be_as_small_as_at_first() -> None:
    cache = SlotCache(layers=2, max_rows=16, max_length=4096)
    for layer in cache.layers:
        layer.lazy_initialization(torch.zeros(1, 2, 1, 4), torch.zeros(1, 2, 1, 8))
    before = cache.nbytes()
    cache.reserve(9, 4096)
    cache.shrink()
    assert (cache.rows, cache.capacity, cache.nbytes()) == (4, 256, before)
    cache.reserve(5, 300)
    assert [layer.keys.shape for layer in cache.layers] == [(8, 2, 512, 4)] * 2
    assert [layer.values.shape for layer in cache.layers] == [(8, 2, 512, 8)] * 2


def test_what_a_row_held_is_gone_for_the_next_one() -> None:
    cache = SlotCache(layers=1, max_rows=4, max_length=64)
    [layer] = cache.layers
    layer.lazy_initialization(torch.zeros(1, 2, 1, 4), torch.zeros(1, 2, 1, 4))
    layer.keys[1, :, :9] = torch.nan
    layer.values[1, :, :9] = torch.inf
    cache.move(1, 2, 9)
    assert layer.keys[2, :, :9].isnan().all()
    cache.clear(1, 9)
    cache.clear(2, 9)
    assert layer.keys.eq(0).all()
    assert layer.values.eq(0).all()


def test_room_that_could_be_made_for_some_layers_only_costs_nobody_later() -> None:
    cache = SlotCache(layers=2, max_rows=4, max_length=1 << 16)
    first, second = cache.layers
    for layer in cache.layers:
        layer.lazy_initialization(torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 1, 1))
    first.keys[0, 0, 5] = 7.0
    sound = second.keys
    # Of so many heads that no machine has the memory, though it takes none so far.
    second.keys = torch.zeros(1).expand(4, 1 << 40, 256, 1)
    with pytest.raises(RuntimeError, match=r"memory|overflow"):
        cache.reserve(4, 1 << 16)
    second.keys = sound
    cache.reserve(4, 512)
    assert cache.capacity == 512
    assert all(layer.keys.shape[2] >= 512 for layer in cache.layers)
    assert first.keys[0, 0, 5] == 7.0


async def test_an_engine_that_has_rested_for_a_while_gives_back_what_long_sequences_took(tiny: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny / "model").eval()
    prompt = [7 + index % 200 for index in range(600)]
    wanted = generated(model, prompt, 4)
    async with running(loaded_of(model, tiny, 2048)) as engine:
        engine._worker._rest_after_s = 0.0
        for _ in range(2):
            answer = Answer(engine, request_of(prompt, 4))
            await answer.end()
            assert answer.tokens == wanted
            [cache] = [lane._cache for lane in engine._worker._lanes if isinstance(lane, SlotLane)]
            for _ in range(1_000_000):
                if cache.nbytes() == 4 * 256 * 512:
                    break
                await asyncio.sleep(0)
            assert cache.nbytes() == 4 * 256 * 512
