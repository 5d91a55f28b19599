"""Chooses a runtime, and is one before its libraries are imported."""

from __future__ import annotations

import asyncio
import importlib.util
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from kaito.inference.errors import BadRequest, Unavailable
from kaito.inference.metrics import Metrics
from kaito.inference.options import Options, RuntimeName
from kaito.inference.requests import GenerationRequest
from kaito.inference.runtime import (
    Generation,
    Runtime,
    ServedModel,
    State,
    Status,
    Tokenizer,
    WithMetrics,
    WithTransformers,
)


def make_runtime(options: Options, metrics: Metrics) -> Runtime:
    """The runtime that the options name, in state LOADING; to be loaded, drained and closed by the caller.

    Raises:
        StartError: It cannot run here.
    """

    def transformers() -> Runtime:
        from kaito.inference.transformers_runtime import TransformersRuntime

        runtime = TransformersRuntime(options.model, options.engine, options.limits, metrics.engine)
        metrics.follow(runtime.download)
        return runtime

    def vllm() -> Runtime:
        from kaito.inference.vllm.runtime import VllmRuntime

        return VllmRuntime(options.model, options.engine, options.limits, options.vllm)

    name = choose_runtime(options.server.runtime)
    return StartingRuntime(name, vllm if name == "vllm" else transformers)


def choose_runtime(name: RuntimeName, *, devices: Path = Path("/dev")) -> Literal["transformers", "vllm"]:
    """What ``auto`` is here: vllm where it is installed and there is an NVIDIA GPU, else transformers.

    Args:
        name: what was asked for.
        devices: where the GPU's device file is.
    """
    if name != "auto":
        return name
    # Not imported, which takes many seconds; and it may be in an environment of its own, with its command in PATH.
    installed = importlib.util.find_spec("vllm") or shutil.which("vllm")
    return "vllm" if installed and (devices / "nvidiactl").exists() else "transformers"


class StartingRuntime:
    """A `Runtime` in front of one that takes seconds to import: until then it says so."""

    def __init__(self, name: str, build: Callable[[], Runtime]) -> None:
        self.name = name
        self._build = build
        self._runtime: Runtime | None = None
        self._status = Status(State.LOADING, f"importing {name}")

    def status(self) -> Status:
        """Where it stands."""
        return self._status if self._runtime is None else self._runtime.status()

    async def load(self) -> None:
        """Imports, then loads."""
        self._runtime = await asyncio.to_thread(self._build)
        await self._runtime.load()

    def models(self) -> Sequence[ServedModel]:
        """The base model, then each adapter; none yet while importing."""
        return () if self._runtime is None else self._runtime.models()

    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer."""
        return self.built.tokenizer()

    def defaults(self) -> Mapping[str, Any]:
        """What generation_config.json sets."""
        return self.built.defaults()

    async def submit(self, requests: Sequence[GenerationRequest]) -> Sequence[Generation]:
        """Queues requests, all of them or none."""
        return await self.built.submit(requests)

    async def generate_with_transformers(
        self, prompt: Sequence[int], kwargs: Mapping[str, Any], adapters: Mapping[str, float]
    ) -> Sequence[Sequence[int]]:
        """As `WithTransformers`, if the runtime behind is one.

        Raises:
            BadRequest: It is none.
        """
        runtime = self.built
        if not isinstance(runtime, WithTransformers):
            raise BadRequest(f"the runtime {runtime.name} cannot do this")
        return await runtime.generate_with_transformers(prompt, kwargs, adapters)

    async def drain(self, timeout_s: float) -> None:
        """Takes nothing new and waits for what runs."""
        if self._runtime is None:
            self._status = Status(State.DRAINING, "stopping")
        else:
            await self._runtime.drain(timeout_s)

    async def close(self) -> None:
        """Ends threads and processes."""
        if self._runtime is not None:
            await self._runtime.close()

    async def metrics(self) -> str:
        """What the runtime measures itself, if it does."""
        return await self._runtime.metrics() if isinstance(self._runtime, WithMetrics) else ""

    @property
    def built(self) -> Runtime:
        """The runtime behind this one.

        Raises:
            Unavailable: It is still being imported.
        """
        if self._runtime is None:
            raise Unavailable(f"the server is loading: {self._status.detail}")
        return self._runtime
