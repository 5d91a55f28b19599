"""The runtime `transformers`: the engine of this package, in a thread of this process."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from kaito.inference.engine import Engine, Ticket, TokenRequest, Update
from kaito.inference.engine.generate import generate
from kaito.inference.errors import StartError, Unavailable
from kaito.inference.loading import DownloadProgress, LoadedModel, load_model
from kaito.inference.lora import Adapters
from kaito.inference.observer import Observer
from kaito.inference.options import EngineOptions, Limits, ModelOptions
from kaito.inference.requests import Delta, GenerationRequest
from kaito.inference.runtime import Generation, ServedModel, State, Status
from kaito.inference.text import ModelTokenizer, TextStream


class TransformersRuntime:
    """A `kaito.inference.runtime.Runtime`."""

    name = "transformers"

    def __init__(
        self, model: ModelOptions, engine: EngineOptions, limits: Limits, observer: Observer | None = None
    ) -> None:
        self.download = DownloadProgress()
        self._observer = observer
        self._model_options, self._engine_options, self._limits = model, engine, limits
        self._status = Status(State.LOADING, "starting")
        self._loaded: LoadedModel | None = None
        self._adapters: Adapters | None = None
        self._engine: Engine | None = None
        self._tokenizer: ModelTokenizer | None = None

    def status(self) -> Status:
        """Where it stands."""
        if self._engine is not None and self._engine.failure is not None:
            return Status(State.FAILED, f"the engine has failed: {self._engine.failure}")
        return self._status

    async def load(self) -> None:
        """Loads the model and its adapters and starts the engine."""
        loop = asyncio.get_running_loop()

        def progress(detail: str) -> None:
            loop.call_soon_threadsafe(setattr, self, "_status", Status(State.LOADING, detail))

        self._loaded = await asyncio.to_thread(load_model, self._model_options, progress, self.download)
        self._tokenizer = ModelTokenizer(self._loaded.tokenizer)
        options = self._model_options
        self._adapters = await asyncio.to_thread(
            Adapters.attach, self._loaded.model, options.adapters, options.strengths
        )
        if any(each.name == self._loaded.name for each in self._adapters.all):
            raise StartError(
                f"adapter {self._loaded.name} has the name of the model, so that nobody could ask for it; rename its "
                "folder, or give the model another name with --served-model-name"
            )
        self._engine = Engine(self._loaded, self._adapters, self._engine_options, self._limits, self._observer)
        self._engine.start()
        await self._engine.ready()
        self._status = Status(State.READY)

    def models(self) -> Sequence[ServedModel]:
        """The base model, then each adapter."""
        loaded, adapters = self._loaded, self._adapters
        if loaded is None or adapters is None or self._engine is None:
            return ()
        base = ServedModel(loaded.name, loaded.root, None, self._engine.max_model_len, vocab_size=loaded.vocab_size)
        return (
            base,
            *(
                replace(base, name=each.name, root=str(each.root), parent=base.name, strength=each.strength)
                for each in adapters.all
            ),
        )

    def tokenizer(self) -> ModelTokenizer:
        """The model's tokenizer."""
        self._ready()
        assert self._tokenizer is not None
        return self._tokenizer

    def defaults(self) -> Mapping[str, Any]:
        """What generation_config.json sets."""
        return self._ready().defaults

    async def submit(self, requests: Sequence[GenerationRequest]) -> Sequence[Generation]:
        """Queues requests, all of them or none."""
        loaded, engine = self._ready(), self._engine
        assert engine is not None
        tokenizer, ends = self.tokenizer(), loaded.eos_token_ids
        generations = [_Generation(TextStream(tokenizer, request, ends)) for request in requests]
        tickets = engine.submit_all(
            [
                (_tokens(request, ends), generation.take)
                for request, generation in zip(requests, generations, strict=True)
            ]
        )
        for generation, ticket in zip(generations, tickets, strict=True):
            generation.ticket = ticket
        return generations

    async def generate_with_transformers(
        self, prompt: Sequence[int], kwargs: Mapping[str, Any], adapters: Mapping[str, float]
    ) -> Sequence[Sequence[int]]:
        """New tokens of each sequence of transformers' own `generate`; see `WithTransformers`."""
        loaded = self._ready()
        assert self._engine is not None
        assert self._adapters is not None
        return await generate(self._engine, loaded, self._adapters, prompt, kwargs, adapters)

    def _ready(self) -> LoadedModel:
        if self._loaded is None or self._status.state is not State.READY:
            raise Unavailable(f"the model is {self._status.state.value}: {self._status.detail}")
        return self._loaded

    async def drain(self, timeout_s: float) -> None:
        """Takes nothing new, lets what runs end, then aborts the rest."""
        self._status = Status(State.DRAINING, "stopping")
        if self._engine is not None:
            await self._engine.drain(timeout_s)

    async def close(self) -> None:
        """Ends the engine's thread, and a download at its next piece."""
        self.download.stop()
        if self._engine is not None:
            await asyncio.to_thread(self._engine.stop)


def _tokens(request: GenerationRequest, ends: frozenset[int]) -> TokenRequest:
    return TokenRequest(
        prompt=request.prompt,
        max_tokens=request.max_tokens,
        min_tokens=request.min_tokens,
        stop_ids=request.stop_token_ids | (frozenset() if request.ignore_eos else ends),
        sampling=request.sampling,
        logprobs=request.logprobs,
        adapters=request.adapters,
    )


class _Generation:
    ticket: Ticket

    def __init__(self, stream: TextStream) -> None:
        # No asyncio.Queue: each token of each request passes here, and it has one reader only.
        self._came: deque[Update] = deque()
        self._waiting: asyncio.Future[None] | None = None
        self._stream = stream
        self._ended = False

    def take(self, update: Update) -> None:
        self._came.append(update)
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def __aiter__(self) -> AsyncIterator[Delta]:
        return self

    async def __anext__(self) -> Delta:
        if self._ended:
            raise StopAsyncIteration
        if not self._came:
            self._waiting = asyncio.get_running_loop().create_future()
            await self._waiting
        update = self._came.popleft()
        # When the loop falls behind the engine, what has come meanwhile is one delta, and costs what one token does.
        while self._came and update.finish_reason is None and update.error is None:
            update = update.followed_by(self._came.popleft())
        if update.error is not None:
            self._ended = True
            raise update.error
        delta = self._stream.push(update.tokens, update.logprobs, update.finish_reason)
        if delta.finish_reason is not None:
            # A stop string ends the text while the engine still goes on.
            self._ended = True
            self.ticket.cancel(delta.finish_reason)
        return delta

    async def aclose(self) -> None:
        self._ended = True
        self.ticket.cancel()
