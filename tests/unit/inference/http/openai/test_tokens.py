"""`POST /tokenize` and `POST /detokenize`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import aiohttp
from transformers import AutoTokenizer

HELLO = [{"role": "user", "content": "who can tell?"}]


async def post(address: str, path: str, **fields: Any) -> Any:
    async with aiohttp.ClientSession(address) as http, http.post(path, json=fields) as response:
        return await response.json()


async def test_tokens_of_a_prompt_come_back_as_its_text(address: str) -> None:
    answer = await post(address, "/tokenize", prompt="Größe 東京 🙂", model="base")
    assert (answer["count"], answer["max_model_len"], answer["token_strs"]) == (len(answer["tokens"]), 2048, None)
    assert await post(address, "/detokenize", tokens=answer["tokens"]) == {"prompt": "Größe 東京 🙂"}


async def test_tokens_of_messages_are_those_of_the_chat_template(address: str, tiny: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny / "model")
    for prompt in (True, False):
        expected = tokenizer.apply_chat_template(HELLO, add_generation_prompt=prompt, return_dict=True)["input_ids"]
        answer = await post(address, "/tokenize", messages=HELLO, add_generation_prompt=prompt, return_token_strs=True)
        assert answer["tokens"] == expected
        assert "".join(answer["token_strs"]) == tokenizer.decode(expected)


async def test_either_a_prompt_or_messages_is_tokenized(address: str) -> None:
    for fields in ({}, {"prompt": "a", "messages": HELLO}):
        answer = await post(address, "/tokenize", **fields)
        assert (answer["error"]["param"], answer["error"]["type"]) == ("prompt", "invalid_request_error")


async def test_a_token_that_the_model_does_not_have_has_no_text(address: str) -> None:
    answer = await post(address, "/detokenize", tokens=[5, 486])
    assert (answer["error"]["param"], "0 to 485" in answer["error"]["message"]) == ("tokens[1]", True)
