"""The slot cache: room that grows, rows that forget."""

from __future__ import annotations

import pytest
import torch

from kaito.inference.engine.slots import SlotCache


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
