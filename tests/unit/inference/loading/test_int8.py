"""Linear layers in eight bits: close to what they were, and the same whatever is beside them."""

from __future__ import annotations

import gc
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from kaito.inference.loading import load_model
from kaito.inference.loading.int8 import Int8Linear, quantize
from kaito.inference.options import ModelOptions


@pytest.fixture(scope="module")
def pair() -> tuple[nn.Linear, Int8Linear]:
    torch.manual_seed(0)
    linear = nn.Linear(96, 40)
    return linear, Int8Linear(linear.weight, linear.bias)


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    """The same inputs each time."""
    torch.manual_seed(1)
    with torch.inference_mode():
        yield


def worst(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float(((found - expected).norm(dim=-1) / expected.norm(dim=-1)).max())


@pytest.mark.parametrize("shape", [(1, 96), (5, 96), (3, 7, 96), (1, 1, 96)])
def test_results_are_within_three_percent(pair: tuple[nn.Linear, Int8Linear], shape: tuple[int, ...]) -> None:
    x = torch.randn(shape)
    found = pair[1](x)
    assert found.shape == (*shape[:-1], 40)
    assert worst(found, pair[0](x)) < 0.03


def test_a_row_with_large_inputs_spoils_none_beside_it(pair: tuple[nn.Linear, Int8Linear]) -> None:
    x = torch.randn(4, 96) * torch.tensor([[1.0], [1000.0], [1e-4], [1.0]])
    assert worst(pair[1](x) - pair[0].bias, pair[0](x) - pair[0].bias) < 0.03


def test_a_row_is_the_same_to_the_bit_whatever_is_beside_it(pair: tuple[nn.Linear, Int8Linear]) -> None:
    x = torch.randn(16, 96) * 10 ** torch.linspace(-2, 2, 16)[:, None]
    together = pair[1](x)
    assert all(torch.equal(together[row : row + 1], pair[1](x[row : row + 1])) for row in range(16))


def test_inputs_and_weights_of_zero_are_zero() -> None:
    layer = Int8Linear(torch.zeros(4, 8), None)
    assert torch.equal(layer(torch.zeros(2, 8)), torch.zeros(2, 4))


def test_a_model_keeps_its_output_embeddings_and_little_else_in_full(tiny: Path) -> None:
    model = load_model(ModelOptions(str(tiny / "model"), dtype="int8"), lambda _: None).model
    assert [name for name, module in model.named_modules() if type(module) is nn.Linear] == ["lm_head"]
    assert sum(isinstance(module, Int8Linear) for module in model.modules()) == 8
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_its_answers_are_near_those_of_float32(tiny: Path) -> None:
    exact, int8 = (
        load_model(ModelOptions(str(tiny / "model"), dtype=dtype), lambda _: None).model
        for dtype in ("float32", "int8")
    )
    tokens = torch.randint(10, 400, (8, 32), generator=torch.Generator().manual_seed(0))
    expected, found = exact(tokens).logits, int8(tokens).logits
    assert (found - expected).norm() < 0.1 * expected.norm()
    assert (found.argmax(-1) == expected.argmax(-1)).float().mean() > 0.85


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_checkpoint_is_let_go_of(tiny: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny / "model", tmp_path / "model")
    file = str(tmp_path / "model" / "model.safetensors")
    loaded = load_model(ModelOptions(str(tmp_path / "model"), dtype="int8"), lambda _: None)
    gc.collect()
    assert file not in Path("/proc/self/maps").read_text()
    assert loaded.vocab_size > 0  # the model is still there


def test_conv1d_of_gpt2_is_quantised_too() -> None:
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=64, n_embd=32, n_layer=2, n_head=2)).eval()
    tokens = torch.arange(6)[None]
    expected = model(tokens).logits
    quantize(model)
    assert isinstance(model.transformer.h[0].attn.c_attn, Int8Linear)
    assert (model(tokens).logits - expected).norm() < 0.05 * expected.norm()
