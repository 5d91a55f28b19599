"""Packed linear layers compute what plain ones do."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM

from kaito.inference.engine.packing import PackedLinear, pack
from tests.unit.inference.engine.machine import machine_with


@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (16, 1), (3, 7), (2, 100)])
@pytest.mark.parametrize("bias", [True, False])
def test_a_packed_layer_gives_what_a_plain_one_gives(shape: tuple[int, int], bias: bool) -> None:
    linear = nn.Linear(96, 33, bias=bias)
    input = torch.randn(*shape, 96)
    with torch.inference_mode():
        torch.testing.assert_close(PackedLinear(linear)(input), linear(input), rtol=1e-5, atol=1e-5)


def test_a_packed_layer_still_has_gradients() -> None:
    input = torch.randn(4, 96, requires_grad=True)
    PackedLinear(nn.Linear(96, 33))(input).sum().backward()
    assert input.grad is not None


def test_a_model_is_packed_only_where_there_is_memory_for_a_second_copy(tiny: Path, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny / "model")
    assert not pack(model, machine_with(tmp_path, available=1 << 33, limit=100_000))
    assert not any(isinstance(module, PackedLinear) for module in model.modules())
    assert pack(model)
    linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
    assert linear
    assert all(isinstance(module, PackedLinear) for module in linear)
