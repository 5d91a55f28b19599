"""`kaito chat` against the server's own process: the two agree on the wire."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from typer.testing import CliRunner

from kaito.cli.app import app
from tests.unit.inference.server_process import started


async def test_a_conversation_with_the_real_server(tiny: Path) -> None:
    async with started(("--model", tiny / "model")) as server:
        await server.logged("ready")
        arguments = ["chat", "--url", server.url, "--json", "--temperature", "0", "--max-tokens", "8"]
        said = await asyncio.to_thread(CliRunner().invoke, app, arguments, input="hello\nand then?\n")
        assert said.exit_code == 0, said.output
        first, second = (json.loads(line) for line in said.stdout.splitlines())
        assert 0 < first["usage"]["completion_tokens"] <= 8
        assert second["usage"]["prompt_tokens"] > first["usage"]["prompt_tokens"]  # the first turn is in it
