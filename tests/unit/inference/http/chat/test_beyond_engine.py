"""Keywords that the engine has not: transformers' own `generate` runs them, and refuses in its own words."""

from __future__ import annotations

import json
from typing import Any

import aiohttp
import pytest

from tests.unit.inference.http.chat.conftest import Ask

PROMPT = "the quick brown fox"


@pytest.mark.parametrize(
    "kwargs",
    [
        {"num_beams": 3, "max_new_tokens": 8},
        {"num_beams": 3, "max_length": 14, "length_penalty": 2.0, "early_stopping": True},
        {"num_beams": 3, "num_return_sequences": 2, "max_new_tokens": 6},
        {"encoder_no_repeat_ngram_size": 2, "max_new_tokens": 8},
        {"num_beams": 2, "max_new_tokens": 12, "stop_sequence": "a"},
    ],
    ids=str,
)
async def test_beams_and_the_like_answer_as_the_pipeline_does(ask: Ask, original: Any, kwargs: dict[str, Any]) -> None:
    greedy = {"do_sample": False, "max_length": None, **kwargs}
    expected = "".join(each["generated_text"] for each in original(PROMPT, **greedy))
    assert await ask(prompt=PROMPT, generate_kwargs=greedy) == (200, {"Result": expected})


@pytest.mark.parametrize(
    "kwargs",
    [
        {"foo": 1},
        {"temperature": 0.0, "do_sample": True},
        {"top_k": -1, "do_sample": True},
        {"repetition_penalty": 0.0},
        {"max_new_tokens": 0},
        {"num_return_sequences": 2},
    ],
    ids=str,
)
async def test_what_transformers_refuses_is_a_400_with_its_words(
    ask: Ask, original: Any, kwargs: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match=r"\w") as refused:
        original(PROMPT, **{"do_sample": False, "max_new_tokens": 4, "max_length": None, **kwargs})
    status, answer = await ask(prompt=PROMPT, generate_kwargs={"do_sample": False, "max_new_tokens": 4, **kwargs})
    assert status == 400
    assert str(refused.value) in answer["detail"]


async def test_a_seed_that_cannot_be_kept_is_refused(ask: Ask) -> None:
    status, answer = await ask(prompt=PROMPT, generate_kwargs={"num_beams": 2, "do_sample": True, "seed": 1})
    assert (status, answer) == (400, {"detail": "seed: not together with num_beams; leave one of them out"})


async def test_a_stream_of_it_is_one_piece(session: aiohttp.ClientSession, ask: Ask) -> None:
    body = {"prompt": PROMPT, "lora": [], "generate_kwargs": {"num_beams": 2, "do_sample": False, "max_new_tokens": 5}}
    _, whole = await ask(**body)
    async with session.post("/chat", json={**body, "stream": True}) as answer:
        text = await answer.text()
    piece, done, _ = text.split("\n\n")
    assert (json.loads(piece.removeprefix("data: ")), done) == (whole, "data: [DONE]")
