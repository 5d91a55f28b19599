"""The sampler as the engine uses it."""

from __future__ import annotations

import torch

from kaito.inference.engine import TokenRequest
from kaito.inference.requests import Sampling
from kaito.inference.sampling import Sampler


def request(sampling: Sampling, *, logprobs: int | None = None, min_tokens: int = 0) -> TokenRequest:
    return TokenRequest((1, 2, 3), 100, min_tokens, frozenset({0}), sampling, logprobs, {})


def test_without_temperature_the_likeliest_token_comes() -> None:
    logits = torch.randn(3, 100, generator=torch.Generator().manual_seed(0))
    sampler = Sampler(100)
    for row in range(3):
        sampler.add(row, request(Sampling(temperature=0)))
    assert [chosen.token for chosen in sampler.choose([0, 1, 2], logits)] == logits.argmax(-1).tolist()
