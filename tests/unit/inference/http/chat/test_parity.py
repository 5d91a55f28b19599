"""What /chat answers is what transformers' pipeline answers, byte for byte, where nothing is drawn."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.inference.http.chat.conftest import Ask

GREEDY = {"do_sample": False, "max_length": 40}
PROMPT = "the quick brown fox asks: Größe 東京?"


@pytest.mark.parametrize(
    "kwargs",
    [
        {},
        {"max_new_tokens": 7},
        {"max_length": 30, "max_new_tokens": 20},
        {"max_new_tokens": 20, "repetition_penalty": 1.7},
        {"max_new_tokens": 20, "no_repeat_ngram_size": 2},
        {"max_new_tokens": 12, "stop_sequence": "a"},
        {"max_new_tokens": 30, "eos_token_id": list(range(300, 400))},
        {"max_new_tokens": 30, "eos_token_id": list(range(300, 400)), "min_new_tokens": 9},
        {"max_new_tokens": 30, "eos_token_id": list(range(300, 400)), "min_length": 32},
        {"max_new_tokens": 9, "skip_special_tokens": False},
        {"max_new_tokens": 9, "temperature": 0.3, "top_k": 2},
    ],
    ids=str,
)
async def test_a_greedy_answer_is_the_pipelines(ask: Ask, original: Any, kwargs: dict[str, Any]) -> None:
    [expected] = original(PROMPT, **{**GREEDY, **kwargs})
    assert await ask(prompt=PROMPT, generate_kwargs={**GREEDY, **kwargs}) == (
        200,
        {"Result": expected["generated_text"]},
    )


async def test_words_that_are_bad_do_not_come(ask: Ask, original: Any) -> None:
    [expected] = original(PROMPT, **GREEDY, return_tensors=True)
    bad = [[token] for token in expected["generated_token_ids"][-5:]]
    [expected] = original(PROMPT, **GREEDY, bad_words_ids=bad)
    assert await ask(prompt=PROMPT, generate_kwargs=GREEDY | {"bad_words_ids": bad}) == (
        200,
        {"Result": expected["generated_text"]},
    )


@pytest.mark.parametrize(
    "more",
    [
        {"return_full_text": False},
        {"return_full_text": None},
        {"prefix": "Hi! "},
        {"prefix": ""},
        {"clean_up_tokenization_spaces": True},
        {"handle_long_generation": "hole"},
    ],
    ids=str,
)
async def test_the_fields_beside_the_keywords_do_what_they_do_there(
    ask: Ask, original: Any, more: dict[str, Any]
) -> None:
    [expected] = original(PROMPT, **GREEDY, **more)
    assert await ask(prompt=PROMPT, generate_kwargs=GREEDY, **more) == (200, {"Result": expected["generated_text"]})


async def test_a_hole_cuts_the_start_of_a_prompt_that_is_too_long(ask: Ask, original: Any) -> None:
    prompt = "one two three four " * 600
    kwargs = {"do_sample": False, "max_new_tokens": 10, "max_length": None}
    [expected] = original(prompt, **kwargs, handle_long_generation="hole", return_full_text=False)
    asked = {"handle_long_generation": "hole", "return_full_text": False}
    assert await ask(prompt=prompt, generate_kwargs=kwargs, **asked) == (200, {"Result": expected["generated_text"]})


async def test_flat_bodies_of_version_0_1_are_those_of_later_ones(ask: Ask, original: Any) -> None:
    [expected] = original(PROMPT, **GREEDY, repetition_penalty=1.5)
    assert await ask(prompt=PROMPT, **GREEDY, repetition_penalty=1.5) == (200, {"Result": expected["generated_text"]})


async def test_nothing_said_means_200_tokens_drawn_from_the_10_likeliest(ask: Ask) -> None:
    explicit = {"max_length": 200, "top_k": 10, "do_sample": True, "temperature": 1.0}
    assert await ask(prompt=PROMPT, seed=1) == await ask(prompt=PROMPT, generate_kwargs=explicit | {"seed": 1})
    short = explicit | {"max_length": None, "max_new_tokens": 4}
    assert (
        len({(await ask(prompt=PROMPT, generate_kwargs=short | {"seed": seed}))[1]["Result"] for seed in (1, 2)}) == 2
    )


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "user", "content": "Who are you?"}],
        [{"role": "system", "content": "Be brief."}, {"role": "user", "content": 'it\'s "quoted"\n'}],
        [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "I am"}],
    ],
)
async def test_a_conversation_gives_its_last_message_as_python_writes_it(
    ask: Ask, original: Any, messages: list[dict[str, str]]
) -> None:
    [expected] = original(messages, **GREEDY)
    assert await ask(messages=messages, generate_kwargs=GREEDY) == (
        200,
        {"Result": str(expected["generated_text"][-1])},
    )


async def test_a_total_length_that_the_prompt_has_already_is_refused_in_transformers_words(
    ask: Ask, original: Any
) -> None:
    [tokens] = original(PROMPT, max_new_tokens=1, max_length=None, return_tensors=True)
    length = len(tokens["generated_token_ids"]) - 1
    with pytest.raises(ValueError, match="Input length of input_ids is") as refused:
        original(PROMPT, max_length=length)
    assert await ask(prompt=PROMPT, generate_kwargs={"max_length": length}) == (400, {"detail": str(refused.value)})
