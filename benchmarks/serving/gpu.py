"""A Phi-3-mini of random weights in bfloat16 on a GPU, beside what the GPU's memory allows."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
from safetensors.torch import save_file
from transformers import Phi3Config, Phi3ForCausalLM

from benchmarks.serving.load import load, over_http
from benchmarks.serving.sides import serving
from benchmarks.serving.workload import requests
from kaito.inference.testing import tiny_model

CONCURRENCIES = (1, 4, 16)
_COPIED_BYTES = 2**30
_COPIES = 20
# Long enough that what is measured is decoding.
_TOKENS = (256, 256)


@dataclass(frozen=True, slots=True)
class GpuFigures:
    """What was measured.

    Attributes:
        bandwidth_gb_s: of the memory, reading and writing, as a large copy does both.
        bound_tokens_per_s: at batch 1, if each token did nothing but read all weights once.
        tokens_per_s: over HTTP, by requests at once.
    """

    bandwidth_gb_s: float
    bound_tokens_per_s: float
    tokens_per_s: dict[int, float]


def phi_3_mini(directory: Path, config: Phi3Config | None = None) -> Path:
    """Writes a model of random bfloat16 weights; by default of Phi-3-mini's dimensions, 3.8 billion parameters.

    Returns:
        Its folder.
    """
    folder = tiny_model(directory, adapters={})
    config = config or Phi3Config()
    _widen_vocabulary(folder / "tokenizer.json", config.vocab_size)
    tiny = json.loads((folder / "config.json").read_text())
    for name in ("bos_token_id", "eos_token_id", "pad_token_id", "architectures"):
        setattr(config, name, tiny[name])
    config.dtype = torch.bfloat16
    with torch.device("meta"):
        model = Phi3ForCausalLM(config)
    generator = torch.Generator().manual_seed(0)
    weights = {
        name: torch.empty(value.shape, dtype=torch.bfloat16).normal_(0.0, 0.02, generator=generator)
        if value.dim() > 1
        else torch.ones(value.shape, dtype=torch.bfloat16)
        for name, value in model.state_dict().items()
    }
    config.save_pretrained(folder)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


async def measure_gpu(model: Path, runs: int, device: str, tell: Callable[[str], None]) -> GpuFigures:
    """Serves the model on a device and loads it.

    Args:
        model: its folder.
        runs: medians of so many.
        device: as the server's ``--device``.
        tell: told what has been done.
    """
    bandwidth = _bandwidth(device)
    weights = (model / "model.safetensors").stat().st_size
    rates: dict[int, list[float]] = {at: [] for at in CONCURRENCIES}
    async with serving("ours", model, max(CONCURRENCIES), "--device", device, "--dtype", "bfloat16") as (_, session):
        ask = over_http(session, "bench")
        await load(ask, requests(max(CONCURRENCIES), seed=-1), max(CONCURRENCIES))
        for number in range(1, runs + 1):
            for at, measured in rates.items():
                one = await load(ask, requests(2 * at, seed=number, tokens=_TOKENS), at)
                measured.append(one.tokens_per_s)
                tell(f"run {number} at {at}: {one.tokens_per_s:.0f} tokens/s")
    found = {at: round(median(measured), 1) for at, measured in rates.items()}
    return GpuFigures(round(bandwidth / 1e9, 1), round(bandwidth / weights, 1), found)


def _widen_vocabulary(tokenizer: Path, size: int) -> None:
    """Gives each token of the model a text, so that each comes out of the server as one."""
    told = json.loads(tokenizer.read_text())
    vocabulary = told["model"]["vocab"]
    told["model"]["vocab"] = vocabulary | {f"w{token}": token for token in range(len(vocabulary), size)}
    tokenizer.write_text(json.dumps(told))


def _bandwidth(device: str) -> float:
    """Bytes a second that a large copy reads and writes."""
    source = torch.zeros(_COPIED_BYTES, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    timings = [_copy_s(source, target) for _ in range(_COPIES)]
    return 2 * _COPIED_BYTES / _settled(timings)


def _copy_s(source: torch.Tensor, target: torch.Tensor) -> float:
    if source.is_cuda:
        torch.cuda.synchronize()
    began = time.perf_counter()
    target.copy_(source)
    if source.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - began


def _settled(timings: Sequence[float]) -> float:
    """Their median but for the first, which pays for what all use."""
    return median(timings[1:])
