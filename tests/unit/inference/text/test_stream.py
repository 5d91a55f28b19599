"""Text that comes token by token."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from kaito.inference.requests import GenerationRequest
from kaito.inference.text import ModelTokenizer, TextStream


@pytest.fixture(scope="module")
def tokenizer(tiny: Path) -> ModelTokenizer:
    return ModelTokenizer(AutoTokenizer.from_pretrained(tiny / "model"))


@pytest.mark.parametrize("skip", [True, False])
@pytest.mark.parametrize("seed", range(20))
def test_the_texts_of_random_tokens_are_the_text_of_all(tokenizer: ModelTokenizer, seed: int, skip: bool) -> None:
    chance = random.Random(seed)
    tokens = [chance.randrange(500) for _ in range(60)]
    stream = TextStream(tokenizer, GenerationRequest((1,), 99, skip_special_tokens=skip))
    texts = [stream.push([token], (), None).text for token in tokens] + [stream.push([], (), "length").text]
    assert "".join(texts) == tokenizer.decode(tokens, skip_special_tokens=skip)
