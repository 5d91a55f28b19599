"""`kaito chat`: a conversation over the wire, its commands, and what is said when there is no answer."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web
from typer.testing import CliRunner, Result

from kaito.cli.app import app
from kaito.testing import eventually
from tests.operating.cluster import workspace

PROXY = "/api/v1/namespaces/demo/services/phi:80/proxy"
WORKSPACE = "/apis/kaito.sh/v1beta1/namespaces/demo/workspaces/phi"
SINCE = "2026-01-02T03:04:05Z"
READY = {"type": "WorkspaceReady", "status": "True", "reason": "Ready", "message": "", "lastTransitionTime": SINCE}


class Server:
    """An inference server, and the API server before it; it says what it was asked last, or does what that names.

    Attributes:
        asked: the bodies of the questions.
        lengths: their lengths, as far as they were told before.
        told: the Workspace's condition at each reading; the last one stays.
    """

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.lengths: list[int | None] = []
        self.told = [READY]
        self.url = ""

    @contextlib.asynccontextmanager
    async def served(self) -> AsyncIterator[Server]:
        made = web.Application()
        made.router.add_get(WORKSPACE, self._workspace)
        for prefix in ("", PROXY):
            made.router.add_get(f"{prefix}/v1/models", self._models)
            made.router.add_post(f"{prefix}/v1/chat/completions", self._answer)
        runner = web.AppRunner(made, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        try:
            yield self
        finally:
            await runner.cleanup()

    async def _workspace(self, _: web.Request) -> web.Response:
        condition = self.told.pop(0) if len(self.told) > 1 else self.told[0]
        status = {"observedGeneration": 1, "conditions": [condition]}
        return web.json_response(
            workspace("phi") | {"metadata": {"name": "phi", "namespace": "demo"}, "status": status}
        )

    async def _models(self, _: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": "base"}, {"id": "support"}]})

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.asked.append(body)
        self.lengths.append(request.content_length)
        question = body["messages"][-1]["content"]
        if question in REFUSALS:
            return web.json_response({"error": {"message": REFUSALS[question][1]}}, status=REFUSALS[question][0])
        usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
        if not body.get("stream"):
            message = {"role": "assistant", "content": f"you said {question}"}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            return web.json_response({"model": body["model"], "choices": [choice], "usage": usage})
        return await self._stream(request, body["model"], question, usage)

    async def _stream(self, request: web.Request, model: str, question: str, usage: object) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)

        async def send(**chunk: Any) -> None:
            await response.write(b"data: %b\r\n\r\n" % json.dumps({"model": model, **chunk}).encode())

        await send(choices=[{"delta": {"role": "assistant", "content": "you said "}}])
        match question:
            case "break":
                assert request.transport is not None
                request.transport.abort()
                return response
            case "fail":
                await send(error={"message": "the engine has stopped"})
                return response
            case "for ever":
                await asyncio.Event().wait()
        await send(choices=[{"delta": {"content": f"\x1b[2J{question}"}, "finish_reason": "stop"}])
        await send(choices=[], usage=usage)
        await response.write(b"data: [DONE]\n\n")
        return response


REFUSALS = {
    "overload": (429, "the queue is full"),
    "key": (401, "the API key is missing or wrong"),
    "template": (400, "this model has no chat template"),
    "long": (400, "the prompt and max_tokens together are longer than the context"),
}


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with Server().served() as made:
        yield made


async def chat(*arguments: str, text: str = "") -> Result:
    """The command line in a thread of its own, since it runs a loop of its own."""
    return await asyncio.to_thread(CliRunner().invoke, app, ["chat", *arguments], input=text)


async def test_a_conversation_is_kept_and_its_settings_sent(server: Server) -> None:
    said = await chat("--url", server.url, "--system", "be brief", text="hello\n/set max_tokens 5\n\nbye\n")
    assert (said.exit_code, said.stdout) == (0, "you said [2Jhello\nyou said [2Jbye\n")
    first, second = server.asked
    assert (first["model"], first["max_tokens"], second["max_tokens"]) == ("base", 1024, 5)
    assert [message["content"] for message in second["messages"]] == [
        "be brief",
        "hello",
        "you said \x1b[2Jhello",
        "bye",
    ]


async def test_a_turn_that_fails_is_taken_back_and_the_conversation_goes_on(server: Server) -> None:
    said = await chat("--url", server.url, text="overload\nbreak\nfail\nhello\n")
    assert said.exit_code == 1
    assert [message["content"] for message in server.asked[-1]["messages"]] == ["hello"]
    refused, broken, failed = said.stderr.splitlines()
    assert refused == "kaito: 429: the queue is full"
    assert broken.startswith("kaito: the answer broke off")
    assert failed == "kaito: the server broke the answer off: the engine has stopped"


@pytest.mark.parametrize(
    ("question", "way_out"), [("template", "/v1/completions"), ("long", "/set max_tokens N"), ("key", "$KAITO_API_KEY")]
)
async def test_a_refusal_that_a_person_can_do_something_about_says_what(
    server: Server, question: str, way_out: str
) -> None:
    said = await chat("--url", server.url, "--message", question)
    assert said.exit_code == 1
    assert REFUSALS[question][1] in said.stderr
    assert way_out in said.stderr


@pytest.mark.parametrize("stream", [(), ("--no-stream",)])
async def test_json_is_one_object_for_each_answer(server: Server, stream: tuple[str, ...]) -> None:
    said = await chat("--url", server.url, "--json", *stream, text="one\ntwo\n")
    answers = [json.loads(line) for line in said.stdout.splitlines()]
    assert [answer["finish_reason"] for answer in answers] == ["stop", "stop"]
    assert answers[0]["usage"]["completion_tokens"] == 4
    assert answers[0]["text"].endswith("one")
    assert answers[0]["tokens_per_second"] > 0


async def test_commands(server: Server) -> None:
    text = "hello\n/clear\n/model support\n/models\n/params\n/modle\n/set heat 3\n/model suport\nagain\n/quit\nnever\n"
    said = await chat("--url", server.url, text=text)
    assert [message["content"] for message in server.asked[-1]["messages"]] == ["again"]
    assert server.asked[-1]["model"] == "support"
    assert said.stderr.splitlines() == [
        *("forgotten", "support", "base", "support", "temperature 0.7", "top_p 0.9", "max_tokens 1024"),
        "kaito: /modle is no command; did you mean /model?",
        "kaito: there is no heat; choose from temperature, top_p, max_tokens, seed",
        "kaito: there is no model suport; did you mean support?",
    ]


async def test_a_workspace_is_asked_through_the_api_server(server: Server, tmp_path: Path) -> None:
    said = await chat("phi", "-n", "demo", *kubeconfig(server, tmp_path), "--model", "support", "--message", "hello")
    assert (said.exit_code, said.stdout) == (0, "you said [2Jhello\n")
    assert server.asked[0]["model"] == "support"
    # The API server's proxy may break off an answer that comes right after a body of known length.
    assert server.lengths == [None]


async def test_a_workspace_that_is_not_ready_says_why_and_one_that_is_waited_for_answers(
    server: Server, tmp_path: Path
) -> None:
    message = "Deployment phi: 0 of 1 pods are ready"
    server.told = [READY | {"type": "InferenceReady", "status": "False", "message": message}]
    arguments = ("phi", "-n", "demo", *kubeconfig(server, tmp_path), "--message", "hello")
    said = await chat(*arguments)
    assert said.exit_code == 1
    assert f"Workspace demo/phi is not ready: InferenceReady is False: {message}; kaito explain" in said.stderr
    server.told.append(READY)
    said = await chat(*arguments, "--wait")
    assert said.stdout == "you said [2Jhello\n"
    assert said.stderr == f"waiting for Workspace demo/phi: InferenceReady is False: {message}\n"


@pytest.mark.parametrize("arguments", [(), ("phi", "--url", "http://127.0.0.1:1")])
async def test_one_is_talked_to_and_not_none_or_two(arguments: tuple[str, ...]) -> None:
    said = await chat(*arguments)
    assert said.exit_code == 1
    assert "name a Workspace, or give --url" in said.stderr


async def test_ctrl_c_stops_the_answer_and_a_second_one_ends(server: Server) -> None:
    async with terminal("chat", "--url", server.url) as screen:
        await screen.shows("> ")
        screen.types("for ever\n")
        await screen.shows("you said ")
        screen.types("\x03")
        await screen.shows("stopped; Ctrl-C once more, or Ctrl-D, ends")
        screen.types("hello\n")
        await screen.shows("tokens/s)")
        screen.types("\x03")
        await screen.shows("Ctrl-C once more")
        screen.types("\x03")
        assert await screen.ended() == 0
    kept = [message["content"] for message in server.asked[-1]["messages"]]
    assert kept == ["for ever", "you said ", "hello"]


def kubeconfig(server: Server, folder: Path) -> tuple[str, str]:
    cluster = {"name": "fake", "cluster": {"server": server.url}}
    context = {"name": "fake", "context": {"cluster": "fake", "user": "fake"}}
    config = {"apiVersion": "v1", "kind": "Config", "clusters": [cluster], "contexts": [context]}
    config |= {"users": [{"name": "fake", "user": {}}], "current-context": "fake"}
    file = folder / "kubeconfig"
    file.write_text(yaml.safe_dump(config))
    return "--kubeconfig", str(file)


class Screen:
    """The other end of a terminal on which a command runs."""

    def __init__(self, end: int, process: asyncio.subprocess.Process) -> None:
        self._end = end
        self._process = process
        self._seen = ""

    def types(self, text: str) -> None:
        os.write(self._end, text.encode())

    async def shows(self, text: str) -> None:
        async def probe() -> bool:
            with contextlib.suppress(BlockingIOError, OSError):
                self._seen += os.read(self._end, 65536).decode()
            assert text in self._seen, self._seen
            return True

        await eventually(probe, timeout_s=30, interval_s=0.02, message=f"the screen shows {text!r}")
        self._seen = self._seen.partition(text)[2]

    async def ended(self) -> int:
        async with asyncio.timeout(30):
            return await self._process.wait()


@contextlib.asynccontextmanager
async def terminal(*arguments: str) -> AsyncIterator[Screen]:
    ours, theirs = os.openpty()
    os.set_blocking(ours, False)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "kaito", *arguments), preexec_fn=lambda: os.login_tty(theirs)
    )
    os.close(theirs)
    try:
        yield Screen(ours, process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        os.close(ours)
