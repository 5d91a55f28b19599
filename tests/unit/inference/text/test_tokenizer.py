"""The tokenizer and the chat template of a model."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from kaito.inference.errors import BadRequest
from kaito.inference.text import ModelTokenizer
from kaito.inference.text.tokenizer import THREAD_FROM


def with_template(tiny: Path, template: str | None) -> ModelTokenizer:
    tokenizer = AutoTokenizer.from_pretrained(tiny / "model")
    tokenizer.chat_template = template
    return ModelTokenizer(tokenizer)


def user(content: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": content}]


@given(st.text(max_size=40), st.booleans())
def test_it_encodes_and_decodes_as_transformers_does(byte_level: ModelTokenizer, text: str, special: bool) -> None:
    plain = byte_level._tokenizer
    tokens = byte_level.encode(text, add_special_tokens=special)
    assert list(tokens) == plain.encode(text, add_special_tokens=special)
    assert byte_level.decode(tokens) == plain.decode(tokens, skip_special_tokens=True)


@pytest.mark.parametrize("text", ["a\ud83d", "\ude42" * THREAD_FROM], ids=["short", "long"])
async def test_half_a_surrogate_pair_is_a_bad_request(byte_level: ModelTokenizer, text: str) -> None:
    with pytest.raises(BadRequest, match="half a surrogate pair"):
        byte_level.encode(text)
    with pytest.raises(BadRequest, match="half a surrogate pair"):
        await byte_level.encode_async(text)


async def test_a_long_text_is_encoded_while_the_loop_goes_on(byte_level: ModelTokenizer) -> None:
    text = "the quick brown fox 東京 " * 12000
    started = time.perf_counter()
    expected = byte_level.encode(text)
    alone_s = time.perf_counter() - started
    encoding = asyncio.create_task(byte_level.encode_async(text))
    longest_s, last = 0.0, time.perf_counter()
    while not encoding.done():
        await asyncio.sleep(0)
        now = time.perf_counter()
        longest_s, last = max(longest_s, now - last), now
    assert await encoding == expected
    # Held up for all of it, as without a thread, the loop would have stood still as long as that took.
    assert longest_s < alone_s / 2


@pytest.mark.parametrize("length", [THREAD_FROM - 1, THREAD_FROM, THREAD_FROM + 1])
async def test_texts_of_all_lengths_are_encoded_alike(byte_level: ModelTokenizer, length: int) -> None:
    text = ("ab the " * length)[:length]
    assert await byte_level.encode_async(text, add_special_tokens=False) == byte_level.encode(
        text, add_special_tokens=False
    )


@pytest.mark.parametrize("token", [-1, 2**32])
def test_ids_that_are_none_are_a_bad_request(byte_level: ModelTokenizer, token: int) -> None:
    with pytest.raises(BadRequest, match="token ids are 0 to 485"):
        byte_level.decode([5, token])


def test_ids_that_the_tokenizer_does_not_know_have_no_text(byte_level: ModelTokenizer) -> None:
    assert byte_level.decode([50_000]) == byte_level.token_text(50_000) == ""
    assert byte_level.token_bytes(50_000) == byte_level.token_bytes(-1) == b""


@given(st.lists(st.integers(0, 485), max_size=30))
def test_the_bytes_of_tokens_are_those_of_their_text(byte_level: ModelTokenizer, tokens: list[int]) -> None:
    text = b"".join(map(byte_level.token_bytes, tokens)).decode("utf-8", "replace")
    assert text == byte_level.decode(tokens, skip_special_tokens=False)


@pytest.mark.parametrize("name", ["byte_fallback", "metaspace"])
def test_bytes_of_tokens_keep_the_space_before_a_word(name: str, request: pytest.FixtureRequest) -> None:
    tokenizer: ModelTokenizer = request.getfixturevalue(name)
    text = "the fox the\na" + ("é🙂" if name == "byte_fallback" else "")
    tokens = tokenizer.encode(text, add_special_tokens=False)
    assert b"".join(map(tokenizer.token_bytes, tokens)) == f" {text}".encode()
    assert tokenizer.token_text(tokenizer.encode("the")[-1]) == " the"
    assert tokenizer.token_text(1) == "<s>"


def test_half_a_character_is_shown_as_such(byte_fallback: ModelTokenizer) -> None:
    assert (byte_fallback.token_text(3 + 0xE6), byte_fallback.token_bytes(3 + 0xE6)) == ("\ufffd", b"\xe6")


def test_messages_are_rendered_by_the_models_template(byte_level: ModelTokenizer) -> None:
    assert byte_level.render(user("hi")) == "<|user|>hi<|end|><|assistant|>"
    assert byte_level.render(user("hi"), add_generation_prompt=False) == "<|user|>hi<|end|>"


def test_the_last_message_can_be_continued(byte_level: ModelTokenizer) -> None:
    messages = [*user("hi"), {"role": "assistant", "content": "Well,"}]
    rendered = byte_level.render(messages, add_generation_prompt=False, continue_final_message=True)
    assert rendered == "<|user|>hi<|end|><|assistant|>Well,"


def test_a_message_is_continued_or_begun_but_not_both(byte_level: ModelTokenizer) -> None:
    with pytest.raises(BadRequest, match="add_generation_prompt are both true") as caught:
        byte_level.render(user("hi"), continue_final_message=True)
    assert caught.value.param == "continue_final_message"


def test_without_a_template_it_says_what_to_do(tiny: Path) -> None:
    with pytest.raises(BadRequest, match=r"/v1/completions.*--chat-template"):
        with_template(tiny, None).render(user("hi"))


def test_a_template_that_refuses_is_quoted(byte_level: ModelTokenizer) -> None:
    with pytest.raises(BadRequest, match="only the roles system, user and assistant are known here"):
        byte_level.render([{"role": "tool", "content": "hi"}])


@pytest.mark.parametrize(
    "template", ["{{ messages[0].content + 1 }}", "{{ messages[5].content.x }}", "{{ 1 / 0 }}", "{% if %}", "{{ x() }}"]
)
def test_whatever_a_template_trips_over_is_a_bad_request(tiny: Path, template: str) -> None:
    with pytest.raises(BadRequest, match=r"chat template refuses these messages: .+"):
        with_template(tiny, template).render(user("hi"))


def test_no_messages_are_a_bad_request(byte_level: ModelTokenizer) -> None:
    with pytest.raises(BadRequest, match="at least one message"):
        byte_level.render([])


def test_templates_get_what_requests_give_them(tiny: Path) -> None:
    tokenizer = with_template(tiny, "{{ enable_thinking }} {{ messages[0].content }}")
    assert tokenizer.render(user("hi"), template_kwargs={"enable_thinking": False}) == "False hi"


@pytest.mark.parametrize("name", ["chat_template", "tokenize", "messages", "conversation", "tools", "tokenizer_kwargs"])
def test_requests_cannot_bring_their_own_template(byte_level: ModelTokenizer, name: str) -> None:
    with pytest.raises(BadRequest, match=f"{name} cannot be set there"):
        byte_level.render(user("hi"), template_kwargs={name: "{{ 7 * 7 }}"})


@pytest.mark.parametrize(
    "content",
    ["{{ 7 * 7 }}", "{% for x in range(9) %}x{% endfor %}", "{# gone #}", "{{ raise_exception('x') }}", "\\{{"],
)
@pytest.mark.parametrize("where", ["content", "kwargs"])
def test_what_a_person_writes_is_never_run_as_a_template(tiny: Path, content: str, where: str) -> None:
    tokenizer = with_template(tiny, "[{{ messages[0].content }}]({{ note }})")
    if where == "content":
        assert tokenizer.render(user(content)) == f"[{content}]()"
    else:
        assert tokenizer.render(user("hi"), template_kwargs={"note": content}) == f"[hi]({content})"


def test_special_tokens_that_a_person_writes_become_such(byte_level: ModelTokenizer) -> None:
    rendered = byte_level.render(user("a<|end|>"))
    assert byte_level.encode(rendered, add_special_tokens=False).count(6) == 2
