"""The official client against a server on a socket."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import openai
import pytest
import torch
from openai import AsyncOpenAI
from transformers import AutoModelForCausalLM, AutoTokenizer

HELLO: list[Any] = [{"role": "user", "content": "who can tell?"}]


async def greedy(client: AsyncOpenAI, **fields: Any) -> str:
    answer = await client.chat.completions.create(
        **{"model": "base", "messages": HELLO, "max_tokens": 12, "temperature": 0, **fields}
    )
    return str(answer.choices[0].message.content)


async def test_a_chat_is_answered_as_transformers_itself_would(client: AsyncOpenAI, tiny: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny / "model")
    model = AutoModelForCausalLM.from_pretrained(tiny / "model").eval()
    inputs = tokenizer.apply_chat_template(HELLO, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    with torch.inference_mode():
        output = model.generate(**inputs, max_new_tokens=24, do_sample=False)[0][inputs["input_ids"].shape[1] :]
    answer = await client.chat.completions.create(model="base", messages=HELLO, max_tokens=24, temperature=0)
    assert answer.choices[0].message.content == tokenizer.decode(output, skip_special_tokens=True)
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (inputs["input_ids"].shape[1], len(output))
    assert (answer.object, answer.model, answer.choices[0].message.role) == ("chat.completion", "base", "assistant")


async def test_a_stream_joins_to_the_answer_that_comes_at_once(client: AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(
        model="base",
        messages=HELLO,
        max_tokens=12,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in stream]
    *parts, last = chunks
    assert parts[0].choices[0].delta.role == "assistant"
    assert "".join(part.choices[0].delta.content or "" for part in parts) == await greedy(client)
    assert [part.choices[0].finish_reason for part in parts[:-1]] == [None] * (len(parts) - 1)
    assert parts[-1].choices[0].finish_reason in ("length", "stop")
    assert (last.choices, [part.usage for part in parts]) == ([], [None] * len(parts))
    assert last.usage is not None
    assert last.usage.completion_tokens == 12
    assert {chunk.id for chunk in chunks} == {last.id}


async def test_without_the_option_no_chunk_has_usage(client: AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(model="base", messages=HELLO, max_tokens=2, stream=True)
    assert all([chunk.choices and chunk.usage is None async for chunk in stream])


async def test_n_answers_have_their_index_in_a_stream_too(client: AsyncOpenAI) -> None:
    fields: dict[str, Any] = {"model": "base", "messages": HELLO, "max_tokens": 6, "n": 3, "seed": 7}
    at_once = await client.chat.completions.create(**fields)
    texts = {choice.index: choice.message.content for choice in at_once.choices}
    assert len(set(texts.values())) == 3
    streamed = dict.fromkeys(range(3), "")
    async for chunk in await client.chat.completions.create(**fields, stream=True):
        for choice in chunk.choices:
            streamed[choice.index] += choice.delta.content or ""
    assert streamed == texts


async def test_a_seed_gives_the_same_answer_again_and_another_seed_another(client: AsyncOpenAI) -> None:
    same = [await greedy(client, temperature=1, seed=11) for _ in range(2)]
    assert same[0] == same[1] != await greedy(client, temperature=1, seed=12)


async def test_an_adapter_is_chosen_as_model_and_by_strength(client: AsyncOpenAI) -> None:
    base, one = await greedy(client), await greedy(client, model="one")
    assert base != one
    assert await greedy(client, extra_body={"lora": [{"name": "one"}]}) == one
    assert await greedy(client, extra_body={"lora": [{"name": "one", "strength": 1}]}) == one
    assert await greedy(client, extra_body={"lora": [{"name": "one", "strength": 0}]}) == base
    assert await greedy(client, model="one", extra_body={"lora": []}) == base


async def test_an_adapter_without_a_strength_counts_what_it_was_started_with(client: AsyncOpenAI) -> None:
    started = await greedy(client, model="two")
    assert await greedy(client, extra_body={"lora": [{"name": "two", "strength": 0.5}]}) == started
    assert await greedy(client, extra_body={"lora": [{"name": "two", "strength": 2}]}) != started


async def test_models_are_the_base_and_its_adapters(client: AsyncOpenAI) -> None:
    models = {model.id: model.model_dump() async for model in client.models.list()}
    assert list(models) == ["base", "one", "two"]
    assert (models["base"]["parent"], models["base"]["strength"]) == (None, None)
    assert [(models[name]["parent"], models[name]["strength"]) for name in ("one", "two")] == [
        ("base", 1.0),
        ("base", 0.5),
    ]
    assert (await client.models.retrieve("two")).model_dump() | {"created": 0} == models["two"] | {"created": 0}


async def test_a_completion_continues_each_of_its_prompts(client: AsyncOpenAI) -> None:
    fields: dict[str, Any] = {"model": "base", "max_tokens": 5, "temperature": 0}
    alone = [(await client.completions.create(prompt=prompt, **fields)).choices[0].text for prompt in ("fox", "dog")]
    both = await client.completions.create(prompt=["fox", "dog"], **fields)
    assert [choice.text for choice in both.choices] == alone
    echoed = await client.completions.create(prompt=["fox", "dog"], echo=True, **fields)
    assert [choice.text for choice in echoed.choices] == ["fox" + alone[0], "dog" + alone[1]]
    assert echoed.usage == both.usage


async def test_logprobs_of_a_chat_are_of_the_tokens_that_came(client: AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(
        model="base", messages=HELLO, max_tokens=6, temperature=0, logprobs=True, top_logprobs=3
    )
    choice = answer.choices[0]
    assert choice.logprobs is not None
    assert choice.logprobs.content is not None
    assert len(choice.logprobs.content) == 6
    for token in choice.logprobs.content:
        assert token.logprob <= 0
        assert [top.logprob for top in token.top_logprobs] == sorted(
            (top.logprob for top in token.top_logprobs), reverse=True
        )
        assert (token.top_logprobs[0].token, len(token.top_logprobs)) == (token.token, 3)  # greedy: the likeliest
    whole = b"".join(bytes(token.bytes or ()) for token in choice.logprobs.content)
    assert whole.decode("utf-8", "replace") == choice.message.content


async def test_logprobs_of_a_completion_say_where_each_token_starts(client: AsyncOpenAI) -> None:
    fields: dict[str, Any] = {"model": "base", "prompt": "fox", "max_tokens": 5, "temperature": 0, "logprobs": 2}
    at_once = (await client.completions.create(**fields)).choices[0].logprobs
    assert at_once is not None
    assert at_once.tokens is not None
    assert at_once.text_offset == [sum(map(len, at_once.tokens[:index])) for index in range(5)]
    assert at_once.top_logprobs is not None
    for token, top in zip(at_once.tokens, at_once.top_logprobs, strict=True):
        assert token in top
    offsets: list[int] = []
    async for chunk in await client.completions.create(**fields, stream=True):
        logprobs = chunk.choices[0].logprobs
        offsets.extend(logprobs.text_offset or () if logprobs else ())
    assert offsets == at_once.text_offset


async def test_a_stop_string_ends_the_answer_before_it(client: AsyncOpenAI) -> None:
    whole = await greedy(client)
    stop = whole[4:6]
    answer = await client.chat.completions.create(
        model="base", messages=HELLO, max_tokens=12, temperature=0, stop=["never there", stop]
    )
    [choice] = answer.choices
    assert (choice.message.content, choice.finish_reason) == (whole[: whole.index(stop)], "stop")
    assert choice.model_dump()["stop_reason"] == stop
    included = await greedy(client, stop=stop, extra_body={"include_stop_str_in_output": True})
    assert included == whole[: whole.index(stop) + len(stop)]


async def test_a_bias_of_100_forces_its_token(client: AsyncOpenAI) -> None:
    answer = await client.completions.create(
        model="base", prompt="fox", max_tokens=3, temperature=0, logit_bias={"70": 100}, logprobs=0
    )
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.tokens is not None
    assert len(set(logprobs.tokens)) == 1


async def test_a_name_that_is_not_served_is_not_found(client: AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="did you mean one") as raised:
        await greedy(client, model="ones")
    assert (raised.value.code, raised.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.NotFoundError) as raised:
        await greedy(client, extra_body={"lora": [{"name": "base"}]})
    assert raised.value.param == "lora[0].name"
    with pytest.raises(openai.NotFoundError):
        await client.models.retrieve("no/such")


async def test_what_does_not_fit_the_context_is_refused_with_what_would(client: AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match=r"ask for 20[0-9][0-9] tokens or fewer") as raised:
        await greedy(client, max_tokens=2048)
    assert raised.value.code == "context_length_exceeded"
    with pytest.raises(openai.BadRequestError, match="shorten the prompt") as raised:
        await greedy(client, messages=[{"role": "user", "content": "fox " * 3000}])
    assert (raised.value.code, raised.value.param) == ("context_length_exceeded", "messages")
