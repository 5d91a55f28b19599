"""The puller's program: two on one folder, one killed in the middle, and a full disk."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from kaito.devcluster import Registry as RegistryProgram
from kaito.oci.client import Registry
from kaito.oci.pull import resolve
from kaito.oci.push import push_artifact
from kaito.oci.reference import Reference
from kaito.testing import eventually
from tests.operating.puller import ended, puller, start_puller
from tests.operating.registry_proxy import SEEN, Fault, RegistryProxy

FILES = ["adapter_config.json", "adapter_model.safetensors"]
SIZE = 3_000_000
WEIGHTS = r"GET /v2/.*/blobs/"


@pytest.fixture(scope="module")
async def program(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RegistryProgram]:
    async with RegistryProgram(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture(scope="module")
async def image(program: RegistryProgram, tmp_path_factory: pytest.TempPathFactory) -> str:
    """An adapter that is there; its repository and tag."""
    folder = tmp_path_factory.mktemp("adapter")
    (folder / FILES[0]).write_text("{}")
    (folder / FILES[1]).write_bytes(os.urandom(SIZE))
    async with Registry(Reference.parse(f"{program.address}/adapter:1")) as registry:
        await push_artifact(registry, folder)
    return "adapter:1"


class Gate:
    """Holds an answer up in its middle."""

    def __init__(self, after_bytes: int) -> None:
        self._after_bytes = after_bytes
        self.reached, self.opened = asyncio.Event(), asyncio.Event()

    async def __call__(self, proxy: RegistryProxy, request: web.Request) -> web.StreamResponse:
        url = f"http://{proxy.upstream}{request.raw_path}"
        async with proxy.session.get(url, headers={"Accept-Encoding": "identity"}) as got:
            response = web.StreamResponse()
            response.content_length = got.content_length
            await response.prepare(request)
            content = await got.read()
            await response.write(content[: self._after_bytes])
            request[SEEN].answered = self._after_bytes
            self.reached.set()
            await self.opened.wait()
            await response.write(content[self._after_bytes :])
            return response


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def shown(folder: Path) -> list[str]:
    return [name for name in names(folder) if not name.startswith(".")]


@pytest.mark.parametrize("is_there", [True, False], ids=["a-volume", "a-folder-to-come"])
async def test_of_two_on_one_folder_one_pulls_and_the_other_waits(
    program: RegistryProgram, image: str, tmp_path: Path, is_there: bool
) -> None:
    target, gate = tmp_path / "adapters" / "one", Gate(1_000_000)
    target.parent.mkdir()
    if is_there:
        target.mkdir()
    weights = Fault(WEIGHTS, gate, times=0)
    async with RegistryProxy(program.address, weights) as proxy:
        # The config of an artifact is not fetched; of its two files the second one is held up.
        weights.what, weights.times = await weights_of(program, image), 1
        first = await start_puller(f"{proxy.address}/{image}", target)
        await asyncio.wait_for(gate.reached.wait(), 20)
        second = await start_puller(f"{proxy.address}/{image}", target)
        assert second.stderr is not None
        await second.stderr.readline()
        said = (await second.stderr.readline()).decode()
        assert f"is being filled by process {first.pid} (pulling {proxy.address}/{image}, for 0m0" in said
        assert not target.exists() or shown(target) == []
        gate.opened.set()
        assert (await ended(first))[0] == 0
        code, _, log = await ended(second)
        assert len(proxy.of(WEIGHTS)) == 2
    assert (code, "already: nothing to do" in log[-1]) == (0, True)
    assert shown(target) == FILES
    assert names(target.parent) == ["one"]
    assert names(target) == [".kaito-pull.json", *FILES]


async def test_after_a_kill_the_next_one_goes_on_and_leaves_nothing_of_the_first(
    program: RegistryProgram, image: str, tmp_path: Path
) -> None:
    gate = Gate(2_000_000)
    target = tmp_path / "one"
    async with RegistryProxy(program.address, Fault(await weights_of(program, image), gate, times=1)) as proxy:
        first = await start_puller(f"{proxy.address}/{image}", target)
        await asyncio.wait_for(gate.reached.wait(), 20)
        partial = tmp_path / ".one.kaito-pull" / "blobs"
        await eventually(
            lambda: sum(each.stat().st_size for each in partial.glob("*.partial")) == 2_000_000 or None,
            message="what was sent to be written",
        )
        first.kill()
        await ended(first)
        assert not target.exists()
        before = sum(each.answered for each in proxy.of(WEIGHTS))
        assert (await puller(f"{proxy.address}/{image}", target))[0] == 0
        after = sum(each.answered for each in proxy.of(WEIGHTS))
        assert proxy.seen[-1].headers["Range"] == "bytes=2000000-"
    assert after - before <= SIZE - 2_000_000 + 10
    assert names(tmp_path) == ["one"]
    assert shown(target) == FILES


async def test_one_that_was_killed_while_it_replaced_an_older_image_leaves_none_of_it(
    program: RegistryProgram, image: str, tmp_path: Path
) -> None:
    target = tmp_path / "one"
    target.mkdir()
    # As after a kill in the middle of the removal: the record is there, its files in part.
    files = {"gone.txt": 1, "old.txt": 3, "../kept.txt": 4}
    old = {"reference": "r/a:0", "digest": "sha256:0", "path": "/data", "files": files}
    (target / ".kaito-pull.json").write_text(json.dumps(old))
    (target / "old.txt").write_text("old")
    (tmp_path / "kept.txt").write_text("kept")
    assert (await puller(f"{program.address}/{image}", target))[0] == 0
    assert shown(target) == FILES
    assert (tmp_path / "kept.txt").exists()


async def test_a_full_disk_is_told_as_one_and_not_tried_again(
    program: RegistryProgram, image: str, tmp_path: Path
) -> None:
    process = await asyncio.create_subprocess_exec(
        *("sh", "-c", 'ulimit -f 1000; exec "$@"', "-"),
        *(sys.executable, "-m", "kaito.inference.pull"),
        *(f"{program.address}/{image}", str(tmp_path / "one")),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    code, _, log = await ended(process)
    assert code == 1
    assert log[-1].endswith(f"{tmp_path / 'one'}: File too large")
    assert len(log) == 2


async def weights_of(program: RegistryProgram, image: str) -> str:
    """A pattern for requests for the large file of the image."""
    async with Registry(Reference.parse(f"{program.address}/{image}")) as registry:
        layers = (await resolve(registry)).manifest.layers
    return f"GET .*{max(layers, key=lambda each: each.size).digest}"
