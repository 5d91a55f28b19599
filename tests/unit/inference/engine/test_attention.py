"""Attention over rows of very different lengths looks at no more than it has to."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM

from kaito.inference.engine.attention import segments_of
from kaito.inference.options import EngineOptions
from tests.unit.inference.engine.driver import Answer, generated, loaded_of, request_of, running


@pytest.mark.parametrize(
    ("lengths", "segments"),
    [
        ([50] * 16, []),
        ([50, 60, 2000, 55, 40], [(0, 2, 60), (2, 3, 2000), (3, 5, 55)]),
        ([2000, 1990, 30, 30, 30], [(0, 2, 2000), (2, 5, 30)]),
        ([2000], []),
        ([1, 100, 1, 100], []),
    ],
)
def test_rows_are_cut_into_neighbourhoods_where_it_saves_much(
    lengths: list[int], segments: list[tuple[int, int, int]]
) -> None:
    assert segments_of(lengths) == segments


def test_neighbourhoods_cover_every_row_once_and_reach_to_its_end() -> None:
    chance = random.Random(1)
    for _ in range(500):
        lengths = [
            chance.choice((chance.randint(1, 80), chance.randint(1, 4000))) for _ in range(chance.randint(1, 16))
        ]
        segments = segments_of(lengths)
        if segments:
            assert [segment[0] for segment in segments] == [0, *(segment[1] for segment in segments[:-1])]
            assert segments[-1][1] == len(lengths)
            for first, end, longest in segments:
                assert max(itertools.islice(lengths, first, end)) == longest


async def test_a_long_sequence_among_short_ones_is_answered_as_alone(tiny: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny / "model")
    chance = random.Random(2)
    prompts = [[chance.randrange(7, 300) for _ in range(size)] for size in (5, 1200, 9, 14)]
    async with running(loaded_of(model, tiny, 2048), EngineOptions(max_num_seqs=4, threads=1)) as engine:
        assert model.config._attn_implementation == "kaito_sdpa"
        answers = [Answer(engine, request_of(prompt, 20)) for prompt in prompts]
        for answer in answers:
            await answer.end()
    assert [answer.tokens for answer in answers] == [generated(model, prompt, 20) for prompt in prompts]
