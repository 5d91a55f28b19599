"""A program that stands in for `vllm`: its flags, its API, and its misbehaviour, as the tests ask for it.

What it is told and what it says goes over a Unix socket, whose path is in STAND_IN: one JSON object a line. It tells of
its start (`started`), of each request (`request`), of clients that left one (`left`) and of SIGTERM (`sigterm`). It is
told `{"next": {...}}`, how to answer the next request, `{"go": true}`, to go on with those that it holds, `{"unwell":
true}`, `{"waiting": 5}`, and `{"exit": 3}`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import web

FIELDS = {
    "/v1/completions": {
        *("model", "prompt", "stream", "stream_options", "max_tokens", "min_tokens", "temperature", "top_k", "top_p"),
        *("min_p", "repetition_penalty", "presence_penalty", "frequency_penalty", "stop", "stop_token_ids", "seed"),
        *("include_stop_str_in_output", "ignore_eos", "skip_special_tokens", "logprobs", "logit_bias", "n"),
        *("allowed_token_ids", "return_token_ids", "return_tokens_as_token_ids", "echo", "user"),
    },
    "/v1/chat/completions": {"model", "messages", "stream", "stream_options", "max_tokens", "tools", "temperature"},
    "/tokenize": {"model", "prompt", "messages"},
}
METRICS = """\
# HELP vllm:num_requests_waiting Number of requests waiting to be processed.
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="base"} {waiting}
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="base"} 1.0
"""


def parse(arguments: list[str]) -> argparse.Namespace:
    """vLLM's flags, those that are documented and used here; any other ends the program with status 2."""
    parser = argparse.ArgumentParser(prog="vllm serve", allow_abbrev=False)
    parser.add_argument("serve", choices=["serve"])
    parser.add_argument("model")
    for flag in ("--host", "--served-model-name", "--revision", "--chat-template", "--max-model-len"):
        parser.add_argument(flag)
    parser.add_argument("--dtype", choices=["auto", "half", "float16", "bfloat16", "float", "float32"])
    for flag in ("--port", "--max-num-seqs", "--shutdown-timeout", "--tensor-parallel-size", "--data-parallel-size"):
        parser.add_argument(flag, type=int)
    parser.add_argument("--gpu-memory-utilization", type=float)
    for flag in ("--trust-remote-code", "--enable-lora", "--disable-uvicorn-access-log", "--enforce-eager"):
        parser.add_argument(flag, action=argparse.BooleanOptionalAction)
    parser.add_argument("--max-lora-rank", type=int, choices=[1, 8, 16, 32, 64, 128, 256, 320, 512])
    parser.add_argument("--max-loras", type=int)
    parser.add_argument("--max-cpu-loras", type=int)
    parser.add_argument("--lora-modules", nargs="+", default=[])
    parser.add_argument("--kv-cache-dtype")
    return parser.parse_args([re.sub(r"^--[\w-]+", lambda flag: flag[0].replace("_", "-"), each) for each in arguments])


class StandIn:
    """The server and what it is told."""

    def __init__(
        self, arguments: argparse.Namespace, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.arguments = arguments
        self.reader, self.writer = reader, writer
        self.next: dict[str, Any] = {}
        self.go = asyncio.Event()
        self.unwell = False
        self.waiting = 0
        self.models = [arguments.served_model_name, *(each.partition("=")[0] for each in arguments.lora_modules)]

    def tell(self, **what: Any) -> None:
        self.writer.write(json.dumps(what).encode() + b"\n")

    async def listen(self) -> None:
        async for line in self.reader:
            for name, value in json.loads(line).items():
                match name:
                    case "go":
                        self.go.set()
                    case "held":
                        self.go.clear()
                    case "exit":
                        self.tell(event="told")
                        await self.writer.drain()
                        print("a bad thing happened", flush=True)
                        os._exit(value)
                    case _:
                        setattr(self, name, value)
            self.tell(event="told")

    @web.middleware
    async def guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if (
            request.path.startswith("/v1")
            and request.headers.get("Authorization") != f"Bearer {os.environ['VLLM_API_KEY']}"
        ):
            return web.json_response({"error": "Unauthorized"}, status=401)
        answer: web.StreamResponse = await handler(request)
        return answer

    async def health(self, request: web.Request) -> web.Response:
        return web.Response(status=503 if self.unwell else 200)

    async def metrics(self, request: web.Request) -> web.Response:
        return web.Response(text=METRICS.replace("{waiting}", f"{float(self.waiting)}"))

    async def list_models(self, request: web.Request) -> web.Response:
        cards = [{"id": name, "object": "model", "max_model_len": 2048} for name in self.models]
        return web.json_response({"object": "list", "data": cards})

    async def openapi(self, request: web.Request) -> web.Response:
        def path(name: str) -> dict[str, Any]:
            schema = {"$ref": f"#/components/schemas/Of{name}"}
            return {"post": {"requestBody": {"content": {"application/json": {"schema": schema}}}}}

        schemas: dict[str, Any] = {
            f"Of{name}": {"properties": dict.fromkeys(fields)} for name, fields in FIELDS.items()
        }
        # A reference ends after its last slash, so names have none.
        text = json.dumps({"paths": {name: path(name) for name in FIELDS}, "components": {"schemas": schemas}})
        for name in FIELDS:
            text = text.replace(f"Of{name}", f"Of{name.replace('/', '_')}")
        return web.Response(text=text, content_type="application/json")

    async def generate(self, request: web.Request) -> web.StreamResponse:
        content = await request.json() if request.can_read_body else {}
        self.tell(event="request", path=request.path_qs, headers=dict(request.headers), body=content)
        answer, self.next = self.next, {}
        try:
            if answer.get("hold") == "head":
                await self.go.wait()
            if "status" in answer:
                return web.json_response(answer["body"], status=answer["status"], headers=answer.get("headers"))
            if content.get("model", self.models[0]) not in self.models:
                error = {"message": f"The model `{content['model']}` does not exist.", "type": "NotFoundError"}
                return web.json_response({"error": {**error, "param": "model", "code": 404}}, status=404)
            if not content.get("stream"):
                return web.json_response({"object": "whole", "choices": [{"text": "whole", "finish_reason": "stop"}]})
            return await self.stream(request, content, answer)
        except (asyncio.CancelledError, ConnectionError):
            self.tell(event="left", path=request.path)
            raise

    async def stream(self, request: web.Request, content: dict[str, Any], answer: dict[str, Any]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)
        async for chunk in self.chunks(content, answer):
            data = chunk if isinstance(chunk, str) else json.dumps(chunk)
            await response.write(f"data: {data}\n\n".encode())
        return response

    async def chunks(self, content: dict[str, Any], answer: dict[str, Any]) -> AsyncIterator[Any]:
        count = content.get("max_tokens", 3)
        for index in range(count):
            if index == 1 and "hold" in answer:
                await self.go.wait()
            if index == 1 and "cut" in answer:
                os._exit(9)
            if index == 1 and "error" in answer:
                yield {"error": {"message": answer["error"], "type": "InternalServerError", "code": 500}}
                break
            choice: dict[str, Any] = {"index": 0, "text": f" {index}", "token_ids": [10 + index], "logprobs": None}
            if content.get("logprobs") is not None:
                top = {f"token_id:{each}": -0.5 - each for each in range(content["logprobs"] + 1)}
                choice["logprobs"] = {
                    "tokens": [f"token_id:{10 + index}"],
                    "token_logprobs": [-0.25],
                    "top_logprobs": [top],
                }
            if "messages" in content:
                choice = {"index": 0, "delta": {"role": "assistant", "content": f" {index}"}}
            reason = answer.get("reason", "length") if index == count - 1 else None
            # So large that no buffer of a line takes it, as the ids of a long prompt are.
            extra = {"prompt_token_ids": [7] * 200_000} if index == 0 and "large" in answer else {}
            yield {"choices": [{**choice, **extra, "finish_reason": reason, "stop_reason": answer.get("stop_reason")}]}
        yield "[DONE]"


async def main() -> None:
    """Loads for as long as it is told to, then serves."""
    behaviour = set(os.environ.get("STAND_IN_DOES", "").split())
    reader, writer = await asyncio.open_unix_connection(os.environ["STAND_IN"])
    arguments = parse(sys.argv[1:])
    stand_in = StandIn(arguments, reader, writer)
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()

    def sigterm() -> None:
        stand_in.tell(event="sigterm")
        if "ignore-sigterm" not in behaviour:
            ended.set()

    loop.add_signal_handler(signal.SIGTERM, sigterm)
    # As vLLM's engine is one.
    worker = subprocess.Popen(["sleep", "600"])  # noqa: ASYNC220
    stand_in.tell(event="started", arguments=sys.argv[1:], pid=os.getpid(), worker=worker.pid, env=dict(os.environ))
    listening = asyncio.create_task(stand_in.listen())
    print("Loading weights:  0%\rLoading weights: 50%", flush=True)
    if "die-loading" in behaviour:
        print("x" * 100_000)
        print("ValueError: this model is too large", file=sys.stderr, flush=True)
        sys.exit(3)
    if "hang-loading" in behaviour:
        await ended.wait()
    app = web.Application(middlewares=[stand_in.guard])
    app.router.add_get("/health", stand_in.health)
    app.router.add_get("/metrics", stand_in.metrics)
    app.router.add_get("/v1/models", stand_in.list_models)
    app.router.add_get("/openapi.json", stand_in.openapi)
    app.router.add_route("*", "/{path:.*}", stand_in.generate)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, arguments.host, arguments.port, reuse_address=True, reuse_port=True).start()
    await ended.wait()
    worker.kill()
    worker.wait()
    await runner.cleanup()
    listening.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await listening


if __name__ == "__main__":
    asyncio.run(main())
