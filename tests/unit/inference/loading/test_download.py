"""Models by their Hugging Face id, from a hub on loopback."""

from __future__ import annotations

import asyncio
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import constants

from kaito.inference.errors import StartError
from kaito.inference.loading import DownloadProgress, LoadedModel, load_model
from kaito.inference.options import ModelOptions
from tests.unit.inference.loading.fake_hub import Hub

Options = Callable[..., ModelOptions]


async def load(options: ModelOptions, download: DownloadProgress | None = None) -> tuple[LoadedModel, list[str]]:
    told: list[str] = []
    return await asyncio.to_thread(load_model, options, told.append, download), told


async def refusal(options: ModelOptions) -> str:
    with pytest.raises(StartError) as refused:
        await load(options)
    [line] = str(refused.value).splitlines()
    return line


async def test_a_model_comes_by_its_id_with_only_what_is_served_of_it(
    hub: Hub, from_hub: Options, capfd: pytest.CaptureFixture[str]
) -> None:
    download = DownloadProgress()
    loaded, told = await load(from_hub(token="hf_secret"), download)
    assert (loaded.name, loaded.root) == ("org/tiny", "org/tiny")
    assert {name for name, _ in hub.ranges} == {
        "model.safetensors",
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
    }
    assert hub.tokens == {"Bearer hf_secret"}
    assert download.done_bytes == download.total_bytes == len(hub.files["model.safetensors"])
    assert (download.bytes_per_s, download.remaining_s) == (0, 0)
    assert told[0] == f"looking for org/tiny on {hub.url}"
    assert any(text.startswith("downloading org/tiny: ") for text in told)
    assert told[-1] == "loading org/tiny as float32 on cpu"
    assert tuple(capfd.readouterr()) == ("", "")


async def test_a_revision_and_a_served_name_are_taken(hub: Hub, from_hub: Options) -> None:
    loaded, _ = await load(from_hub(revision="c" * 40, served_name="ours"))
    assert loaded.name == "ours"


async def test_what_is_in_the_cache_is_not_asked_for_again_and_does_without_the_hub(
    hub: Hub, from_hub: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    await load(from_hub())
    hub.ranges.clear()
    download = DownloadProgress()
    await load(from_hub(), download)
    assert hub.ranges == []
    assert download.total_bytes == 0
    monkeypatch.setenv("HF_ENDPOINT", unreachable())
    loaded, _ = await load(from_hub())
    assert loaded.name == "org/tiny"


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """huggingface_hub keeps what came of a broken transfer in whole chunks, of 10 MB; the tiny model has 0.5 MB."""
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 10_000)


@pytest.mark.usefixtures("small_chunks")
async def test_a_transfer_that_is_reset_goes_on_where_it_was(hub: Hub, from_hub: Options) -> None:
    hub.break_off["model.safetensors"] = [100_000, 50_000]
    download = DownloadProgress()
    await load(from_hub(), download)
    assert [start for name, start in hub.ranges if name == "model.safetensors"] == [0, 100_000, 150_000]
    assert download.done_bytes == download.total_bytes


@pytest.mark.usefixtures("small_chunks")
async def test_a_download_that_breaks_off_for_good_goes_on_at_the_next_start(hub: Hub, from_hub: Options) -> None:
    hub.break_off["model.safetensors"] = [100_000, 0, 0, 0]
    assert "what has come is kept: start again to go on" in await refusal(from_hub())
    hub.break_off.clear()
    hub.ranges.clear()
    await load(from_hub())
    assert [start for name, start in hub.ranges if name == "model.safetensors"] == [100_000]


async def test_a_download_is_stopped_at_its_next_piece_and_kept(hub: Hub, from_hub: Options) -> None:
    download = DownloadProgress()
    download.stop()
    with pytest.raises(StartError, match="was stopped; what has come is kept"):
        await load(from_hub(), download)
    loaded, _ = await load(from_hub())
    assert loaded.name == "org/tiny"


@pytest.mark.parametrize(
    ("status", "code", "says"),
    [
        (
            403,
            "GatedRepo",
            "org/tiny is gated: accept its licence at {url}/org/tiny; a token of that account, HF_TOKEN",
        ),
        (401, "RepoNotFound", "org/tiny is not on {url}, or is private: check its name; a private model needs a token"),
        (404, "RepoNotFound", "org/tiny is not on {url}, or is private"),
        (403, "", "the hub answers 403: the token in HF_TOKEN is not valid, or has no right to read it"),
        (500, "", "cannot be reached ("),
    ],
)
async def test_a_hub_that_refuses_is_quoted_with_what_to_do(
    hub: Hub, from_hub: Options, status: int, code: str, says: str
) -> None:
    hub.refusal = (status, code)
    assert says.format(url=hub.url) in await refusal(from_hub())


async def test_a_gated_model_says_whether_a_token_was_given(
    hub: Hub, from_hub: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.refusal = (403, "GatedRepo")
    assert (await refusal(from_hub())).endswith("HF_TOKEN, must be given")
    assert (await refusal(from_hub(token="hf_other"))).endswith("HF_TOKEN, has no access yet")


async def test_a_revision_that_is_not_there_is_refused(hub: Hub, from_hub: Options) -> None:
    assert await refusal(from_hub(revision="v9")) == f"org/tiny has no revision v9; see {hub.url}/org/tiny/tree/main"


async def test_another_model_is_not_there(hub: Hub, from_hub: Options) -> None:
    assert (await refusal(from_hub("org/other"))).startswith(f"org/other is not on {hub.url}")


async def test_a_model_of_pickles_is_refused_before_anything_comes(hub: Hub, from_hub: Options) -> None:
    hub.files.pop("model.safetensors")
    assert "has no safetensors but pytorch_model.bin; choose a model with safetensors" in await refusal(from_hub())
    assert hub.ranges == []


async def test_a_model_that_the_disk_has_no_space_for_is_refused(hub: Hub, from_hub: Options) -> None:
    hub.sizes["model.safetensors"] = 10**18
    assert "too little disk space: org/tiny needs 1000000000.0 GB more" in await refusal(from_hub())
    assert hub.ranges == []


async def test_what_has_come_of_a_model_needs_no_space_twice(
    hub: Hub, from_hub: Options, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 10_000)
    hub.break_off["model.safetensors"] = [500_000, 0]
    await refusal(from_hub())
    full = shutil.disk_usage(tmp_path)._replace(free=100_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: full)
    loaded, _ = await load(from_hub())
    assert loaded.name == "org/tiny"


async def test_no_network_is_said_with_what_to_check(
    from_hub: Options, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    url = unreachable()
    monkeypatch.setenv("HF_ENDPOINT", url)
    line = await refusal(from_hub())
    assert line.startswith(f"{url} cannot be reached (")
    assert f"and org/tiny is not in {tmp_path / 'cache'}; check network, proxy and HF_ENDPOINT" in line


def unreachable() -> str:
    """Where nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"
