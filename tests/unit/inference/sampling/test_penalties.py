"""Penalties against transformers' repetition penalty and OpenAI's formula."""

from __future__ import annotations

from collections import Counter

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.generation.logits_process import RepetitionPenaltyLogitsProcessor

from kaito.inference.requests import Sampling
from kaito.inference.sampling.penalties import Penalties

VOCABULARY = 40
TOKENS = st.integers(0, VOCABULARY - 1)
ROWS = st.lists(
    st.tuples(
        st.lists(TOKENS, min_size=1, max_size=200),
        st.lists(TOKENS, max_size=12),
        st.sampled_from([1.0, 1.3, 0.7]),
        st.sampled_from([0.0, 1.5, -2.0]),
        st.sampled_from([0.0, 0.25, -1.0]),
    ),
    min_size=1,
    max_size=4,
)


def expected(logits: torch.Tensor, prompt: list[int], answer: list[int], sampling: Sampling) -> torch.Tensor:
    if sampling.repetition_penalty != 1:
        penalty = RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty)
        [logits] = penalty(torch.tensor([prompt + answer]), logits[None])
    logits = logits.clone()
    for token, count in Counter(answer).items():
        logits[token] -= count * sampling.frequency_penalty + sampling.presence_penalty
    return logits


@settings(max_examples=40)
@given(ROWS, st.integers(0, 10**6))
def test_each_row_has_its_own_penalties(
    rows: list[tuple[list[int], list[int], float, float, float]], seed: int
) -> None:
    penalties = Penalties(VOCABULARY, "cpu")
    samplings = [
        Sampling(repetition_penalty=repetition, presence_penalty=presence, frequency_penalty=frequency)
        for _, _, repetition, presence, frequency in rows
    ]
    for row, (prompt, _, *_) in enumerate(rows):
        # Whoever had the row before leaves nothing.
        penalties.add(row, (5, 6), Sampling(presence_penalty=2.0, repetition_penalty=1.5))
        penalties.push(row, 7)
        penalties.add(row, tuple(prompt), samplings[row])
    wide = torch.zeros(len(rows), VOCABULARY + 1)
    factors = torch.tensor(
        [[each.repetition_penalty, each.presence_penalty, each.frequency_penalty] for each in samplings]
    ).T[:, :, None]
    index = torch.arange(len(rows))
    logits = torch.randn(len(rows), VOCABULARY, generator=torch.Generator().manual_seed(seed))
    for step in range(max(len(answer) for _, answer, *_ in rows) + 1):
        wide[:, :VOCABULARY] = logits
        penalties.apply(wide, index, len(rows) - 1, factors)
        for row, (prompt, answer, *_) in enumerate(rows):
            torch.testing.assert_close(wide[row, :-1], expected(logits[row], prompt, answer[:step], samplings[row]))
            if step < len(answer):
                penalties.push(row, answer[step])


def test_tokens_beside_the_vocabulary_of_the_scores_do_nothing() -> None:
    penalties = Penalties(4, "cpu")
    penalties.add(0, (2, 900), Sampling(repetition_penalty=2.0))
    wide = torch.ones(1, 5)
    penalties.apply(wide, torch.tensor([0]), 0, torch.tensor([[[2.0]], [[0.0]], [[0.0]]]))
    assert wide[0, :4].tolist() == [1, 1, 0.5, 1]
