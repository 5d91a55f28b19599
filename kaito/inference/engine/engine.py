"""The engine: one thread that owns the model."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from kaito.inference.engine.tokens import TokenRequest, Update
from kaito.inference.loading import LoadedModel
from kaito.inference.lora import Adapters
from kaito.inference.options import EngineOptions
from kaito.inference.sampling import Sampler

Sink = Callable[[Update], None]


@dataclass(slots=True)
class Ticket:
    """A request in the engine."""

    request: TokenRequest
    sink: Sink
    _cancelled: threading.Event = field(default_factory=threading.Event)

    def cancel(self) -> None:
        """Ends it with finish reason ``abort``, within one step."""
        self._cancelled.set()

    @property
    def cancelled(self) -> bool:
        """Whether `cancel` was called."""
        return self._cancelled.is_set()


class Engine:
    """Runs requests; `submit` from any task of the loop that it was started in, whose sinks are called there."""

    def __init__(self, loaded: LoadedModel, adapters: Adapters, options: EngineOptions) -> None:
        self._loaded = loaded
        self._adapters = adapters
        self._queue: queue.SimpleQueue[Ticket | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Starts the thread."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def submit(self, request: TokenRequest, sink: Sink) -> Ticket:
        """Queues a request."""
        ticket = Ticket(request, sink)
        self._queue.put(ticket)
        return ticket

    def stop(self) -> None:
        """Ends the thread after what it works on."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (ticket := self._queue.get()) is not None:
            with torch.inference_mode():
                self._one(ticket)

    def _one(self, ticket: Ticket) -> None:
        # One after the other, without slots: stands in until the batched engine is here.
        request = ticket.request
        sampler = Sampler(self._loaded.vocab_size)
        sampler.add(0, request)
        tokens, cache = torch.tensor([request.prompt]), None
        weights = self._adapters.weights([request.adapters])
        for count in range(1, request.max_tokens + 1):
            with self._adapters.applied(weights):
                output = self._loaded.model(tokens, past_key_values=cache, use_cache=True, logits_to_keep=1)
            cache = output.past_key_values
            [chosen] = sampler.choose([0], output.logits[:, -1])
            tokens = torch.tensor([[chosen.token]])
            stopped = chosen.token in request.stop_ids
            finish = "abort" if ticket.cancelled else "stop" if stopped else "length"
            done = ticket.cancelled or stopped or count == request.max_tokens
            update = Update(
                (chosen.token,),
                () if chosen.logprob is None else (chosen.logprob,),
                finish if done else None,  # type: ignore[arg-type]
            )
            assert self._loop is not None
            self._loop.call_soon_threadsafe(ticket.sink, update)
            if done:
                return
