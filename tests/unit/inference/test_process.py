"""The life of the server's process, from its first answer to its exit status."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.unit.inference.server_process import ServerProcess, metric, started

# Nothing ends it but its length.
ENDLESS = {"do_sample": False, "eos_token_id": -1}
LONG = {"prompt": "a", "stream": True, "lora": [], "generate_kwargs": ENDLESS | {"max_new_tokens": 2000}}
WITH_KEY = {"Authorization": "Bearer right"}


async def _get(session: aiohttp.ClientSession, url: str) -> tuple[int, Any]:
    async with session.get(url) as answer:
        return answer.status, await answer.json()


async def test_a_server_answers_while_it_loads_serves_and_drains(tiny: Path) -> None:
    arguments = ["--model", tiny / "model", "--adapters", tiny / "adapters", "--served-model-name", "base"]
    variables = {"KAITO_API_KEY": "right", "KAITO_ADAPTERS": '{"two": 0.25}'}
    async with started(arguments, variables) as server, aiohttp.ClientSession(headers=WITH_KEY) as session:
        await _loads(server, session)
        ready = await server.logged("ready")
        assert (ready["runtime"], ready["models"]) == ("transformers", "base,one,two")
        await _serves(server, session)
        await _drains(server, session)
        assert await server.ended() == 0
        assert "right" not in "\n".join(server.lines)


async def _loads(server: ServerProcess, session: aiohttp.ClientSession) -> None:
    status, health = await _get(session, f"{server.url}/health")
    assert (status, health["status"]) == (503, "loading")
    assert health["detail"]
    assert await _get(session, f"{server.url}/livez") == (200, health)
    assert await metric(session, server.url, "kaito_inference_state") == 1
    status, answer = await _get(session, f"{server.url}/v1/models")
    assert (status, answer["error"]["type"]) == (503, "service_unavailable")
    async with aiohttp.ClientSession() as stranger:
        assert (await _get(stranger, f"{server.url}/v1/models"))[0] == 401


async def _serves(server: ServerProcess, session: aiohttp.ClientSession) -> None:
    assert await _get(session, f"{server.url}/health") == (200, {"status": "Healthy"})
    _, models = await _get(session, f"{server.url}/v1/models")
    assert [model["id"] for model in models["data"]] == ["base", "one", "two"]
    body = {"prompt": "a", "max_new_tokens": 5, "do_sample": False}
    async with session.post(f"{server.url}/chat", json=body) as answer:
        assert answer.status == 200
        request_id = answer.headers["X-Request-Id"]
        blended = await answer.json()
    strengths = [{"name": "one", "strength": 1.0}, {"name": "two", "strength": 0.25}]
    async with session.post(f"{server.url}/chat", json=body | {"lora": strengths}) as answer:
        assert await answer.json() == blended
    assert await metric(session, server.url, "vllm:generation_tokens_total") == 10
    assert await metric(session, server.url, "vllm:request_success_total") == 2
    [line] = [json.loads(line) for line in server.lines if request_id in line]
    expected = {"method": "POST", "path": "/chat", "status": 200, "generated_tokens": 5, "level": "debug"}
    assert {name: line[name] for name in expected} == expected


async def _drains(server: ServerProcess, session: aiohttp.ClientSession) -> None:
    body = LONG | {"generate_kwargs": ENDLESS | {"max_new_tokens": 800}}
    async with session.post(f"{server.url}/chat", json=body) as stream:
        first = await stream.content.readuntil(b"\n\n")
        server.send(signal.SIGTERM)
        await server.logged("draining")
        assert await _get(session, f"{server.url}/health") == (503, {"status": "draining", "detail": "stopping"})
        assert (await _get(session, f"{server.url}/livez"))[0] == 200
        async with session.post(f"{server.url}/chat", json=body) as refused:
            assert (refused.status, refused.headers["Connection"]) == (503, "close")
            assert int(refused.headers["Retry-After"]) > 0
        rest = await stream.read()
    assert first.startswith(b"data: ")
    assert rest.endswith(b"data: [DONE]\n\n")
    assert b'"error"' not in rest


async def test_what_does_not_end_in_time_is_aborted_and_a_second_signal_ends_at_once(tiny: Path) -> None:
    async def aborted() -> None:
        async with started(["--model", tiny / "model", "--drain-timeout", "0.2"]) as server:
            await server.logged("ready")
            async with aiohttp.ClientSession() as session, session.post(f"{server.url}/chat", json=LONG) as stream:
                await stream.content.readuntil(b"\n\n")
                server.send(signal.SIGTERM)
                rest = await stream.read()
            last = json.loads(rest.split(b"\n\n")[-2].removeprefix(b"data: "))
            assert last["error"]["message"] == "the server is stopping, and the answer is not complete"
            assert await server.ended() == 0

    async def forced() -> None:
        async with started(["--model", tiny / "model", "--drain-timeout", "60"]) as server:
            await server.logged("ready")
            async with aiohttp.ClientSession() as session, session.post(f"{server.url}/chat", json=LONG) as stream:
                await stream.content.readuntil(b"\n\n")
                server.send(signal.SIGINT)
                await server.logged("draining")
                server.send(signal.SIGINT)
                async with asyncio.timeout(20):
                    assert await server.ended() == 130

    await asyncio.gather(aborted(), forced())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_while_loading_ends_it_promptly_and_well(tiny: Path, number: signal.Signals) -> None:
    async with started(["--model", tiny / "model"]) as server, aiohttp.ClientSession() as session:
        assert (await _get(session, f"{server.url}/health"))[0] == 503
        server.send(number)
        async with asyncio.timeout(20):
            assert await server.ended() == 0
        assert not any("Traceback" in line for line in server.lines)


async def test_a_model_that_cannot_be_loaded_ends_it_with_one_line_and_status_1(tmp_path: Path) -> None:
    async with started(["--model", tmp_path]) as server:
        assert await server.ended() == 1
        lines = [line for line in server.lines if not line.startswith("{")]
        assert [line[:28] for line in lines] == ["python -m kaito.inference: " + lines[0][27]]
        assert str(tmp_path) in lines[0]
