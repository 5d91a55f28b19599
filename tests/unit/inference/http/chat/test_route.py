"""/chat as its clients use it: what is refused and how, adapters, seeds, streams."""

from __future__ import annotations

import json
from typing import Any

import aiohttp
import pytest

from tests.unit.inference.http.chat.conftest import Ask

GREEDY = {"do_sample": False, "max_new_tokens": 8}


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({}, "Text generation parameter prompt required"),
        ({"prompt": ""}, "Text generation parameter prompt required"),
        ({"prompt": None}, "Text generation parameter prompt required"),
        ({"messages": []}, "Conversational parameter messages required"),
        (
            {"prompt": "a", "handle_long_generation": "cut"},
            "cut is not a valid value for `handle_long_generation` parameter expected [None, 'hole']",
        ),
        ({"prompt": "a", "generate_kwargs": {"streamer": 1}}, "generate_kwargs.streamer cannot be set here"),
        ({"prompt": "a", "num_return_sequences": 65}, "num_return_sequences is 65; at most 64 are returned"),
        ({"prompt": "a", "lora": [{"name": "one"}, {"name": "one"}]}, "lora: one is listed twice"),
    ],
)
async def test_what_is_missing_or_wrong_is_a_400_with_a_detail(ask: Ask, body: dict[str, Any], detail: str) -> None:
    assert await ask(**body) == (400, {"detail": detail})


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({"prompt": 5}, ["body", "prompt"]),
        ({"messages": [{"role": "user"}]}, ["body", "messages", 0, "content"]),
        ({"prompt": "a", "generate_kwargs": {"temperature": "hot"}}, ["body", "generate_kwargs", "temperature"]),
        ({"prompt": "a", "temperature": "hot"}, ["body", "temperature"]),
        ({"prompt": "a", "lora": [{"strength": 1}]}, ["body", "lora", 0, "name"]),
        ({"prompt": "a", "seed": 2**63}, ["body", "seed"]),
    ],
)
async def test_a_field_of_the_wrong_kind_is_a_422_that_names_it(
    ask: Ask, body: dict[str, Any], place: list[str | int]
) -> None:
    status, answer = await ask(**body)
    assert (status, [each["loc"] for each in answer["detail"]]) == (422, [place])


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"prompt"', b"\xff", b"[" * 100_000])
async def test_a_body_that_is_no_json_object_is_refused(session: aiohttp.ClientSession, body: bytes) -> None:
    async with session.post("/chat", data=body, headers={"Content-Type": "application/json"}) as answer:
        assert answer.status in (400, 422)
        assert "detail" in await answer.json()


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "text/plain", None])
async def test_a_body_that_does_not_say_that_it_is_json_is_told_what_to_send(
    session: aiohttp.ClientSession, kind: str | None
) -> None:
    headers = {} if kind is None else {"Content-Type": kind}
    async with session.post(
        "/chat", data=b'{"prompt": "a"}', headers=headers, skip_auto_headers=["Content-Type"]
    ) as answer:
        [detail] = (await answer.json())["detail"]
        assert (answer.status, detail["loc"]) == (422, ["body"])
        assert detail["msg"].endswith("send the header Content-Type: application/json")


async def test_a_prompt_longer_than_the_context_is_a_400_with_both_lengths(ask: Ask) -> None:
    status, answer = await ask(prompt="one two three four " * 600)
    assert status == 400
    assert "this model has 2048 for prompt and answer together" in answer["detail"]


async def test_more_stop_strings_than_can_be_looked_for_are_refused(ask: Ask) -> None:
    kwargs: dict[str, Any] = {"max_new_tokens": 2, "do_sample": False, "stop_strings": ["no"] * 65}
    assert await ask(prompt="a", generate_kwargs=kwargs) == (
        400,
        {"detail": "65 stop_strings are given; at most 64 may be"},
    )


async def test_fields_of_other_servers_are_ignored_as_they_always_were(ask: Ask) -> None:
    assert await ask(prompt="a", **GREEDY, model="x", user="y") == await ask(prompt="a", **GREEDY)


async def test_several_sequences_are_one_text_and_each_has_a_seed_of_its_own(ask: Ask) -> None:
    kwargs = {"max_new_tokens": 6, "seed": 7, "top_k": 0}
    _, three = await ask(prompt="a", return_full_text=False, generate_kwargs=kwargs | {"num_return_sequences": 3})
    singles = [
        (await ask(prompt="a", return_full_text=False, generate_kwargs=kwargs | {"seed": 7 + index}))[1]["Result"]
        for index in range(3)
    ]
    assert three["Result"] == "".join(singles)
    assert len(set(singles)) == 3


async def test_without_lora_all_adapters_are_blended_at_their_strengths_from_the_start(ask: Ask) -> None:
    blended = await ask(prompt="a", **GREEDY, lora=None)
    assert blended == await ask(prompt="a", **GREEDY, lora=[{"name": "one"}, {"name": "two"}])
    assert blended == await ask(
        prompt="a", **GREEDY, lora=[{"name": "one", "strength": 1.0}, {"name": "two", "strength": 0.5}]
    )
    others = [[], [{"name": "one"}], [{"name": "two"}], [{"name": "two", "strength": -2}]]
    answers = [blended, *[await ask(prompt="a", **GREEDY, lora=lora) for lora in others]]
    assert len({answer["Result"] for _, answer in answers}) == 5


async def test_an_adapter_that_is_not_there_is_a_404_that_names_those_that_are(ask: Ask) -> None:
    assert await ask(prompt="a", lora=[{"name": "onne"}]) == (
        404,
        {"detail": "lora: there is no adapter 'onne'; served: one, two; did you mean one?"},
    )


async def _events(session: aiohttp.ClientSession, **body: Any) -> list[str]:
    async with session.post("/chat", json={"lora": [], "stream": True, **body}) as answer:
        assert (answer.status, answer.content_type) == (200, "text/event-stream")
        text = await answer.text()
    lines = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
    assert lines.pop() == "[DONE]"
    return [json.loads(line)["Result"] for line in lines]


@pytest.mark.parametrize("full", [True, False])
async def test_the_pieces_of_a_stream_are_the_answer(session: aiohttp.ClientSession, ask: Ask, full: bool) -> None:
    body = {"prompt": "the quick", "generate_kwargs": {"do_sample": False, "max_new_tokens": 30}}
    _, whole = await ask(**body, return_full_text=full)
    pieces = await _events(session, **body, return_full_text=full)
    assert "".join(pieces) == whole["Result"]
    assert len(pieces) > 10
    assert (pieces[0] == "the quick") == full


async def test_a_stream_of_a_conversation_has_the_content_of_its_last_message(
    session: aiohttp.ClientSession, ask: Ask
) -> None:
    body = {"messages": [{"role": "user", "content": "Who?"}], **GREEDY}
    _, whole = await ask(**body)
    assert str({"role": "assistant", "content": "".join(await _events(session, **body))}) == whole["Result"]


async def test_several_sequences_come_one_after_the_other_in_a_stream(session: aiohttp.ClientSession, ask: Ask) -> None:
    body = {"prompt": "a", "generate_kwargs": {"max_new_tokens": 6, "seed": 7, "num_return_sequences": 2}}
    _, whole = await ask(**body)
    assert "".join(await _events(session, **body)) == whole["Result"]


async def test_what_is_refused_is_known_before_a_stream_begins(session: aiohttp.ClientSession) -> None:
    async with session.post("/chat", json={"prompt": "a", "stream": True, "lora": [{"name": "x"}]}) as answer:
        assert (answer.status, answer.content_type) == (404, "application/json")
