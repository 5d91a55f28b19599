"""A hub with the tiny model."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from aiohttp import web

from kaito.inference.options import ModelOptions
from tests.unit.inference.loading.fake_hub import Hub


@pytest.fixture
async def hub(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Hub]:
    """A hub with the tiny model as org/tiny, where HF_ENDPOINT points to."""
    files = {path.name: path.read_bytes() for path in (tiny / "model").iterdir()}
    files |= {"pytorch_model.bin": b"never asked for", "onnx/model.safetensors": b"nor this", "README.md": b"nor this"}
    hub = Hub(files)
    runner = web.AppRunner(hub.application())
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0]
    hub.url = f"http://{host}:{port}"
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    yield hub
    await runner.cleanup()


@pytest.fixture
def from_hub(hub: Hub, tmp_path: Path) -> Callable[..., ModelOptions]:
    """Options that name the hub's model and a cache of the test's own."""

    def options(model: str = "org/tiny", **settings: object) -> ModelOptions:
        return ModelOptions(model, download_dir=tmp_path / "cache", **settings)  # type: ignore[arg-type]

    return options
