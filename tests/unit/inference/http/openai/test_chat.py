"""Fields of chats and completions that OpenAI's client does not know or does not show: on the wire."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
HELLO = [{"role": "user", "content": "who can tell?"}]


@pytest.fixture
async def http(address: str) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(address) as session:
        yield session


async def post(http: aiohttp.ClientSession, path: str, **fields: Any) -> dict[str, Any]:
    defaults: dict[str, Any] = {"temperature": 0, "max_tokens": 8}
    async with http.post(path, json={**defaults, **fields}) as response:
        assert response.status == 200, await response.text()
        content: dict[str, Any] = await response.json()
        return content


async def text(http: aiohttp.ClientSession, **fields: Any) -> str:
    answer = await post(http, CHAT, **{"messages": HELLO, **fields})
    return str(answer["choices"][0]["message"]["content"])


async def events(http: aiohttp.ClientSession, path: str, **fields: Any) -> list[dict[str, Any]]:
    """Of a stream, whose framing is checked: nothing but whole events, and the end."""
    async with http.post(path, json={"temperature": 0, "max_tokens": 8, "stream": True, **fields}) as response:
        assert response.status == 200, await response.text()
        assert response.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        assert response.headers["Cache-Control"] == "no-cache"
        *lines, done, end = (await response.read()).decode().split("\n\n")
    assert (done, end) == ("data: [DONE]", "")
    assert all(line.startswith("data: {") and "\n" not in line for line in lines)
    return [json.loads(line.removeprefix("data: ")) for line in lines]


async def test_every_chunk_of_a_chat_has_the_shape_that_openai_documents(http: aiohttp.ClientSession) -> None:
    first, *chunks, last = await events(
        http, CHAT, messages=HELLO, logprobs=True, top_logprobs=1, stream_options={"include_usage": True}
    )
    for chunk in (first, *chunks, last):
        assert (chunk["object"], chunk["model"]) == ("chat.completion.chunk", "base")
        assert {name: chunk[name] for name in ("id", "created", "system_fingerprint")} == {
            name: first[name] for name in ("id", "created", "system_fingerprint")
        }
    assert first["choices"] == [
        {"index": 0, "delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}
    ]
    assert sum(len(chunk["choices"][0]["logprobs"]["content"]) for chunk in chunks) == 8
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None] * (len(chunks) - 1) + ["length"]
    assert last["usage"]["completion_tokens"] == 8


async def test_usage_in_each_chunk_counts_up_to_the_last(http: aiohttp.ClientSession) -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    chunks = await events(http, COMPLETIONS, prompt="fox", stream_options=options)
    counts = [chunk["usage"]["completion_tokens"] for chunk in chunks]
    assert counts == sorted(counts)
    assert (counts[0] < 8, counts[-2:]) == (True, [8, 8])
    assert {chunk["object"] for chunk in chunks} == {"text_completion"}


async def test_an_answer_at_once_has_the_same_ids_and_names(http: aiohttp.ClientSession) -> None:
    chat, completion = await post(http, CHAT, messages=HELLO), await post(http, COMPLETIONS, prompt="fox")
    assert (chat["id"][:9], completion["id"][:5]) == ("chatcmpl-", "cmpl-")
    assert chat["system_fingerprint"] == completion["system_fingerprint"]
    assert chat["choices"][0]["message"]["refusal"] is None


async def test_parts_of_a_message_are_joined_by_line_ends(http: aiohttp.ClientSession) -> None:
    parts = [{"type": "text", "text": "who"}, {"type": "text", "text": "can tell?"}]
    joined = await text(http, messages=[{"role": "user", "content": "who\ncan tell?"}])
    assert await text(http, messages=[{"role": "user", "content": parts}]) == joined


async def test_developer_is_another_name_of_system(http: aiohttp.ClientSession) -> None:
    system, developer = ([{"role": role, "content": "be brief"}, *HELLO] for role in ("system", "developer"))
    assert await text(http, messages=developer) == await text(http, messages=system) != await text(http)


async def test_an_answer_that_was_given_can_be_sent_back_as_it_came(http: aiohttp.ClientSession) -> None:
    message = (await post(http, CHAT, messages=HELLO))["choices"][0]["message"]
    unused: dict[str, Any] = {"annotations": [], "audio": None, "function_call": None, "tool_calls": None}
    assert await text(http, messages=[*HELLO, message | unused, *HELLO])


async def test_the_last_message_is_continued_and_echoed(http: aiohttp.ClientSession) -> None:
    messages = [*HELLO, {"role": "assistant", "content": "the quick"}]
    fields = {"messages": messages, "continue_final_message": True, "add_generation_prompt": False}
    continued = await text(http, **fields)
    assert continued != await text(http, messages=messages)
    assert await text(http, **fields, echo=True) == "the quick" + continued
    chunks = await events(http, CHAT, **fields, echo=True)
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks) == "the quick" + continued


async def test_a_completion_is_echoed_in_a_stream_too_and_token_ids_as_text(http: aiohttp.ClientSession) -> None:
    at_once = await post(http, COMPLETIONS, prompt=["fox", "dog"], echo=True)
    texts = dict.fromkeys(range(2), "")
    for chunk in await events(http, COMPLETIONS, prompt=["fox", "dog"], echo=True):
        texts[chunk["choices"][0]["index"]] += chunk["choices"][0]["text"]
    assert texts == {choice["index"]: choice["text"] for choice in at_once["choices"]}
    tokens = [(await tokenized(http, prompt)) for prompt in ("fox", "dog")]
    assert (await post(http, COMPLETIONS, prompt=tokens, echo=True))["choices"] == at_once["choices"]
    assert (await post(http, COMPLETIONS, prompt=tokens[0], echo=True))["choices"] == at_once["choices"][:1]


async def tokenized(http: aiohttp.ClientSession, prompt: str) -> list[int]:
    async with http.post("/tokenize", json={"prompt": prompt}) as response:
        tokens: list[int] = (await response.json())["tokens"]
        return tokens


async def test_n_completions_of_each_prompt_are_next_to_each_other(http: aiohttp.ClientSession) -> None:
    fields: dict[str, Any] = {"n": 2, "best_of": 2, "temperature": 1, "seed": 3}
    both = await post(http, COMPLETIONS, prompt=["fox", "dog"], **fields)
    alone = [await post(http, COMPLETIONS, prompt=prompt, **fields) for prompt in ("fox", "dog")]
    assert [choice["index"] for choice in both["choices"]] == [0, 1, 2, 3]
    assert [choice["text"] for choice in both["choices"]] == [
        choice["text"] for answer in alone for choice in answer["choices"]
    ]
    assert both["usage"]["prompt_tokens"] == sum(answer["usage"]["prompt_tokens"] for answer in alone)


async def test_an_answer_has_16_tokens_of_a_completion_and_the_rest_of_the_context_of_a_chat(
    http: aiohttp.ClientSession,
) -> None:
    fields = {"max_tokens": None, "ignore_eos": True}
    assert (await post(http, COMPLETIONS, prompt="fox", **fields))["usage"]["completion_tokens"] == 16
    long = [{"role": "user", "content": "\x01" * 2030}]  # which the tokenizer never joins
    assert (await post(http, CHAT, messages=long, **fields))["usage"]["total_tokens"] == 2048


async def test_a_stop_token_ends_an_answer_and_is_its_reason(http: aiohttp.ClientSession) -> None:
    fields: dict[str, Any] = {"prompt": "fox", "ignore_eos": True, "logprobs": 0}
    bias = {"70": 100}
    answer = await post(http, COMPLETIONS, **fields, logit_bias=bias, stop_token_ids=[70])
    [choice] = answer["choices"]
    assert (choice["finish_reason"], choice["stop_reason"], choice["text"]) == ("stop", 70, "")
    assert answer["usage"]["completion_tokens"] == 1
    answer = await post(http, COMPLETIONS, **fields, stop_token_ids=[70], allowed_token_ids=[70, 71], min_tokens=3)
    assert answer["usage"]["completion_tokens"] >= 3


async def test_penalties_change_the_answer(http: aiohttp.ClientSession) -> None:
    same = {"prompt": "fox", "ignore_eos": True, "allowed_token_ids": [70, 71, 72]}
    plain = (await post(http, COMPLETIONS, **same))["choices"][0]["text"]
    for name, value in (("presence_penalty", 2), ("frequency_penalty", 2), ("repetition_penalty", 50)):
        assert (await post(http, COMPLETIONS, **same, **{name: value}))["choices"][0]["text"] != plain, name


async def test_top_k_1_min_p_1_and_a_tiny_top_p_are_greedy_at_any_temperature(http: aiohttp.ClientSession) -> None:
    greedy = await text(http)
    for field in ({"top_k": 1}, {"min_p": 1}, {"top_p": 1e-9}):
        assert await text(http, temperature=2, **field) == greedy, field
    assert await text(http, temperature=1e-300) == greedy


async def test_an_integer_may_be_written_as_json_allows(http: aiohttp.ClientSession) -> None:
    assert (await post(http, COMPLETIONS, prompt="fox", max_tokens=3.0, n=1.0))["usage"]["completion_tokens"] == 3


async def test_labels_of_the_client_change_nothing(http: aiohttp.ClientSession) -> None:
    labels = {"user": "me", "metadata": {"a": "b"}, "safety_identifier": "x", "prompt_cache_key": "y"}
    assert await text(http, **labels) == await text(http)
