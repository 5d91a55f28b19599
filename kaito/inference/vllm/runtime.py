"""The runtime `vllm`: starts vLLM's server, follows its health, and asks it for what our own routes need."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from transformers import GenerationConfig

from kaito.inference.errors import ContextLengthExceeded, StartError, Unavailable
from kaito.inference.loading import find_model, load_tokenizer
from kaito.inference.options import EngineOptions, Limits, ModelOptions
from kaito.inference.requests import GenerationRequest
from kaito.inference.runtime import Generation, ServedModel, State, Status
from kaito.inference.text import ModelTokenizer
from kaito.inference.vllm import placement, upstream
from kaito.inference.vllm.adapters import LoraModules, prepare
from kaito.inference.vllm.admission import Admission, Admitted
from kaito.inference.vllm.arguments import Machine, arguments, served_name
from kaito.inference.vllm.generation import VllmGeneration, body
from kaito.inference.vllm.options import VllmOptions
from kaito.inference.vllm.process import Child, command, reserve_port
from kaito.inference.vllm.upstream import Upstream

_log = logging.getLogger(__name__)
_JSON = (("Content-Type", "application/json"),)
_UNWELL_AFTER = 3
"""So many looks in a row must find vLLM unwell: one may fall into a moment in which it is busy."""
_ENVIRONMENT = {
    # Both compile on the machine, with a compiler that slim images lack.
    "VLLM_USE_FLASHINFER_SAMPLER": "0",
    "VLLM_USE_DEEP_GEMM": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "PYTHONUNBUFFERED": "1",
}
"""For vLLM where our own environment does not say otherwise."""


class VllmRuntime:
    """A `kaito.inference.runtime.Runtime`.

    Attributes:
        admission: what is on its way to vLLM, of our routes and of the proxied ones.
    """

    name = "vllm"

    def __init__(self, model: ModelOptions, engine: EngineOptions, limits: Limits, options: VllmOptions) -> None:
        self._model, self._engine, self._limits, self._options = model, engine, limits, options
        self._status = Status(State.LOADING, "starting")
        self.admission = Admission(limits, options.max_num_seqs)
        self._modules = LoraModules()
        self._max_model_len = 0
        self._fields: Mapping[str, frozenset[str]] = {}
        self._tokenizer: ModelTokenizer | None = None
        self._defaults: Mapping[str, Any] = {}
        self._child: Child | None = None
        self._upstream: Upstream | None = None
        self._follower: asyncio.Task[None] | None = None
        self._ends = contextlib.ExitStack()

    def status(self) -> Status:
        """Where it stands; while vLLM loads, the last line that it wrote."""
        child = self._child
        if self._status.state is State.LOADING and child is not None and child.last_line:
            return Status(State.LOADING, child.last_line)
        return self._status

    async def load(self) -> None:
        """Starts vLLM and waits until it is well.

        Raises:
            StartError: vLLM is not installed, cannot be asked for this, or ended while it loaded.
        """
        try:
            await self._load()
        except BaseException:
            await self.close()
            raise
        self._status = Status(State.READY)
        self._follower = asyncio.create_task(self._follow(), name="vllm health")

    async def _load(self) -> None:
        self._check()
        start = command()
        work = Path(tempfile.mkdtemp(prefix="kaito-vllm-"))
        self._ends.callback(shutil.rmtree, work, ignore_errors=True)
        self._modules = await asyncio.to_thread(prepare, self._model.adapters, self._model.strengths, work)
        folder = await asyncio.to_thread(find_model, self._model, self._progress(asyncio.get_running_loop()))
        self._tokenizer = ModelTokenizer(await asyncio.to_thread(load_tokenizer, self._model, folder))
        self._defaults = await asyncio.to_thread(_defaults, folder)
        # Held until we end, so that nobody else is given it.
        held = self._ends.enter_context(reserve_port())
        machine = await asyncio.to_thread(self._machine, folder, held.getsockname()[1])
        key = secrets.token_urlsafe(32)
        line = arguments(self._model, self._engine, self._limits, self._options, machine)
        _log.info("vllm: starting: %s", " ".join([*start, *line]))
        self._child = await Child.start([*start, *line], self._environment(key))
        self._upstream = Upstream(machine.port, key)
        await self._until_well(self._child, self._upstream)
        self._max_model_len = await self._upstream.max_model_len(self._base)
        self._fields = await self._upstream.fields()

    def models(self) -> Sequence[ServedModel]:
        """The base model, then each adapter."""
        if self._max_model_len == 0:
            return ()
        base = ServedModel(self._base, self._model.model, None, self._max_model_len)
        return (
            base,
            *(
                ServedModel(name, str(self._modules.roots[name]), base.name, base.max_model_len, strength)
                for name, strength in self._modules.strengths.items()
            ),
        )

    def tokenizer(self) -> ModelTokenizer:
        """The model's tokenizer, which we load ourselves: it answers at once, and vLLM need not be asked."""
        self.ready()
        assert self._tokenizer is not None
        return self._tokenizer

    def defaults(self) -> Mapping[str, Any]:
        """What generation_config.json sets."""
        return self._defaults

    def fields(self, path: str) -> frozenset[str]:
        """Names of the fields that vLLM knows in a path's body; empty if it does not say."""
        return self._fields.get(path, frozenset())

    def named(self, adapters: Mapping[str, float]) -> str:
        """vLLM's name of what has these strengths; see `LoraModules.named`."""
        return self._modules.named(adapters, self._base)

    def ready(self) -> Upstream:
        """vLLM's server.

        Raises:
            Unavailable: It is loading, draining, or has failed.
        """
        status = self.status()
        if self._upstream is None or status.state is not State.READY:
            raise Unavailable(f"the model is {status.state.value}: {status.detail}", retry_after_s=10)
        return self._upstream

    async def metrics(self) -> str:
        """vLLM's own, in Prometheus' text format; empty while there are none."""
        return await self._upstream.metrics() if self._upstream is not None else ""

    async def submit(self, requests: Sequence[GenerationRequest]) -> Sequence[Generation]:
        """Sends requests to vLLM, all of them or none."""
        server = self.ready()
        bodies = [body(request, self.named(request.adapters)) for request in requests]
        for request in requests:
            self._check_length(request)
        admitted = self.admission.enter([len(request.prompt) for request in requests])
        tasks = [
            asyncio.create_task(self._open(server, each, request, ticket))
            for each, request, ticket in zip(bodies, requests, admitted, strict=True)
        ]
        try:
            return await asyncio.gather(*tasks)
        except BaseException:
            for task in tasks:
                task.cancel()
            for outcome in await asyncio.gather(*tasks, return_exceptions=True):
                if isinstance(outcome, VllmGeneration):
                    await outcome.aclose()
            raise

    async def drain(self, timeout_s: float) -> None:
        """Takes nothing new, waits for what runs, then aborts the rest."""
        self._status = Status(State.DRAINING, "stopping")
        await self.admission.drain(timeout_s)

    async def close(self) -> None:
        """Ends vLLM: SIGTERM, and SIGKILL if it does not follow."""
        if self._follower is not None:
            self._follower.cancel()
            await asyncio.wait([self._follower])
        if self._upstream is not None:
            await self._upstream.close()
        if self._child is not None:
            await self._child.stop(self._options.stop_s)
        self._ends.close()

    @property
    def _base(self) -> str:
        return served_name(self._model)

    def _check(self) -> None:
        if self._model.dtype == "int8":
            raise StartError("--dtype int8: not with the runtime vllm; choose another, or --runtime transformers")
        if self._model.device == "cpu":
            raise StartError("--device cpu: not with the runtime vllm, which needs a GPU; use --runtime transformers")

    def _progress(self, loop: asyncio.AbstractEventLoop) -> Callable[[str], None]:
        def progress(detail: str) -> None:
            loop.call_soon_threadsafe(setattr, self, "_status", Status(State.LOADING, detail))

        return progress

    def _machine(self, folder: Path, port: int) -> Machine:
        devices = placement.gpus()
        spread = placement.parallelism(devices, placement.model_bytes(folder))
        return Machine(folder, port, placement.memory_utilization(devices), spread, self._modules)

    def _environment(self, key: str) -> dict[str, str]:
        given = {name: value for name, value in _ENVIRONMENT.items() if name not in os.environ}
        # In a variable, since other users of the machine can read a command line.
        return {**given, "VLLM_API_KEY": key}

    async def _until_well(self, child: Child, server: Upstream) -> None:
        ended = asyncio.create_task(child.wait())
        try:
            while await server.problem() is not None:
                await asyncio.wait([ended], timeout=self._options.poll_s)
                if ended.done():
                    raise StartError(
                        f"vLLM ended with exit status {ended.result()} while it loaded; its last lines:\n{child.output}"
                    )
        finally:
            ended.cancel()
            await asyncio.wait([ended])

    async def _follow(self) -> None:
        """Keeps the status true while vLLM runs."""
        child, server, unwell = self._child, self._upstream, 0
        assert child is not None
        assert server is not None
        ended = asyncio.create_task(child.wait())
        try:
            while not ended.done():
                problem = await server.problem()
                unwell = unwell + 1 if problem else 0
                self.admission.waiting = upstream.waiting(await server.metrics())
                self._tell(State.FAILED if unwell >= _UNWELL_AFTER else State.READY, problem or "")
                await asyncio.wait([ended], timeout=self._options.poll_s)
            self._tell(State.FAILED, f"vLLM ended with exit status {ended.result()}: {child.last_line}")
            _log.error("vllm: ended with exit status %d; its last lines:\n%s", ended.result(), child.output)
        finally:
            ended.cancel()
            await asyncio.wait([ended])

    def _tell(self, state: State, detail: str) -> None:
        if self._status.state is not State.DRAINING and self._status.state is not state:
            self._status = Status(state, detail)

    def _check_length(self, request: GenerationRequest) -> None:
        total = len(request.prompt) + request.max_tokens
        if total > self._max_model_len:
            raise ContextLengthExceeded(
                f"the prompt has {len(request.prompt)} tokens and {request.max_tokens} are to follow, {total} in all; "
                f"the model's context has {self._max_model_len}; shorten the prompt or ask for fewer"
            )

    async def _open(
        self, server: Upstream, content: Mapping[str, Any], request: GenerationRequest, ticket: Admitted
    ) -> VllmGeneration:
        try:
            async with ticket.timed():
                response = await server.open(
                    "POST", "/v1/completions", headers=_JSON, body=msgspec.json.encode(content)
                )
                if response.status != 200:
                    async with response:
                        raise await upstream.refusal(response)
        except BaseException:
            ticket.leave()
            raise
        return VllmGeneration(response, ticket, request.logprobs)


def _defaults(folder: Path) -> Mapping[str, Any]:
    if not (folder / "generation_config.json").is_file():
        return {}
    defaults: dict[str, Any] = GenerationConfig.from_pretrained(folder, local_files_only=True).to_diff_dict()
    return defaults
