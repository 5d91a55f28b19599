"""What is not honoured is refused with the name of its field; nothing is ignored, and nothing breaks the server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
HELLO = [{"role": "user", "content": "who can tell?"}]

# Field, a value that asks for something, a value that does not.
NOT_HONOURED: list[tuple[str, Any, Any]] = [
    ("tools", [{"type": "function", "function": {"name": "f"}}], []),
    ("tool_choice", "auto", "none"),
    ("functions", [{"name": "f"}], []),
    ("function_call", "auto", "none"),
    ("response_format", {"type": "json_object"}, {"type": "text"}),
    ("response_format", {"type": "json_schema", "json_schema": {"name": "a", "schema": {}}}, None),
    ("modalities", ["text", "audio"], ["text"]),
    ("audio", {"voice": "alloy", "format": "wav"}, None),
    ("prediction", {"type": "content", "content": "x"}, None),
    ("reasoning_effort", "high", "none"),
    ("verbosity", "low", None),
    ("web_search_options", {}, None),
    ("store", True, False),
    ("service_tier", "flex", "auto"),
    ("prompt_logprobs", 0, None),
    ("structured_outputs", {"regex": "a"}, None),
    ("guided_json", {}, None),
    ("use_beam_search", True, False),
    ("length_penalty", 2.0, 1.0),
    ("bad_words", ["x"], []),
    ("best_of", 2, 1),
    ("documents", [{}], []),
    ("chat_template", "{{ messages }}", None),
    ("priority", 1, 0),
    ("truncate_prompt_tokens", 5, None),
]

# Fields, the one at fault, a part of what is said about it.
WRONG: list[tuple[dict[str, Any], str, str]] = [
    ({"temprature": 1}, "temprature", "did you mean temperature?"),
    ({"zzz": None}, "zzz", "no field of this request"),
    ({"temperature": "1"}, "temperature", "must be a valid number, was '1'"),
    ({"temperature": True}, "temperature", "was true"),
    ({"temperature": 2.1}, "temperature", "less than or equal to 2, was 2.1"),
    ({"temperature": 10**400}, "temperature", "number"),
    ({"temperature": -0.1}, "temperature", "greater than or equal to 0"),
    ({"top_p": 0}, "top_p", "greater than 0"),
    ({"top_k": -2}, "top_k", "greater than or equal to -1"),
    ({"min_p": 1.5}, "min_p", "less than or equal to 1"),
    ({"repetition_penalty": 0}, "repetition_penalty", "greater than or equal to 0.01"),
    ({"presence_penalty": 3}, "presence_penalty", "less than or equal to 2"),
    ({"n": 0}, "n", "greater than or equal to 1"),
    ({"n": 1.5}, "n", "must be a valid integer"),
    ({"n": 10**30}, "n", "less than or equal to 128"),
    ({"seed": 2**64}, "seed", "less than or equal to"),
    ({"max_tokens": 0}, "max_tokens", "greater than or equal to 1"),
    ({"max_tokens": 5, "max_completion_tokens": 6}, "max_tokens", "give one of them"),
    ({"max_tokens": 5, "min_tokens": 6}, "min_tokens", "at most max_tokens, 5, was 6"),
    ({"stop": 5}, "stop", "a string or a list of strings"),
    ({"stop": ["a", 1]}, "stop[1]", "string"),
    ({"stop": ""}, "stop", "at least 1 character"),
    ({"stop_token_ids": [486]}, "stop_token_ids[0]", "0 to 485, was 486"),
    ({"allowed_token_ids": [0, 9999]}, "allowed_token_ids[1]", "was 9999"),
    ({"logit_bias": {"the": 1}}, "logit_bias.the", "token ids in decimal digits"),
    ({"logit_bias": {"99999": 1}}, "logit_bias.99999", "0 to 485, was 99999"),
    ({"logit_bias": {"5": 101}}, "logit_bias.5", "less than or equal to 100"),
    ({"top_logprobs": 3}, "top_logprobs", "needs logprobs to be true"),
    ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", "less than or equal to 20"),
    ({"stream_options": {"include_usage": True}}, "stream_options", "needs stream to be true"),
    (
        {"stream": True, "stream_options": {"continuous_usage_stats": True}},
        "stream_options.continuous_usage_stats",
        "needs include_usage",
    ),
    ({"stream": True, "stream_options": {"extra": 1}}, "stream_options.extra", "no field"),
    ({"messages": []}, "messages", "at least 1 item"),
    ({"messages": "hello"}, "messages", "must be a valid list, was 'hello'"),
    ({"messages": [{"content": "x"}]}, "messages[0].role", "required"),
    ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role", "'assistant', was 'tool'"),
    ({"messages": [*HELLO, {"role": "user"}]}, "messages[1].content", "required"),
    ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content", "a string or a list of text parts"),
    (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
        "messages[0].content[0].type",
        "must be 'text', was 'image_url'",
    ),
    (
        {"messages": [{"role": "assistant", "content": "x", "tool_calls": [{}]}]},
        "messages[0].tool_calls",
        "not supported",
    ),
    ({"continue_final_message": True}, "continue_final_message", "add_generation_prompt as false"),
    ({"chat_template_kwargs": {"tokenize": True}}, "chat_template_kwargs.tokenize", "cannot be set there"),
    ({"lora": {"one": 1}}, "lora", "must be a valid list"),
    ({"lora": [{"strength": 1}]}, "lora[0].name", "required"),
    ({"lora": [{"name": "one", "strength": "1"}]}, "lora[0].strength", "number"),
    ({"lora": [{"name": "one", "strength": 1e30}]}, "lora[0].strength", "less than or equal to 1000"),
    ({"lora": [{"name": "one"}, {"name": "one"}]}, "lora[1].name", "listed twice"),
]

WRONG_COMPLETIONS: list[tuple[dict[str, Any], str | None, str]] = [
    ({"prompt": None}, "prompt", "a string, a list of strings"),
    ({"prompt": ""}, "prompt", "has no tokens"),
    ({"prompt": []}, "prompt", "at least 1 item"),
    ({"prompt": ["a", ""]}, "prompt[1]", "has no tokens"),
    ({"prompt": [1, "a"]}, "prompt[1]", "integer"),
    ({"prompt": [True]}, "prompt", "a list of token ids"),
    ({"prompt": [[1], [486]]}, "prompt[1][0]", "0 to 485, was 486"),
    ({"prompt": [-1]}, "prompt[0]", "greater than or equal to 0"),
    ({"suffix": "end"}, "suffix", "not supported"),
    ({"best_of": 3, "n": 2}, "best_of", "unless it equals n"),
    ({"echo": True, "logprobs": 1}, "echo", "not supported together with logprobs"),
    ({"logprobs": True}, "logprobs", "must be a valid integer"),
    ({"messages": HELLO}, "messages", "no field"),
    ({"prompt": ["a"] * 2, "n": 128}, "n", "256 answers are asked for in one request"),
    ({"allowed_token_ids": [6], "min_tokens": 4}, None, "forbid fewer"),
]

BROKEN = [
    (b"", "not valid JSON"),
    (b"{", "not valid JSON"),
    (b'{"messages": NaN}', "not valid JSON"),
    (b'{"chat_template_kwargs": {"a": Infinity}}', "not valid JSON"),
    (b'{"user": "\xff"}', "not valid JSON"),
    (b'{"user": "\\ud800"}', "not valid JSON"),
    (b"[" * 100_000, "not valid JSON"),
    (b'{"a":' * 50_000, "not valid JSON"),
    (b'{"seed": ' + b"9" * 5000 + b"}", "not valid JSON"),
    (b"[]", "the body: must be an object"),
    (b"null", "the body: must be an object"),
]


@pytest.fixture
async def http(address: str) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(address) as session:
        yield session


async def refused(http: aiohttp.ClientSession, path: str, status: int = 400, **given: Any) -> dict[str, Any]:
    async with http.post(path, **given) as response:
        content = await response.json()
        assert (response.status, list(content)) == (status, ["error"]), content
    error: dict[str, Any] = content["error"]
    assert sorted(error) == ["code", "message", "param", "type"]
    return error


@pytest.mark.parametrize(("field", "value", "off"), NOT_HONOURED, ids=lambda value: str(value)[:20])
async def test_a_field_that_is_not_honoured_is_refused_unless_it_asks_for_nothing(
    http: aiohttp.ClientSession, field: str, value: object, off: object
) -> None:
    error = await refused(http, CHAT, json={"messages": HELLO, field: value})
    assert (error["param"], error["type"]) == (field, "invalid_request_error")
    # With nothing but that changed, what is refused is another thing.
    error = await refused(http, CHAT, 404, json={"messages": HELLO, field: off, "model": "nobody's"})
    assert error["param"] == "model"


@pytest.mark.parametrize(("fields", "param", "said"), WRONG, ids=[f"{param}-{said}" for _, param, said in WRONG])
async def test_a_wrong_value_is_refused_with_its_place_and_what_is_allowed(
    http: aiohttp.ClientSession, fields: dict[str, Any], param: str, said: str
) -> None:
    error = await refused(http, CHAT, json={"messages": HELLO, **fields})
    assert (error["param"], error["type"]) == (param, "invalid_request_error")
    assert said in error["message"]


@pytest.mark.parametrize(
    ("fields", "param", "said"), WRONG_COMPLETIONS, ids=[f"{param}-{said}" for _, param, said in WRONG_COMPLETIONS]
)
async def test_so_is_one_of_a_completion(
    http: aiohttp.ClientSession, fields: dict[str, Any], param: str | None, said: str
) -> None:
    error = await refused(http, COMPLETIONS, json={"prompt": "fox", **fields})
    assert error["param"] == param
    assert said in error["message"]


@pytest.mark.parametrize(("body", "said"), BROKEN, ids=[str(body[:20]) for body, _ in BROKEN])
async def test_a_body_that_is_no_json_object_is_refused(http: aiohttp.ClientSession, body: bytes, said: str) -> None:
    for path in (CHAT, COMPLETIONS, "/tokenize", "/detokenize"):
        error = await refused(http, path, data=body, headers={"Content-Type": "application/json"})
        assert said in error["message"]
        assert error["param"] is None


async def test_a_body_of_another_type_is_refused(http: aiohttp.ClientSession) -> None:
    for media_type in ("text/plain", "application/x-www-form-urlencoded", "application/jsonp"):
        error = await refused(http, CHAT, 415, data=b"{}", headers={"Content-Type": media_type})
        assert media_type in error["message"]
    error = await refused(
        http, CHAT, data=b'{"messages": 1}', headers={"Content-Type": "Application/JSON; charset=utf-8"}
    )
    assert error["param"] == "messages"


async def test_a_path_or_method_that_is_not_there_is_refused_in_the_same_form(http: aiohttp.ClientSession) -> None:
    assert "/v1/embeddings" in (await refused(http, "/v1/embeddings", 404, json={}))["message"]
    assert "POST" in (await refused(http, "/v1/models", 405, json={}))["message"]
    async with http.get(CHAT) as response:
        assert (response.status, response.headers["Allow"]) == (405, "POST")
        assert (await response.json())["error"]["type"] == "invalid_request_error"


async def test_a_stream_that_cannot_start_is_refused_with_a_status(http: aiohttp.ClientSession) -> None:
    error = await refused(http, CHAT, 404, json={"messages": HELLO, "stream": True, "model": "nobody's"})
    assert error["code"] == "model_not_found"
