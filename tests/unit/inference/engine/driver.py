"""Runs an engine in a test: requests in, tokens out, and what transformers says they should be."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import torch
from transformers import AutoTokenizer, PreTrainedModel

from kaito.inference.engine import Engine, Ticket, TokenRequest, Update
from kaito.inference.loading import LoadedModel
from kaito.inference.lora import Adapters
from kaito.inference.observer import Observer
from kaito.inference.options import EngineOptions, Limits
from kaito.inference.requests import Sampling

GREEDY = Sampling(temperature=0.0)


def loaded_of(model: PreTrainedModel, tiny: Path, max_model_len: int = 512) -> LoadedModel:
    """A model as the loader gives it."""
    return LoadedModel(
        model=model.eval(),
        tokenizer=AutoTokenizer.from_pretrained(tiny / "model"),
        root="here",
        name="here",
        max_model_len=max_model_len,
        eos_token_ids=frozenset(),
        defaults={},
        vocab_size=model.config.vocab_size,
    )


def request_of(
    prompt: Sequence[int],
    max_tokens: int,
    *,
    stop_ids: frozenset[int] = frozenset(),
    adapters: Mapping[str, float] | None = None,
    sampling: Sampling = GREEDY,
) -> TokenRequest:
    """A request, greedy by default."""
    return TokenRequest(
        prompt=tuple(prompt),
        max_tokens=max_tokens,
        min_tokens=0,
        stop_ids=stop_ids,
        sampling=sampling,
        logprobs=None,
        adapters=adapters or {},
    )


@asynccontextmanager
async def running(
    loaded: LoadedModel,
    options: EngineOptions | None = None,
    *,
    adapters: Adapters | None = None,
    limits: Limits | None = None,
    observer: Observer | None = None,
) -> AsyncIterator[Engine]:
    """An engine that has tried its model; stopped after."""
    engine = Engine(loaded, adapters or Adapters(()), options or EngineOptions(threads=1), limits, observer)
    engine.start()
    try:
        await engine.ready()
        yield engine
    finally:
        await asyncio.to_thread(engine.stop)


class Answer:
    """One request and what came of it."""

    def __init__(self, engine: Engine, request: TokenRequest) -> None:
        self.updates: list[Update] = []
        self.ended = asyncio.Event()
        self._more = asyncio.Event()
        self.ticket: Ticket = engine.submit(request, self._sink)

    def _sink(self, update: Update) -> None:
        assert not self.ended.is_set(), "an update after the last one"
        self.updates.append(update)
        self._more.set()
        if update.finish_reason or update.error:
            self.ended.set()

    @property
    def tokens(self) -> list[int]:
        """All tokens so far."""
        return [token for update in self.updates for token in update.tokens]

    async def started(self) -> None:
        """Waits until it has a slot."""
        for _ in range(1_000_000):
            if self.ticket.started:
                return
            await asyncio.sleep(0)
        raise AssertionError("it got no slot")

    async def has(self, count: int) -> None:
        """Waits until so many tokens came."""
        while len(self.tokens) < count:
            assert not self.ended.is_set()
            self._more.clear()
            await self._more.wait()

    async def end(self) -> Update:
        """The last update."""
        await self.ended.wait()
        return self.updates[-1]


def generated(model: PreTrainedModel, prompt: Sequence[int], max_tokens: int) -> list[int]:
    """What transformers' own `generate` continues a prompt with, greedily."""
    with torch.inference_mode():
        tokens = torch.tensor([list(prompt)])
        out = model.generate(
            tokens,
            attention_mask=torch.ones_like(tokens),
            max_new_tokens=max_tokens,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
        )
    return [int(token) for token in out[0, len(prompt) :]]
