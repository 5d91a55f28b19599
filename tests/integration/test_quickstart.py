"""`kaito quickstart` as a user runs it, where the hub cannot be reached: to an answer, and with nothing left behind."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from kaito.cli.quickstart.chat import MAX_NEW_TOKENS, QUESTION, ask
from kaito.inference.testing import tiny_model
from kaito.testing import eventually
from tests.unit.inference.loading.fake_hub import Hub

pytestmark = [
    pytest.mark.timeout(240),
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning"),  # of peft, which asks for it
]
RECOVERY_S = 60.0


async def test_the_second_act_answers_as_the_merged_model_does_and_leaves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "tmp"
    async with quickstart(folder, "--adapters", "--json") as process:
        stdout, stderr = await process.communicate()
    assert process.returncode == 0, stderr.decode()
    told = json.loads(stdout)
    assert "gibberish" in stderr.decode()
    tiny_model(tmp_path / "tiny")
    assert told["answer"] == await asyncio.to_thread(merged_answer, tmp_path / "tiny", 0.0)
    assert told["adapters"] == {
        strength: await asyncio.to_thread(merged_answer, tmp_path / "tiny", float(strength))
        for strength in ("1.0", "0.5")
    }
    assert list(folder.iterdir()) == []
    assert running(folder) == []


async def test_a_model_of_a_hub_is_kept_recovers_when_its_server_or_its_agent_is_killed_and_goes_with_ctrl_c(
    tmp_path: Path,
) -> None:
    folder, log = tmp_path / "tmp", tmp_path / "said"
    tiny_model(tmp_path / "tiny")
    hub = Hub({path.name: path.read_bytes() for path in (tmp_path / "tiny" / "model").iterdir()})
    environment = {"HF_HOME": str(tmp_path / "hub")}
    async with (
        serving(hub) as url,
        quickstart(folder, "--keep", "--model", "org/tiny", log=log, HF_ENDPOINT=url, **environment) as process,
    ):
        await eventually(lambda: "Ctrl-C cleans up" in log.read_text(), timeout_s=120)
        [address] = re.findall(r"answers at (\S+)", log.read_text())
        before = await ask(address)
        for program in ("kaito.inference", "kaito.devcluster.process_nodes"):
            [pid] = [pid for pid, words in running(folder) if "-m" in words and program in words]
            os.kill(pid, signal.SIGKILL)
            await eventually(partial(gone, pid), timeout_s=RECOVERY_S)
            await eventually(partial(healthy, address), timeout_s=RECOVERY_S)
            assert (await ask(address)).text == before.text
        assert "exit code 137 (SIGKILL)" in log.read_text()
        process.send_signal(signal.SIGINT)
        assert await process.wait() == 0, log.read_text()
    assert list(folder.iterdir()) == []
    assert running(folder) == []


async def test_ctrl_c_while_it_starts_is_heeded_and_a_second_one_does_not_wait(tmp_path: Path) -> None:
    folder, log = tmp_path / "tmp", tmp_path / "said"
    async with quickstart(folder, "--nodes", "kwok", log=log) as process:
        await eventually(lambda: "==> starting etcd" in log.read_text(), timeout_s=60)
        process.send_signal(signal.SIGTERM)
        await eventually(lambda: "stopping everything" in log.read_text(), timeout_s=60)
        process.send_signal(signal.SIGINT)
        assert await process.wait() in (130, 143), log.read_text()
    await eventually(lambda: not running(folder) and list(folder.iterdir()) == [], timeout_s=30)


async def test_a_model_that_cannot_be_had_is_told_before_anything_is_started(tmp_path: Path) -> None:
    async with quickstart(tmp_path / "tmp", "--model", "org/model") as process:
        _, stderr = await process.communicate()
    assert process.returncode == 1
    assert "HF_ENDPOINT" in stderr.decode()


@asynccontextmanager
async def serving(hub: Hub) -> AsyncIterator[str]:
    """The hub on a port of loopback; gives its URL."""
    runner = web.AppRunner(hub.application())
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def quickstart(
    folder: Path, *flags: str, log: Path | None = None, **variables: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A run whose temporary files lie in a folder of its own, by which its processes are known, too."""
    await asyncio.to_thread(folder.mkdir)
    environment = {**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9", "TMPDIR": str(folder), **variables}
    output = asyncio.subprocess.PIPE if log is None else log.open("wb")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "kaito", "quickstart", *flags), stdout=output, stderr=output, env=environment
    )
    if not isinstance(output, int):
        output.close()
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
            await process.communicate()


def running(folder: Path) -> list[tuple[int, list[str]]]:
    """Processes whose command line or environment names the folder, but for the quickstart's own first one."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().decode().split("\0")
            known = str(folder) in (entry / "environ").read_bytes().decode(errors="replace") + " ".join(words)
        except OSError:
            continue
        if known and entry.name.isdigit() and "quickstart" not in words:
            found.append((int(entry.name), words))
    return found


def gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


async def healthy(address: str) -> bool:
    try:
        async with aiohttp.ClientSession() as session, session.get(f"{address}/health") as response:
            return response.status == 200
    except aiohttp.ClientError:
        return False


def merged_answer(folder: Path, strength: float) -> str:
    """The greedy answer of transformers, the adapter merged into the weights by PEFT."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(folder / "model")
    base = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32)
    model: Any = PeftModel.from_pretrained(base, str(folder / "adapters" / "one"))
    for module in model.modules():
        if hasattr(module, "scale_layer"):
            module.scale_layer(strength)
    model = model.merge_and_unload()
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": QUESTION}], tokenize=False, add_generation_prompt=True
    )
    tokens = tokenizer(text, return_tensors="pt", add_special_tokens=False)
    made = model.generate(
        input_ids=tokens["input_ids"],
        attention_mask=tokens["attention_mask"],
        max_new_tokens=MAX_NEW_TOKENS,
        do_sample=False,
    )
    return str(tokenizer.decode(made[0, tokens["input_ids"].shape[1] :], skip_special_tokens=True))
