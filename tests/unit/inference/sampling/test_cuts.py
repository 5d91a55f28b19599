"""The cuts against transformers' own, and what is drawn from what they leave."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.generation import logits_process

from kaito.inference.requests import Sampling
from kaito.inference.sampling.cuts import Cuts, draw_all, draw_top, keep

HUNDREDTHS = st.integers(1, 100).map(lambda number: number / 100)
SAMPLINGS = st.builds(
    Sampling,
    temperature=st.integers(5, 400).map(lambda number: number / 100),
    top_k=st.integers(0, 60),
    top_p=HUNDREDTHS,
    min_p=st.sampled_from([0.0, 0.01, 0.1, 0.5, 1.0]),
    typical_p=st.sampled_from([1.0, 1.0, 0.2, 0.5, 0.9, 0.99]),
)


def logits_of(seed: int, size: int, *, rows: int = 1, step: float | None = None) -> torch.Tensor:
    """Random ones; with a step, many of them are equal."""
    logits = torch.randn(rows, size, generator=torch.Generator().manual_seed(seed)) * 3
    return logits if step is None else (logits / step).round() * step


def transformers_cuts(logits: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """Probabilities as `generate` has them, its warpers in its order."""
    ids = torch.zeros((1, 1), dtype=torch.int64)
    warpers = [logits_process.TemperatureLogitsWarper(sampling.temperature)]
    if sampling.top_k:
        warpers.append(logits_process.TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1:
        warpers.append(logits_process.TopPLogitsWarper(sampling.top_p))
    if sampling.min_p:
        warpers.append(logits_process.MinPLogitsWarper(sampling.min_p))
    if sampling.typical_p < 1:
        warpers.append(logits_process.TypicalLogitsWarper(sampling.typical_p))
    scores = logits[None]
    for warper in warpers:
        scores = warper(ids, scores)
    return scores[0].softmax(-1)


def kept(logits: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """Of one row."""
    return keep(logits[None], columns([sampling], len(logits)))[0]


def columns(samplings: list[Sampling], size: int) -> Cuts:
    return Cuts.of(samplings, size, torch.device("cpu"))


@given(st.integers(0, 10**6), st.integers(2, 300), SAMPLINGS)
def test_what_is_kept_is_what_transformers_keeps(seed: int, size: int, sampling: Sampling) -> None:
    [logits] = logits_of(seed, size)
    weights = kept(logits, sampling)
    torch.testing.assert_close(weights / weights.sum(), transformers_cuts(logits, sampling), rtol=1e-4, atol=1e-6)


@given(st.integers(0, 10**6), st.integers(2, 300), SAMPLINGS)
def test_of_equally_likely_tokens_all_stay_or_none(seed: int, size: int, sampling: Sampling) -> None:
    [logits] = logits_of(seed, size, step=0.5)
    weights = kept(logits, sampling)
    assert not set(logits[weights > 0].tolist()) & set(logits[weights == 0].tolist())


@given(st.integers(0, 10**6), st.integers(2, 300), st.integers(0, 60), HUNDREDTHS)
def test_beside_equally_likely_ones_nothing_more_stays_than_with_transformers(
    seed: int, size: int, top_k: int, top_p: float
) -> None:
    sampling = Sampling(top_k=top_k, top_p=top_p)
    [logits] = logits_of(seed, size, step=0.5)
    ours, theirs = kept(logits, sampling) > 0, transformers_cuts(logits, sampling) > 0
    assert ours[theirs].all()
    assert set(logits[ours].tolist()) == set(logits[theirs].tolist())


@given(
    st.integers(0, 10**6),
    st.integers(65, 300),
    st.lists(SAMPLINGS, min_size=1, max_size=6),
    st.booleans(),
    st.sampled_from([None, 0.05, 0.5]),
)
def test_many_rows_at_once_draw_what_each_would_alone(
    seed: int, size: int, samplings: list[Sampling], by_rank: bool, step: float | None
) -> None:
    samplings = [
        Sampling(each.temperature, top_k=each.top_k or 7, top_p=each.top_p, min_p=each.min_p)
        if by_rank
        else Sampling(each.temperature, top_p=min(each.top_p, 0.99), min_p=each.min_p)
        for each in samplings
    ]
    logits = logits_of(seed, size, rows=len(samplings), step=step)
    uniform = torch.rand((len(samplings), 1), generator=torch.Generator().manual_seed(seed)).clamp(min=1e-6)
    drawn = draw_top(logits, columns(samplings, size), uniform, width=64)
    for row, sampling in enumerate(samplings):
        weights = kept(logits[row], sampling)
        assert drawn.certain is not None
        if drawn.certain[row]:
            # Sums over 64 and over all tokens may round to different sides of the point.
            assert _near(weights, int(drawn.token[row]), float(uniform[row]))
        else:
            assert (weights > 0).sum() >= 64 or _tied_with_the_rest(logits[row], sampling)


def _near(weights: torch.Tensor, token: int, uniform: float) -> bool:
    sums = (weights / weights.sum()).double().cumsum(-1)
    before = float(sums[token] - weights[token] / weights.sum())
    return float(weights[token]) > 0 and before - 1e-5 <= uniform <= float(sums[token]) + 1e-5


def _tied_with_the_rest(logits: torch.Tensor, sampling: Sampling) -> bool:
    """Whether the last of the k is as likely as the last one that was looked at."""
    falling = logits.sort(descending=True).values
    return bool(sampling.top_k) and bool(falling[sampling.top_k - 1] == falling[63])


@given(st.integers(0, 10**6), st.integers(2, 300), st.sampled_from([0.0, 0.05, 1.0]))
def test_without_other_cuts_only_min_p_cuts(seed: int, size: int, min_p: float) -> None:
    samplings = [Sampling(0.5, min_p=min_p), Sampling(2.0, min_p=min_p)]
    logits = logits_of(seed, size, rows=2)
    uniform = torch.tensor([[0.3], [1.0]])
    drawn = draw_all(logits, columns(samplings, size), uniform)
    for row, sampling in enumerate(samplings):
        assert _near(kept(logits[row], sampling), int(drawn.token[row]), float(uniform[row]))


@pytest.mark.parametrize("size", [7, 5000, 2**14])
@pytest.mark.parametrize("uniform", [2.0**-53, 1e-30, 0.25, 0.5, 1.0 - 2.0**-53, 1.0])
def test_a_token_that_was_cut_never_comes(uniform: float, size: int) -> None:
    logits = torch.full((1, size), -math.inf)
    logits[0, [2, size // 2, size - 3]] = 0.0
    drawn = draw_all(logits, columns([Sampling()], size), torch.tensor([[uniform]]))
    assert int(drawn.token) == [2, size // 2, size - 3][math.ceil(uniform * 3) - 1]


@given(st.integers(0, 10**6), st.integers(4096, 9000), st.integers(1, 999))
@settings(max_examples=20)
def test_draws_of_large_vocabularies_are_those_of_their_sums(seed: int, size: int, thousandths: int) -> None:
    logits = logits_of(seed, size)
    drawn = draw_all(logits, columns([Sampling()], size), torch.tensor([[thousandths / 1000]]))
    assert _near(logits[0].softmax(-1), int(drawn.token), thousandths / 1000)


@pytest.mark.parametrize("temperature", [1e-30, 1e-6, 1e6])
def test_no_temperature_overflows(temperature: float) -> None:
    weights = kept(torch.tensor([1000.0, 999.0, -math.inf, -1000.0]), Sampling(temperature))
    assert weights.isfinite().all()
    assert weights[0] == 1
    assert weights[2] == 0
