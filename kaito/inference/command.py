"""The command line of the server."""

from __future__ import annotations

import argparse
import asyncio

import uvicorn

from kaito.inference.http import make_app
from kaito.inference.http.settings import HttpSettings
from kaito.inference.options import EngineOptions, Limits, ModelOptions
from kaito.inference.transformers_runtime import TransformersRuntime


def main() -> None:
    """Serves until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m kaito.inference")
    parser.add_argument("--model", required=True)
    parser.add_argument("--port", type=int, default=5000)
    arguments = parser.parse_args()
    asyncio.run(_serve(arguments.model, arguments.port))


async def _serve(model: str, port: int) -> None:
    runtime = TransformersRuntime(ModelOptions(model), EngineOptions(), Limits())
    app = make_app(runtime, HttpSettings())
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port))
    await runtime.load()
    try:
        await server.serve()
    finally:
        await runtime.close()
