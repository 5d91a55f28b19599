"""vLLM's routes on our port, over sockets on both sides."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from kaito.inference.http import make_app
from kaito.inference.http.settings import HttpSettings
from kaito.inference.options import Limits
from kaito.inference.runtime import State
from kaito.inference.vllm.adapters import BLEND
from kaito.inference.vllm.runtime import VllmRuntime
from tests.unit.inference.server_process import started
from tests.unit.inference.serving import serving
from tests.unit.inference.vllm.conftest import Line, runtime_of, stand_in, until

CHAT = "/v1/chat/completions"


@contextlib.asynccontextmanager
async def served(runtime: VllmRuntime, settings: HttpSettings) -> AsyncIterator[aiohttp.ClientSession]:
    """A client of a runtime's application."""
    async with serving(make_app(runtime, settings)) as address, aiohttp.ClientSession(address) as client:
        yield client


@pytest.fixture(scope="module")
async def shared_client(shared: tuple[VllmRuntime, Line]) -> AsyncIterator[aiohttp.ClientSession]:
    async with served(shared[0], HttpSettings()) as client:
        yield client


@pytest.fixture
def client(shared_client: aiohttp.ClientSession, well: tuple[VllmRuntime, Line]) -> aiohttp.ClientSession:
    return shared_client


@pytest.fixture
def line(well: tuple[VllmRuntime, Line]) -> Line:
    return well[1]


@pytest.fixture
def runtime(well: tuple[VllmRuntime, Line]) -> VllmRuntime:
    return well[0]


async def ask(client: aiohttp.ClientSession, path: str, body: Any) -> tuple[int, Any]:
    async with client.post(path, json=body) as answer:
        return answer.status, await answer.json()


async def test_chat_answers_from_vllm_with_all_adapters_at_their_strengths(
    client: aiohttp.ClientSession, line: Line, runtime: VllmRuntime
) -> None:
    body = {"prompt": "the fox", "generate_kwargs": {"max_new_tokens": 3, "do_sample": False}}
    status, answer = await ask(client, "/chat", body)
    assert status == 200
    assert answer["Result"] == "the fox" + runtime.tokenizer().decode([10, 11, 12])
    asked = (await line.event("request"))["body"]
    assert (asked["model"], asked["temperature"]) == (BLEND, 0.0)


async def test_a_request_is_passed_on_as_it_is_but_for_the_key(client: aiohttp.ClientSession, line: Line) -> None:
    body = {"messages": [{"role": "user", "content": "Größe"}], "tools": [{"type": "function"}], "temperature": 0.1}
    headers = {"Authorization": "Bearer ours", "X-Request-Id": "id-1", "traceparent": "t"}
    async with client.post(f"{CHAT}?a=b%20c", json=body, headers=headers) as answer:
        assert (answer.status, (await answer.json())["object"]) == (200, "whole")
        assert "uvicorn" in answer.headers["server"]
    asked = await line.event("request")
    assert (asked["path"], asked["body"]) == (f"{CHAT}?a=b%20c", body)
    got = {name.lower(): value for name, value in asked["headers"].items()}
    assert (got["x-request-id"], got["traceparent"]) == ("id-1", "t")
    assert got["authorization"] != "Bearer ours"
    assert "accept-encoding" not in got


async def test_a_stream_comes_event_by_event(client: aiohttp.ClientSession, line: Line) -> None:
    await line.tell(next={"hold": "body"})
    body = {"messages": [], "stream": True, "max_tokens": 2}
    async with client.post(CHAT, json=body) as answer:
        assert answer.content_type == "text/event-stream"
        first = await answer.content.readuntil(b"\n\n")
        assert json.loads(first.removeprefix(b"data: "))["choices"][0]["delta"]["content"] == " 0"
        await line.tell(go=True)
        rest = await answer.content.read()
    assert rest.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("hold", ["head", "body"])
async def test_a_client_that_goes_ends_the_request_in_vllm(
    client: aiohttp.ClientSession, line: Line, runtime: VllmRuntime, hold: str
) -> None:
    await line.tell(next={"hold": hold})
    asking = asyncio.create_task(client.post(CHAT, json={"messages": [], "stream": True}))
    await line.event("request")
    if hold == "body":
        (await asking).close()
    else:
        asking.cancel()
    assert (await line.event("left"))["event"] == "left"
    await until(lambda: len(runtime.admission) == 0)
    assert len(runtime.admission) == 0


async def test_errors_of_vllm_are_passed_on_as_they_are(client: aiohttp.ClientSession, line: Line) -> None:
    error = {"error": {"message": "no", "type": "BadRequestError", "param": "tools", "code": 400}}
    await line.tell(next={"status": 418, "body": error, "headers": {"Retry-After": "7"}})
    async with client.post(CHAT, json={"messages": []}) as answer:
        assert (answer.status, await answer.json(), answer.headers["retry-after"]) == (418, error, "7")


async def test_a_field_that_vllm_would_ignore_is_refused(client: aiohttp.ClientSession, runtime: VllmRuntime) -> None:
    status, answer = await ask(client, CHAT, {"messages": [], "temprature": 1})
    assert status == 400
    assert answer["error"]["message"] == (
        "temprature: vLLM knows no such field of this request; did you mean temperature?"
    )
    assert answer["error"]["param"] == "temprature"
    assert len(runtime.admission) == 0


async def test_a_model_that_is_not_served_is_not_found_and_neither_is_the_hidden_one(
    client: aiohttp.ClientSession,
) -> None:
    for name in ("ones", BLEND):
        status, answer = await ask(client, CHAT, {"model": name, "messages": []})
        assert (status, answer["error"]["code"]) == (404, "model_not_found")
        assert "served: base, one, two" in answer["error"]["message"]


@pytest.mark.parametrize(
    ("lora", "model"),
    [
        ([{"name": "one"}], "one"),
        ([{"name": "one", "strength": 0.8}], "one"),
        ([{"name": "one"}, {"name": "two", "strength": 1}], BLEND),
        ([], "base"),
    ],
)
async def test_adapters_of_a_request_become_the_model_that_has_them(
    client: aiohttp.ClientSession, line: Line, lora: list[Any], model: str
) -> None:
    status, _ = await ask(client, CHAT, {"model": "two", "messages": [], "lora": lora})
    assert status == 200
    assert (await line.event("request"))["body"] == {"model": model, "messages": []}


@pytest.mark.parametrize(
    ("lora", "param", "words"),
    [
        ("one", "lora", "list"),
        ([{"strength": 1}], "lora[0].name", "required"),
        ([{"name": "one", "scale": 1}], "lora[0].scale", "no field"),
        ([{"name": "one", "strength": "1"}], "lora[0].strength", "number"),
        ([{"name": "one", "strength": 0.5}], "lora", "at their start strengths"),
        ([{"name": "one"}, {"name": "one"}], "lora[1].name", "twice"),
    ],
)
async def test_adapters_that_cannot_be_are_refused_with_the_place(
    client: aiohttp.ClientSession, lora: object, param: str, words: str
) -> None:
    status, answer = await ask(client, CHAT, {"messages": [], "lora": lora})
    assert (status, answer["error"]["param"]) == (400, param)
    assert words in answer["error"]["message"]


@pytest.mark.parametrize("body", [b"{", b"[]", b"\xff"])
async def test_a_body_that_is_no_object_is_refused(client: aiohttp.ClientSession, body: bytes) -> None:
    async with client.post(CHAT, data=body, headers={"Content-Type": "application/json"}) as answer:
        assert (answer.status, (await answer.json())["error"]["type"]) == (400, "invalid_request_error")


@pytest.mark.parametrize(
    "path",
    [
        *("/v1/load_lora_adapter", "/v1/unload_lora_adapter", "/invocations", "/collective_rpc", "/sleep", "/pause"),
        *("/wake_up", "/reset_prefix_cache", "/start_profile", "/abort_requests", "/update_weights", "/v1/chat"),
        *("/v1/../sleep", "/v1/completions/", "/inference/v1/generate", "/v1/completions/render"),
    ],
)
async def test_routes_that_change_the_server_are_not_there(
    client: aiohttp.ClientSession, line: Line, path: str
) -> None:
    await line.tell(next={"status": 200, "body": {"reached": True}})
    async with client.post(path, json={}, allow_redirects=False) as answer:
        assert answer.status in (307, 404)
    assert len(line) == 0


@pytest.mark.parametrize("path", ["/version", "/load", "/v1/responses/resp_1"])
async def test_what_only_tells_is_there(client: aiohttp.ClientSession, line: Line, path: str) -> None:
    await line.tell(next={"status": 200, "body": {"version": "1"}})
    async with client.get(path) as answer:
        assert (answer.status, await answer.json()) == (200, {"version": "1"})


async def test_models_are_those_of_people_with_their_strengths(client: aiohttp.ClientSession) -> None:
    async with client.get("/v1/models") as answer:
        cards = (await answer.json())["data"]
    assert [(card["id"], card["parent"], card["strength"]) for card in cards] == [
        ("base", None, None),
        ("one", "base", 0.8),
        ("two", "base", 1.0),
    ]


async def test_metrics_are_ours_and_vllm_s_each_once(client: aiohttp.ClientSession, line: Line) -> None:
    async with client.get("/metrics") as answer:
        text = await answer.text()
    assert 'kaito_inference_state{state="ready"} 1.0' in text
    assert text.count("# TYPE vllm:num_requests_waiting gauge") == 1
    assert 'vllm:num_requests_waiting{engine="0",model_name="base"} 0.0' in text


async def test_every_path_but_health_needs_the_key(shared: tuple[VllmRuntime, Line]) -> None:
    async with served(shared[0], HttpSettings(api_keys=frozenset({"k"}))) as client:
        for path in ("/tokenize", "/v1/completions", "/invocations", "/version", "/metrics"):
            async with client.post(path, json={}) as answer:
                assert answer.status == 401
        async with client.get("/health") as answer:
            assert answer.status == 200
        async with client.post(CHAT, json={"messages": []}, headers={"Authorization": "Bearer k"}) as answer:
            assert answer.status == 200


@pytest.fixture
async def own(tiny: Path, tmp_path: Path) -> AsyncIterator[tuple[VllmRuntime, Line, aiohttp.ClientSession]]:
    """One of a test's own, with room for one request and a queue of none."""
    async with stand_in(tmp_path) as line:
        runtime = runtime_of(tiny, adapters=False, max_num_seqs=1, limits=Limits(max_waiting=0))
        await runtime.load()
        async with served(runtime, HttpSettings()) as client:
            yield runtime, line, client
        await runtime.close()


async def test_more_than_may_wait_get_429_and_a_stream_that_the_drain_ends_says_so(
    own: tuple[VllmRuntime, Line, aiohttp.ClientSession],
) -> None:
    runtime, line, client = own
    await line.tell(next={"hold": "body"})
    async with client.post(CHAT, json={"messages": [], "stream": True}) as running:
        await running.content.readuntil(b"\n\n")
        async with client.post(CHAT, json={"messages": []}) as answer:
            assert (answer.status, answer.headers["retry-after"]) == (429, "2")
            assert (await answer.json())["error"]["code"] == "rate_limit_exceeded"
        await runtime.drain(0)
        rest = (await running.content.read()).strip()
    assert "the server is stopping" in json.loads(rest.removeprefix(b"data: "))["error"]["message"]
    async with client.post(CHAT, json={"messages": []}) as answer:
        assert answer.status == 503


async def test_when_vllm_ends_its_clients_are_told_and_health_says_why(
    own: tuple[VllmRuntime, Line, aiohttp.ClientSession],
) -> None:
    runtime, line, client = own
    await line.tell(next={"hold": "body", "cut": True})
    async with client.post(CHAT, json={"messages": [], "stream": True}) as running:
        await running.content.readuntil(b"\n\n")
        await line.tell(go=True)
        rest = (await running.content.read()).strip()
    assert json.loads(rest.removeprefix(b"data: "))["error"]["type"] == "service_unavailable"
    await until(lambda: runtime.status().state is State.FAILED)
    for path in ("/health", "/livez"):
        async with client.get(path) as answer:
            assert (answer.status, "exit status 9" in (await answer.json())["detail"]) == (503, True)
    async with client.post("/chat", json={"prompt": "x"}) as answer:
        assert answer.status == 503


async def test_the_command_serves_with_vllm_and_ends_it_on_sigterm(tiny: Path, tmp_path: Path) -> None:
    async with stand_in(tmp_path) as line:
        flags = [
            "--model",
            str(tiny / "model"),
            "--runtime",
            "vllm",
            "--vllm-args=--enforce-eager",
            "--max-num-seqs",
            "3",
        ]
        async with started(flags) as server:
            await server.logged("ready")
            arguments = (await line.event("started"))["arguments"]
            assert arguments[-1] == "--enforce-eager"
            assert arguments[arguments.index("--max-num-seqs") + 1] == "3"
            async with aiohttp.ClientSession(server.url) as client:
                assert (await ask(client, "/chat", {"prompt": "x"}))[0] == 200
            server.send(signal.SIGTERM)
            await line.event("sigterm")
            assert await server.ended() == 0
