"""Text that comes token by token, against the text of all tokens at once."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaito.inference.requests import Delta, FinishReason, GenerationRequest, TokenLogprob
from kaito.inference.text import ModelTokenizer, TextStream

UNKNOWN = "\ufffd"
# The tiny tokenizer's: special ones, bytes of all kinds, words, and an id that it does not know.
ANY_TOKENS = st.lists(st.integers(0, 480) | st.integers(100, 262) | st.sampled_from([0, 6, 5000]), max_size=60)


def few(tokenizer: ModelTokenizer, pieces: Sequence[bytes]) -> st.SearchStrategy[list[int]]:
    """Texts of few tokens, in which everything repeats; those of a character's bytes mostly follow each other."""
    token_of = {tokenizer.token_bytes(token): token for token in reversed(range(300))}
    smiling = [token_of[bytes([byte])] for byte in "🙂".encode()]
    runs = st.sampled_from([[token_of[piece]] for piece in pieces] + [smiling, smiling[:2], smiling[1:]])
    return st.lists(runs, max_size=30).map(lambda runs: [token for run in runs for token in run])


def parts_of(text: str) -> st.SearchStrategy[tuple[str, ...]]:
    """Stop strings, most of which are in the text."""
    places = st.tuples(st.integers(0, max(0, len(text) - 1)), st.integers(1, 5))
    parts = places.map(lambda place: text[place[0] : place[0] + place[1]] or "?")
    return st.lists(parts | st.sampled_from(["ab", "aab", "bab", "b a b"]), max_size=3).map(tuple)


def stream_all(
    stream: TextStream, tokens: Sequence[int], finish_reason: FinishReason = "length", *, seed: int = 0
) -> list[Delta]:
    """In chunks of random sizes, until the stream ends."""
    chance, deltas, start = random.Random(seed), [], 0
    logprobs = [TokenLogprob(token, -float(place)) for place, token in enumerate(tokens)]
    while True:
        end = min(len(tokens), start + chance.randrange(4))
        last = end == len(tokens)
        deltas.append(stream.push(tokens[start:end], logprobs[start:end], finish_reason if last else None))
        if deltas[-1].finish_reason is not None:
            return deltas
        start = end


def text_of(deltas: Sequence[Delta]) -> str:
    return "".join(delta.text for delta in deltas)


def whole(text: str) -> str:
    """Without a character at its end that may still get the bytes that it lacks."""
    return text.removesuffix(UNKNOWN)


def expected(
    tokenizer: ModelTokenizer, request: GenerationRequest, tokens: Sequence[int]
) -> tuple[str, int, str | None]:
    """Text, number of tokens and stop string, looked for in the whole text."""
    skip = request.skip_special_tokens
    text = tokenizer.decode(tokens, skip_special_tokens=skip)
    visible = [len(whole(tokenizer.decode(tokens[:count], skip_special_tokens=skip))) for count in range(len(tokens))]
    for end in range(1, len(text) + 1):
        # With which token the character came: the last one for what is let out at the end.
        count = next((count for count, length in enumerate(visible) if length >= end), len(tokens))
        found = [stop for stop in request.stop if text[:end].endswith(stop)]
        if found and count >= request.min_tokens:
            stop = max(found, key=len)
            return text[: end if request.include_stop else end - len(stop)], count, stop
    return text, len(tokens), None


@settings(max_examples=200)
@given(st.data(), st.booleans(), st.booleans(), st.integers(0, 12), st.integers(0, 10**6))
def test_text_and_its_end_are_those_of_the_whole_text(
    byte_level: ModelTokenizer, data: st.DataObject, skip: bool, include_stop: bool, min_tokens: int, seed: int
) -> None:
    tokens = data.draw(ANY_TOKENS | few(byte_level, [b"a", b"a", b"b", b" "]))
    stop = data.draw(parts_of(byte_level.decode(tokens, skip_special_tokens=skip)))
    request = GenerationRequest((1,), 99, min_tokens, stop=stop, skip_special_tokens=skip, include_stop=include_stop)
    deltas = stream_all(TextStream(byte_level, request), tokens, seed=seed)
    text, count, reason = expected(byte_level, request, tokens)
    assert text_of(deltas) == text
    assert [token for delta in deltas for token in delta.tokens] == tokens[:count]
    assert [(each.token, each.logprob) for delta in deltas for each in delta.logprobs] == [
        (token, -float(place)) for place, token in enumerate(tokens[:count])
    ]
    assert (deltas[-1].finish_reason, deltas[-1].stop_reason) == ("length" if reason is None else "stop", reason)


@given(st.data(), st.booleans())
def test_each_token_brings_its_text_at_once(byte_level: ModelTokenizer, data: st.DataObject, skip: bool) -> None:
    tokens = data.draw(ANY_TOKENS | few(byte_level, [b"a"]))
    stream = TextStream(byte_level, GenerationRequest((1,), 99, skip_special_tokens=skip))
    text = ""
    for count, token in enumerate(tokens, 1):
        text += stream.push([token], (), None).text
        assert text == whole(byte_level.decode(tokens[:count], skip_special_tokens=skip))


@given(st.data(), st.booleans())
@pytest.mark.parametrize("name", ["byte_fallback", "metaspace"])
def test_spaces_stay_where_tokens_carry_them(
    name: str, request: pytest.FixtureRequest, data: st.DataObject, skip: bool
) -> None:
    tokenizer: ModelTokenizer = request.getfixturevalue(name)
    first = 259 if name == "byte_fallback" else 3
    runs = st.integers(first, first + 17).map(lambda token: [token]) | st.sampled_from([[0], [1], [2], [9999]])
    if name == "byte_fallback":
        runs |= st.sampled_from("aé東🙂\ufffd").map(lambda text: [3 + byte for byte in text.encode()])
    tokens = [token for run in data.draw(st.lists(runs, max_size=40)) for token in run]
    stop = data.draw(parts_of(tokenizer.decode(tokens, skip_special_tokens=skip)))
    asked = GenerationRequest((1,), 99, stop=stop, skip_special_tokens=skip)
    text, _, reason = expected(tokenizer, asked, tokens)
    deltas = stream_all(TextStream(tokenizer, asked), tokens, seed=len(tokens))
    assert (text_of(deltas), deltas[-1].stop_reason) == (text, reason)


def test_a_character_of_byte_tokens_comes_with_its_last_byte(byte_fallback: ModelTokenizer) -> None:
    stream = TextStream(byte_fallback, GenerationRequest((1,), 99))
    texts = [stream.push([3 + byte], (), None).text for byte in "é🙂".encode()]
    assert texts == ["", "é", "", "", "", "🙂"]


def test_wrong_bytes_come_out_as_such_and_spoil_nothing_else(byte_fallback: ModelTokenizer) -> None:
    stream = TextStream(byte_fallback, GenerationRequest((1,), 99))
    tokens = [*byte_fallback.encode("the fox"), *(3 + byte for byte in b"\xe6\x9d\xff\xc3\xa9\xe6")]
    texts = [stream.push([token], (), None).text for token in [*tokens, *byte_fallback.encode(" a")]]
    assert "".join(texts) == "the fox" + UNKNOWN + UNKNOWN + "é" + UNKNOWN + " a"


def test_what_lacks_bytes_at_the_end_is_not_lost(byte_level: ModelTokenizer, byte_fallback: ModelTokenizer) -> None:
    for tokenizer in (byte_level, byte_fallback):
        stream = TextStream(tokenizer, GenerationRequest((1,), 99))
        half = [token for token in range(280) if tokenizer.token_bytes(token) == b"\xe6"][:1]
        assert [stream.push(half, (), None).text, stream.push([], (), "length").text] == ["", UNKNOWN]


def test_the_work_for_a_token_does_not_grow_with_the_text(
    byte_level: ModelTokenizer, byte_fallback: ModelTokenizer
) -> None:
    lengths: list[int] = []

    class Measured(ModelTokenizer):
        def decode(self, tokens: Sequence[int], *, skip_special_tokens: bool = True) -> str:
            lengths.append(len(tokens))
            return super().decode(tokens, skip_special_tokens=skip_special_tokens)

    stream = TextStream(Measured(byte_level._tokenizer), GenerationRequest((1,), 9999))
    assert [stream.push([token], (), None).text for token in byte_level.encode("the fox ")]
    assert not lengths
    tokenizer = Measured(byte_fallback._tokenizer)
    wrong = [token for token in range(280) if tokenizer.token_bytes(token) == b"\xff"]
    for tokens in ([*tokenizer.encode("the fox ")] * 100, wrong * 500, [0] * 500, [5000] * 500):
        for skip in (True, False):
            stream = TextStream(tokenizer, GenerationRequest((1,), 9999, skip_special_tokens=skip))
            for token in tokens:
                stream.push([token], (), None)
    assert max(lengths) <= 16
    assert len(lengths) < 2 * (2 * 1300)


def test_text_waits_while_it_may_become_a_stop_string(byte_level: ModelTokenizer) -> None:
    stream = TextStream(byte_level, GenerationRequest((1,), 99, stop=("aab",)))
    a, b, x = (byte_level.encode(letter)[0] for letter in "abx")
    texts = [stream.push([token], (), None).text for token in (x, a, a, a, x, a, a)]
    assert texts == ["x", "", "", "a", "aax", "", ""]
    assert stream.push([b, x], (), "length") == Delta("", (b,), (), "stop", "aab")


def test_what_may_have_become_a_stop_string_comes_at_the_end(byte_level: ModelTokenizer) -> None:
    stream = TextStream(byte_level, GenerationRequest((1,), 99, stop=("aab",)))
    [a] = byte_level.encode("a")
    assert stream.push([a, a], (), "length") == Delta("aa", (a, a), (), "length", None)


@pytest.mark.parametrize("stop", ["a" * 100_000, "ab" * 50_000 + "c"])
def test_a_very_long_stop_string_costs_no_more(byte_level: ModelTokenizer, stop: str) -> None:
    stream = TextStream(byte_level, GenerationRequest((1,), 99, stop=(stop,)))
    tokens = byte_level.encode(stop[:3000] + "!")
    assert stream.push(tokens, (), "length").text == stop[:3000] + "!"


def test_stop_strings_are_looked_into_only_as_far_as_the_text_comes(byte_level: ModelTokenizer) -> None:
    stops = tuple(chr(0x61 + place) * 100_000 for place in range(20))
    tracemalloc.start()
    stream = TextStream(byte_level, GenerationRequest((1,), 99, stop=stops))
    text = stream.push(byte_level.encode("aabba" * 20), (), "length").text
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert text == "aabba" * 20
    assert most < 1_000_000


END, WORD = 6, 300  # <|end|>, and one that is no special token


@pytest.mark.parametrize(
    ("token", "asked", "text", "reason"),
    [
        (END, GenerationRequest((1,), 9), "a", None),
        (END, GenerationRequest((1,), 9, skip_special_tokens=False), "a", None),
        (END, GenerationRequest((1,), 9, skip_special_tokens=False, include_stop=True), "a<|end|>", None),
        (END, GenerationRequest((1,), 9, stop_token_ids=frozenset({END})), "a", None),
        (END, GenerationRequest((1,), 9, stop_token_ids=frozenset({END}), ignore_eos=True), "a", END),
        (WORD, GenerationRequest((1,), 9, stop_token_ids=frozenset({WORD})), "a", WORD),
        (WORD, GenerationRequest((1,), 9, stop_token_ids=frozenset({WORD}), include_stop=True), "a{word}", WORD),
    ],
)
def test_the_token_that_ends_an_answer_is_in_its_text_only_if_asked_for(
    byte_level: ModelTokenizer, token: int, asked: GenerationRequest, text: str, reason: int | None
) -> None:
    [a] = byte_level.encode("a")
    delta = TextStream(byte_level, asked, frozenset({END})).push([a, token], (), "stop")
    text = text.replace("{word}", byte_level.token_text(WORD))
    assert delta == Delta(text, (a, token), (), "stop", reason)


@pytest.mark.parametrize("finish_reason", ["length", "stop", "abort"])
def test_a_stop_string_in_the_last_step_is_what_ended_it(
    byte_level: ModelTokenizer, finish_reason: FinishReason
) -> None:
    stream = TextStream(byte_level, GenerationRequest((1,), 9, stop=("x",), stop_token_ids=frozenset({WORD})))
    a, x = byte_level.encode("a")[0], byte_level.encode("x")[0]
    delta = stream.push([a, x, WORD], (), finish_reason)
    assert delta == Delta("a", (a, x), (), "stop", "x")


def test_a_stop_string_that_came_too_early_may_be_part_of_one_that_counts(byte_level: ModelTokenizer) -> None:
    stream = TextStream(byte_level, GenerationRequest((1,), 99, min_tokens=5, stop=("bab",)))
    a, b = byte_level.encode("a")[0], byte_level.encode("b")[0]
    assert text_of([stream.push([token], (), None) for token in (b, a, b)]) == "ba"
    assert stream.push([a, b], (), None) == Delta("", (a, b), (), "stop", "bab")
