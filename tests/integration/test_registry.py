"""Pull and push against a real registry: round trips, credentials, broken content, broken connections."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kaito.devcluster import Registry as RegistryProgram
from kaito.oci.client import Registry
from kaito.oci.credentials import Keyring, load_keyring
from kaito.oci.digest import Digest
from kaito.oci.errors import DigestMismatchError, NotFoundError, UnauthorizedError, UnreachableError
from kaito.oci.pull import blob_path, fetch, resolve
from kaito.oci.push import push_artifact, push_image
from kaito.oci.reference import Reference
from kaito.oci.retries import Retries
from kaito.testing import eventually
from tests.operating.puller import puller, start_puller
from tests.operating.registry_proxy import Fault, RegistryProxy, cut_answer
from tests.operating.token_server import LEEWAY_S, PASSWORD, REFRESH_TOKEN, USER, TokenServer

# bcrypt of "secret".
HTPASSWD = "alice:$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n"
QUICK = Retries(attempts=3, first_s=0.01)
WEIGHTS = os.urandom(3_000_000)
FILES = ["adapter_config.json", "adapter_model.safetensors"]


@pytest.fixture(scope="module")
async def program(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RegistryProgram]:
    async with RegistryProgram(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture(scope="module")
async def closed(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RegistryProgram]:
    folder = tmp_path_factory.mktemp("closed")
    (folder / "htpasswd").write_text(HTPASSWD)
    async with RegistryProgram(folder / "registry", htpasswd=folder / "htpasswd") as running:
        yield running


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / FILES[0]).write_text("{}")
    (folder / FILES[1]).write_bytes(WEIGHTS)
    return folder


def keyring(folder: Path, registry: str, user: str = USER, password: str = PASSWORD, **more: str) -> Keyring:
    auth = base64.b64encode(f"{user}:{password}".encode()).decode()
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"auths": {registry: more or {"auth": auth}}}))
    return load_keyring([folder], {})


async def push(address: str, name: str, folder: Path, keys: Keyring | None = None) -> Digest:
    async with Registry(Reference.parse(f"{address}/{name}"), keys, retries=QUICK) as registry:
        return await push_image(registry, folder)


async def pull(address: str, name: str, folder: Path, keys: Keyring | None = None) -> list[Path]:
    async with Registry(Reference.parse(f"{address}/{name}"), keys, retries=QUICK) as registry:
        image = await resolve(registry)
        return await fetch(registry, image.manifest.layers, folder)


def break_blob(program: RegistryProgram, digest: Digest) -> None:
    path = program.storage / "docker/registry/v2/blobs/sha256" / digest.hex[:2] / digest.hex / "data"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


async def test_an_image_goes_there_and_back_and_has_one_digest(program: RegistryProgram, adapter: Path) -> None:
    first = await push(program.address, "there/and-back:1", adapter)
    os.utime(adapter / FILES[0], (1, 1))
    assert await push(program.address, "there/and-back:2", adapter) == first
    target = adapter.parent / "volumes" / "one"
    target.parent.mkdir()
    code, output, log = await puller(f"{program.address}/there/and-back:1", target, "--json")
    assert code == 0, log
    assert json.loads(output)["digest"] == str(first)
    assert (target / FILES[1]).read_bytes() == WEIGHTS
    assert [path.name for path in target.parent.iterdir()] == ["one"]  # nothing of the work is left
    code, output, _ = await puller(f"{program.address}/there/and-back:1", target, "--json")
    assert (code, json.loads(output)["pulled"]) == (0, False)


async def test_a_volume_that_is_there_is_filled_and_a_new_image_replaces_the_old(
    program: RegistryProgram, adapter: Path
) -> None:
    volume = adapter.parent / "volume"
    volume.mkdir()
    (adapter / "old.txt").write_text("old")
    await push(program.address, "moving:latest", adapter)
    assert (await puller(f"{program.address}/moving", volume))[0] == 0
    (adapter / "old.txt").unlink()
    (adapter / FILES[0]).write_text('{"r": 8}')
    async with Registry(Reference.parse(f"{program.address}/moving"), retries=QUICK) as registry:
        await push_artifact(registry, adapter)
    assert (await puller(f"{program.address}/moving", volume))[0] == 0
    assert (volume / FILES[0]).read_text() == '{"r": 8}'
    assert sorted(path.name for path in volume.iterdir() if not path.name.startswith(".")) == FILES


async def test_an_image_without_an_adapter_is_told_by_what_it_holds(program: RegistryProgram, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "README.md").write_text("hello")
    await push(program.address, "other:1", folder)
    code, _, log = await puller(f"{program.address}/other:1", tmp_path / "adapter")
    assert code == 1
    missing = "has no adapter_config.json and no adapter_model.safetensors, but README.md"
    assert log[-1].endswith(f"{program.address}/other:1 holds no adapter: /data {missing}")
    code, _, log = await puller(f"{program.address}/other:1", tmp_path / "adapter", "--path", "/elsewhere")
    assert (code, "at its top the image has data" in log[-1]) == (1, True)
    assert not (tmp_path / "adapter").exists()


async def test_what_is_not_there_and_what_is_misspelt_end_in_one_line(program: RegistryProgram, tmp_path: Path) -> None:
    code, _, log = await puller(f"{program.address}/absent:1", tmp_path / "a")
    assert (code, "absent:1: the registry has no such thing" in log[-1]) == (1, True)
    code, _, log = await puller("UPPER:1", tmp_path / "a")
    assert (code, len(log)) == (2, 1)
    assert "is no image reference" in log[0]
    with pytest.raises(NotFoundError, match="manifest unknown"):
        await pull(program.address, "absent:1", tmp_path)


async def test_passwords_open_and_wrong_ones_are_named_by_their_file(closed: RegistryProgram, adapter: Path) -> None:
    good = keyring(adapter.parent / "good", closed.address)
    bad = keyring(adapter.parent / "bad", closed.address, password="hunter2")
    await push(closed.address, "private/a:1", adapter, good)
    with pytest.raises(UnauthorizedError, match="refuses user 'alice' of auths") as caught:
        await pull(closed.address, "private/a:1", adapter.parent / "blobs", bad)
    assert str(adapter.parent / "bad" / "config.json") in str(caught.value)
    assert "hunter2" not in str(caught.value)
    with pytest.raises(UnauthorizedError, match="lets nobody pull from it without credentials"):
        await pull(closed.address, "private/a:1", adapter.parent / "blobs")
    image, target = f"{closed.address}/private/a:1", adapter.parent / "target"
    assert (await puller(image, target, "--auth-dir", adapter.parent / "good"))[0] == 0
    code, _, log = await puller(image, adapter.parent / "none", "--auth-dir", adapter.parent / "bad")
    assert (code, "check user, password and rights" in log[-1]) == (1, True)


async def test_of_several_credentials_the_one_that_fits_is_found(closed: RegistryProgram, adapter: Path) -> None:
    both = {
        f"{closed.address}/team": {"username": USER, "password": "old"},
        closed.address: {"username": USER, "password": PASSWORD},
    }
    (adapter.parent / "config.json").write_text(json.dumps({"auths": both}))
    keys = load_keyring([adapter.parent / "config.json"], {})
    pushed = await push(closed.address, "team/a:1", adapter, keys)
    assert await push(closed.address, "team/b:1", adapter, keys) == pushed
    assert len(await pull(closed.address, "team/a:1", adapter.parent / "blobs", keys)) == 1


async def test_bearer_tokens_are_fetched_for_what_is_done_and_again_when_they_run_out(adapter: Path) -> None:
    folder = adapter.parent
    async with TokenServer(folder) as tokens, RegistryProgram(folder / "registry", token=tokens.access) as program:
        keys = keyring(folder / "keys", program.address)
        await push(program.address, "team/a:1", adapter, keys)
        assert tokens.asked[-1] == "repository:team/a:pull,push"
        tokens.asked.clear()
        assert len(await pull(program.address, "team/a:1", folder / "blobs", keys)) == 1
        assert tokens.asked == ["repository:team/a:pull"]  # one for manifest and blobs
        identity = keyring(folder / "identity", program.address, identitytoken=REFRESH_TOKEN)
        assert len(await pull(program.address, "team/a:1", folder / "more", identity)) == 1
        wrong = keyring(folder / "wrong", program.address, password="hunter2")
        with pytest.raises(UnauthorizedError, match="who are you"):
            await pull(program.address, "team/a:1", folder / "none", wrong)


async def test_a_token_that_runs_out_during_a_pull_or_push_is_fetched_anew(adapter: Path) -> None:
    folder = adapter.parent
    # A second or two is what is left of each.
    async with (
        TokenServer(folder, lifetime_s=2 - LEEWAY_S) as tokens,
        RegistryProgram(folder / "registry", token=tokens.access) as program,
    ):
        image, keys = f"{program.address}/team/a:1", keyring(folder / "keys", program.address)
        async with Registry(Reference.parse(image), keys, retries=QUICK) as registry:
            await push_image(registry, adapter)
            asked = len(tokens.asked)
            await eventually(lambda: time.time() > tokens.run_out_s or None, message="the token's end")
            assert len(await fetch(registry, (await resolve(registry)).manifest.layers, folder / "blobs")) == 1
            await push_image(registry, adapter)
            assert len(tokens.asked) > asked


async def test_a_blob_that_is_broken_in_the_registry_is_refused_and_not_kept(
    program: RegistryProgram, adapter: Path
) -> None:
    # Of its own: a registry keeps one copy of the same content for all.
    (adapter / FILES[1]).write_bytes(WEIGHTS[::-1])
    await push(program.address, "broken:1", adapter)
    async with Registry(Reference.parse(f"{program.address}/broken:1"), retries=QUICK) as registry:
        [layer] = (await resolve(registry)).manifest.layers
    break_blob(program, layer.digest)
    with pytest.raises(DigestMismatchError, match="has other bytes than its digest says"):
        await pull(program.address, "broken:1", adapter.parent / "blobs")
    assert list((adapter.parent / "blobs").iterdir()) == []


async def test_a_blob_goes_on_where_its_connection_broke_however_often(program: RegistryProgram, adapter: Path) -> None:
    await push(program.address, "cut:1", adapter)
    async with RegistryProxy(program.address, Fault("/blobs/", cut_answer(500_000))) as proxy:
        [blob] = await pull(proxy.address, "cut:1", adapter.parent / "blobs")
        ranges = [each.headers.get("Range", "") for each in proxy.of("/blobs/")]
    assert ranges[0] == ""
    assert len(ranges) >= 6  # more than the tries that one place has
    assert all(each.startswith("bytes=") for each in ranges[1:])
    assert Digest.of_file(blob).hex in blob.name


async def test_what_an_earlier_process_left_is_gone_on_from_unless_it_is_broken(
    program: RegistryProgram, adapter: Path
) -> None:
    await push(program.address, "left:1", adapter)
    blobs = adapter.parent / "blobs"
    [blob] = await pull(program.address, "left:1", blobs)
    content = blob.read_bytes()
    for left in (content[: len(content) // 2], b"x" * 1000, content + b"more"):
        blob.unlink()
        blob.with_name(f"{blob.name}.partial").write_bytes(left)
        assert await pull(program.address, "left:1", blobs) == [blob]
        assert blob.read_bytes() == content
        assert list(blobs.iterdir()) == [blob]


async def test_without_its_registry_a_folder_that_is_filled_still_serves(adapter: Path) -> None:
    folder = adapter.parent
    async with RegistryProgram(folder / "registry") as program:
        digest = await push(program.address, "a:1", adapter)
        async with Registry(Reference.parse(f"{program.address}/a:1")) as registry:
            [layer] = (await resolve(registry)).manifest.layers
        assert (await puller(f"{program.address}/a:1", folder / "filled"))[0] == 0
    with pytest.raises(UnreachableError, match="Connection refused"):
        await pull(program.address, "a:1", folder / "blobs")
    assert not blob_path(folder / "blobs", layer.digest).exists()
    # By digest nobody needs to be asked.
    async with RegistryProgram(folder / "registry", port=int(program.address.split(":")[1])):
        pinned = f"{program.address}/a@{digest}"
        assert (await puller(pinned, folder / "pinned"))[0] == 0
    code, _, log = await puller(pinned, folder / "pinned")
    assert (code, log[-1].endswith("nothing to do")) == (0, True)


async def test_sigterm_ends_a_pull_at_once_and_leaves_no_adapter(program: RegistryProgram, adapter: Path) -> None:
    await push(program.address, "slow:1", adapter)
    silent = await asyncio.start_server(lambda _reader, _writer: asyncio.sleep(0), "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    process = await start_puller(f"127.0.0.1:{port}/slow:1", adapter.parent / "target")
    assert process.stderr is not None
    assert b"asking" in await process.stderr.readline()
    process.send_signal(signal.SIGTERM)
    await eventually(lambda: process.returncode == 143 or None, message="the puller's end")
    assert b"stopped by SIGTERM" in await process.stderr.read()
    assert not (adapter.parent / "target").exists()
    silent.close()
    await silent.wait_closed()
