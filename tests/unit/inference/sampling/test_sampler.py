"""The sampler as the engine uses it: rows against transformers' own processors, draws, seeds, what goes wrong."""

from __future__ import annotations

import math
import random
import tracemalloc
from collections.abc import Mapping, Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.generation import logits_process

from kaito.inference.engine import TokenRequest
from kaito.inference.errors import BadRequest, RequestError
from kaito.inference.requests import Sampling
from kaito.inference.sampling import Chosen, Sampler

SIZE = 24
ENDS = frozenset({0, 3})
# Few tokens, so that runs repeat.
TOKENS = st.integers(0, SIZE - 1)


def request(
    sampling: Sampling = Sampling(temperature=0),  # noqa: B008 - frozen
    *,
    prompt: tuple[int, ...] = (1, 2, 3),
    logprobs: int | None = None,
    min_tokens: int = 0,
) -> TokenRequest:
    return TokenRequest(prompt, 100, min_tokens, ENDS, sampling, logprobs, {})


def logits_of(seed: int, rows: int = 1, size: int = SIZE) -> torch.Tensor:
    return torch.randn(rows, size, generator=torch.Generator().manual_seed(seed)) * 3


def draws(sampler: Sampler, rows: Sequence[int], logits: torch.Tensor, steps: int) -> list[list[int]]:
    """By row."""
    taken = [[chosen.token for chosen in sampler.choose(rows, logits)] for _ in range(steps)]
    return [list(row) for row in zip(*taken, strict=True)]


GREEDY = st.builds(
    request,
    st.builds(
        Sampling,
        temperature=st.just(0),
        repetition_penalty=st.sampled_from([1.0, 1.0, 1.4, 0.8]),
        presence_penalty=st.sampled_from([0.0, 0.0, 1.0, -0.5]),
        frequency_penalty=st.sampled_from([0.0, 0.0, 0.5]),
        no_repeat_ngram_size=st.integers(0, 3),
        logit_bias=st.dictionaries(TOKENS, st.floats(-9, 9, width=16), max_size=3),
        allowed_token_ids=st.none() | st.sets(TOKENS, min_size=20).map(tuple),
        bad_words_ids=st.lists(st.lists(TOKENS, min_size=1, max_size=3).map(tuple), max_size=4, unique=True).map(tuple),
    ),
    prompt=st.lists(TOKENS, min_size=1, max_size=8).map(tuple),
    min_tokens=st.integers(0, 4),
)


def transformers_scores(request: TokenRequest, answer: list[int], logits: torch.Tensor) -> torch.Tensor:
    """Of one row, by the processors that `generate` would make, in its order."""
    sampling, processors = request.sampling, []
    if sampling.logit_bias:
        bias = [[[token], float(value)] for token, value in sampling.logit_bias.items()]
        processors.append(logits_process.SequenceBiasLogitsProcessor(bias))
    if sampling.repetition_penalty != 1:
        processors.append(logits_process.RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty))
    if sampling.no_repeat_ngram_size:
        processors.append(logits_process.NoRepeatNGramLogitsProcessor(sampling.no_repeat_ngram_size))
    if sampling.bad_words_ids:
        processors.append(logits_process.NoBadWordsLogitsProcessor([list(run) for run in sampling.bad_words_ids]))
    processors.append(
        logits_process.MinNewTokensLengthLogitsProcessor(
            len(request.prompt), request.min_tokens, sorted(request.stop_ids)
        )
    )
    ids, batch = torch.tensor([[*request.prompt, *answer]]), logits[None]
    for processor in processors:
        batch = processor(ids, batch)
    scores: torch.Tensor = batch[0].clone()
    for token in answer:
        scores[token] -= sampling.frequency_penalty
    scores[list(set(answer))] -= sampling.presence_penalty
    if sampling.allowed_token_ids is not None:
        scores[[token for token in range(SIZE) if token not in sampling.allowed_token_ids]] = -math.inf
    return scores


@settings(max_examples=60)
@given(st.lists(GREEDY, min_size=1, max_size=4), st.integers(0, 10**6))
def test_each_row_of_a_batch_is_chosen_as_transformers_would(requests: list[TokenRequest], seed: int) -> None:
    sampler = Sampler(SIZE)
    for row, each in enumerate(requests):
        sampler.add(row, each)
    answers: list[list[int]] = [[] for _ in requests]
    for step in range(8):
        logits = logits_of(seed + step, len(requests))
        for row, chosen in enumerate(sampler.choose(range(len(requests)), logits)):
            scores = transformers_scores(requests[row], answers[row], logits[row])
            if scores.max() == -math.inf:
                assert isinstance(chosen.error, BadRequest)
                return
            # Penalties add up in another order there.
            assert scores[chosen.token] >= scores.max() - 1e-4
            answers[row].append(chosen.token)


DISTRIBUTION = torch.tensor([0.30, 0.22, 0.16, 0.12, 0.08, 0.06, 0.04, 0.02])
# Of chi-square with 7 degrees of freedom, all but one in a thousand are below.
CHI_SQUARE_7 = 24.32


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        ({}, DISTRIBUTION),
        ({"temperature": 0.5}, DISTRIBUTION**2),
        ({"temperature": 2.0}, DISTRIBUTION**0.5),
        ({"top_k": 3}, DISTRIBUTION * torch.tensor([1, 1, 1, 0, 0, 0, 0, 0])),
        ({"top_p": 0.7}, DISTRIBUTION * torch.tensor([1, 1, 1, 1, 0, 0, 0, 0])),
        ({"min_p": 0.25}, DISTRIBUTION * torch.tensor([1, 1, 1, 1, 1, 0, 0, 0])),
        ({"top_k": 6, "top_p": 0.9, "min_p": 0.3}, DISTRIBUTION * torch.tensor([1, 1, 1, 1, 0, 0, 0, 0])),
        ({"typical_p": 0.5}, DISTRIBUTION * torch.tensor([0, 1, 1, 1, 0, 0, 0, 0])),
        ({"logit_bias": {7: math.log(10)}}, DISTRIBUTION * torch.tensor([1, 1, 1, 1, 1, 1, 1, 10])),
    ],
)
def test_tokens_come_as_often_as_they_are_likely(sampling: dict[str, float], expected: torch.Tensor) -> None:
    sampler, rows, steps = Sampler(8), 20, 75
    for row in range(rows):
        sampler.add(row, request(Sampling(seed=row, **sampling)))  # type: ignore[arg-type]
    taken = torch.tensor(draws(sampler, range(rows), DISTRIBUTION.log().expand(rows, 8), steps))
    counts = torch.bincount(taken.flatten(), minlength=8).double()
    expected = expected.double() / expected.sum() * rows * steps
    assert counts[expected == 0].sum() == 0
    chi_square = ((counts - expected) ** 2 / expected)[expected > 0].sum()
    assert chi_square < CHI_SQUARE_7


KINDS: Mapping[str, Sampling] = {
    "temperature": Sampling(temperature=0.8, seed=7),
    "top_k": Sampling(top_k=50, seed=7),
    "a_wide_top_k": Sampling(top_k=2000, seed=7),
    "top_p": Sampling(top_p=0.4, seed=7),
    "a_wide_top_p": Sampling(top_p=0.99, seed=7),
    "min_p": Sampling(min_p=0.01, seed=7),
    "typical_p": Sampling(typical_p=0.5, seed=7),
    "penalties": Sampling(repetition_penalty=1.2, frequency_penalty=0.2, top_k=50, seed=7),
}


@pytest.mark.parametrize("sampling", KINDS.values(), ids=KINDS)
def test_a_seed_makes_the_same_draws_whatever_runs_beside_it(sampling: Sampling) -> None:
    logits = logits_of(1, size=3000).expand(6, 3000)
    alone = Sampler(3000)
    alone.add(0, request(sampling))
    [expected] = draws(alone, [0], logits[:1], 12)

    crowded = Sampler(3000)
    others = [Sampling(), Sampling(top_k=9), Sampling(top_p=0.9), Sampling(temperature=0), Sampling(top_k=900, seed=1)]
    crowded.add(5, request(sampling))
    taken = []
    for step in range(12):
        if step < len(others):
            crowded.add(step, request(others[step]))
        if step > 8:
            crowded.remove(step - 9)
        rows = [row for row in (*range(5), 5) if row == 5 or (row <= step and row > step - 9)]
        taken.append(crowded.choose(rows, logits[: len(rows)])[-1].token)
    assert taken == expected
    assert len(set(taken)) > 1


def test_seeds_differ_in_all_their_bits_and_in_their_sign() -> None:
    seeds = [0, 1, -1, 2**32, 2**32 + 1, 2**63 - 1, -(2**63)]
    sampler = Sampler(1000)
    for row, seed in enumerate(seeds):
        sampler.add(row, request(Sampling(seed=seed)))
    taken = draws(sampler, range(len(seeds)), logits_of(0, size=1000).expand(len(seeds), 1000), 12)
    assert len(set(map(tuple, taken))) == len(seeds)


def test_without_a_seed_no_two_requests_draw_alike() -> None:
    sampler = Sampler(1000)
    for row in range(4):
        sampler.add(row, request(Sampling()))
    taken = draws(sampler, range(4), torch.zeros(4, 1000), 12)
    assert len(set(map(tuple, taken))) == 4


def test_a_row_that_is_taken_over_starts_anew() -> None:
    sampler = Sampler(SIZE)
    fresh = request(Sampling(temperature=0, no_repeat_ngram_size=1, repetition_penalty=2.0), prompt=(1,))
    sampler.add(0, fresh)
    first = draws(sampler, [0], logits_of(3), 6)
    sampler.remove(0)
    sampler.add(0, fresh)
    assert draws(sampler, [0], logits_of(3), 6) == first


def test_end_tokens_come_again_once_there_are_enough_tokens() -> None:
    sampler = Sampler(4)
    sampler.add(0, request(min_tokens=2))
    assert draws(sampler, [0], torch.tensor([[9.0, 2.0, 1.0, 8.0]]), 3) == [[1, 1, 0]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_log_probabilities_are_the_models_own(dtype: torch.dtype) -> None:
    logits = logits_of(0, 4).to(dtype)
    sampler = Sampler(SIZE)
    sampler.add(0, request(Sampling(temperature=0, logit_bias={5: 50.0}), logprobs=3))
    sampler.add(1, request())
    sampler.add(2, request(Sampling(temperature=0.1, top_k=1, repetition_penalty=3.0), logprobs=0))
    sampler.add(3, request(Sampling(typical_p=0.9, seed=1), logprobs=99))
    biased, silent, bare, all_of_them = sampler.choose([0, 1, 2, 3], logits)
    expected = logits.float().log_softmax(-1)
    assert silent.logprob is None
    for row, chosen in ((0, biased), (2, bare), (3, all_of_them)):
        assert chosen.logprob is not None
        assert chosen.logprob.token == chosen.token
        assert chosen.logprob.logprob == pytest.approx(float(expected[row, chosen.token]), abs=1e-6)
    assert biased.token == 5
    assert _top(biased) == _likeliest(expected[0], 3)
    assert _top(bare) == []
    assert sorted(_top(all_of_them)) == list(range(SIZE))


def _top(chosen: Chosen) -> list[int]:
    assert chosen.logprob is not None
    return [token for token, _ in chosen.logprob.top]


def _likeliest(logprobs: torch.Tensor, count: int) -> list[int]:
    return logprobs.sort(descending=True).indices[:count].tolist()


def test_a_token_that_needed_a_wider_look_has_its_own_log_probability() -> None:
    logits = torch.zeros(1, 1000)
    sampler = Sampler(1000)
    sampler.add(0, request(Sampling(top_p=0.9, seed=3), logprobs=2))
    for _ in range(4):
        [chosen] = sampler.choose([0], logits)
        assert chosen.logprob is not None
        assert chosen.logprob.token == chosen.token
        assert chosen.logprob.logprob == pytest.approx(-math.log(1000), abs=1e-4)


def test_tokens_that_cannot_come_are_not_among_the_likeliest() -> None:
    sampler = Sampler(4)
    sampler.add(0, request(logprobs=4))
    [chosen] = sampler.choose([0], torch.tensor([[1.0, -math.inf, 2.0, -math.inf]]))
    assert _top(chosen) == [2, 0]


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
@pytest.mark.parametrize("sampling", [Sampling(temperature=0), *KINDS.values()], ids=["likeliest", *KINDS])
def test_scores_that_are_no_numbers_end_their_row_only(sampling: Sampling, wrong: float) -> None:
    logits = logits_of(0, 3)
    logits[1, 4] = wrong
    sampler = Sampler(SIZE)
    for row in range(3):
        sampler.add(row, request(sampling, logprobs=2))
    first, second, third = sampler.choose([0, 1, 2], logits)
    assert type(second.error) is RequestError
    assert "not finite" in second.error.message
    assert first.error is None
    assert third.error is None
    assert sampler.choose([0, 2], logits[[0, 2]])[0].error is None


def test_a_row_without_any_token_left_says_what_forbids_them() -> None:
    sampler = Sampler(SIZE)
    sampler.add(0, request(Sampling(allowed_token_ids=(4,), bad_words_ids=((4,),))))
    sampler.add(1, request(Sampling(allowed_token_ids=(SIZE + 5,), top_k=3)))
    sampler.add(2, request())
    none, unknown, other = sampler.choose([0, 1, 2], logits_of(0, 3))
    assert isinstance(none.error, BadRequest)
    assert "allowed_token_ids" in none.error.message
    assert isinstance(unknown.error, BadRequest)
    assert other.error is None


def test_ids_beside_the_vocabulary_do_nothing() -> None:
    sampler = Sampler(SIZE)
    odd = Sampling(
        temperature=0,
        logit_bias={SIZE: 100.0, -1: 100.0},
        bad_words_ids=((SIZE,), (-1,)),
        no_repeat_ngram_size=1,
        repetition_penalty=1.1,
    )
    sampler.add(0, request(odd, prompt=(SIZE + 3, 1)))
    [chosen] = sampler.choose([0], logits_of(0))
    assert chosen.error is None
    assert 0 <= chosen.token < SIZE


def test_a_step_that_failed_costs_a_seed_no_number() -> None:
    logits = logits_of(0, 2)
    failed, sound = Sampler(SIZE), Sampler(SIZE)
    for sampler in (failed, sound):
        for row in range(2):
            sampler.add(row, request(Sampling(seed=row)))
    with pytest.raises((RuntimeError, IndexError)):
        failed.choose([0, 1], logits[:1])
    one_by_one = [draws(failed, [row], logits[row : row + 1], 20)[0] for row in range(2)]
    assert one_by_one == draws(sound, [0, 1], logits, 20)


@pytest.mark.parametrize("size", [1, 2, 2000, 5000])
def test_runs_that_must_not_come_twice_take_no_memory_by_their_length(size: int) -> None:
    prompt = tuple(random.Random(0).choices(range(SIZE), k=4000))
    sampler = Sampler(SIZE)
    tracemalloc.start()
    sampler.add(0, request(Sampling(temperature=0, no_repeat_ngram_size=size), prompt=prompt))
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 4_000_000


def test_a_long_run_does_not_come_twice() -> None:
    run = tuple(random.Random(1).choices(range(SIZE), k=300))
    sampler = Sampler(SIZE)
    sampler.add(0, request(Sampling(temperature=0, no_repeat_ngram_size=300), prompt=(*run, 5, *run[:-1])))
    sampler.add(1, request(Sampling(temperature=0, no_repeat_ngram_size=301), prompt=(*run, 5, *run[:-1])))
    logits = torch.zeros(2, SIZE)
    logits[:, run[-1]] = 1.0
    never, may = sampler.choose([0, 1], logits)
    assert never.token != run[-1]
    assert may.token == run[-1]
