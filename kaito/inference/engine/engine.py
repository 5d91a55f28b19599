"""The engine, as the event loop uses it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import torch

from kaito.inference.cpus import granted_cpus
from kaito.inference.engine.accounts import Accounts, EngineStats
from kaito.inference.engine.alone import AloneLane
from kaito.inference.engine.choice import (
    explain_difference,
    length_bound,
    length_that_fits,
    position_bytes,
    positions_that_fit,
    slot_layers,
)
from kaito.inference.engine.forward import SlotForward
from kaito.inference.engine.lane import Lane, SlotLane
from kaito.inference.engine.packing import pack
from kaito.inference.engine.slots import SlotCache
from kaito.inference.engine.ticket import Sink, Ticket
from kaito.inference.engine.tokens import TokenRequest, Update
from kaito.inference.engine.worker import Job, Report, Worker, job_of
from kaito.inference.errors import (
    BadRequest,
    ContextLengthExceeded,
    ModelNotFound,
    Overloaded,
    RequestTimeout,
    Unavailable,
)
from kaito.inference.loading import LoadedModel
from kaito.inference.lora import Adapters
from kaito.inference.observer import Observer, Unobserved
from kaito.inference.options import EngineOptions, Limits
from kaito.inference.sampling import Sampler

_log = logging.getLogger(__name__)

# How long a step may take after which what runs is let go: a drain ends, even if the model hangs.
_ABORT_S = 5.0

T = TypeVar("T")
Turn = Callable[[], bool]


class Engine:
    """Runs requests; used from the loop that it was started in, where sinks are called, too.

    One thread owns the model. What a step brings comes into the loop in one call.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        adapters: Adapters,
        options: EngineOptions,
        limits: Limits | None = None,
        observer: Observer | None = None,
    ) -> None:
        self._loaded, self._adapters, self._options = loaded, adapters, options
        self._limits = limits or Limits()
        self.max_model_len = min(loaded.max_model_len, options.max_model_len or loaded.max_model_len)
        if options.max_model_len is not None and options.max_model_len > loaded.max_model_len:
            _log.warning(
                "max_model_len is %d, as the model has no longer context; %d was asked for",
                loaded.max_model_len,
                options.max_model_len,
            )
        self._vocabulary = loaded.model.get_input_embeddings().num_embeddings
        self._accounts = Accounts(
            self._limits, observer or Unobserved(), options.max_num_seqs, options.max_num_seqs * self.max_model_len
        )
        self._bound: int | None = None
        self._position_bytes = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._jobs: dict[Job, asyncio.Future[Any]] = {}
        self._ready = asyncio.Event()
        self._idle = asyncio.Event()
        self._draining = self._closed = False
        self.failure: Exception | None = None
        self.batched = False
        self._worker = Worker(
            self._lanes,
            self._route,
            Sampler(loaded.vocab_size, loaded.model.device),
            seats=options.max_num_seqs,
            prefill_tokens=options.prefill_tokens,
            report=self._post,
            failed=lambda error: self._call(self._fail, error),
            probe=self._probe,
        )
        self._thread = threading.Thread(target=self._worker.run, name="engine", daemon=True)

    def start(self) -> None:
        """Starts the thread, which tries the model before it takes requests; they may be submitted at once."""
        self._loop = asyncio.get_running_loop()
        self._idle.set()
        self._thread.start()

    async def ready(self) -> None:
        """Waits until the model has been tried.

        Raises:
            Unavailable: It cannot run.
        """
        await self._ready.wait()
        self._check_open()

    def submit(self, request: TokenRequest, sink: Sink) -> Ticket:
        """Queues one request; see `submit_all`."""
        [ticket] = self.submit_all([(request, sink)])
        return ticket

    def submit_all(self, requests: Sequence[tuple[TokenRequest, Sink]]) -> list[Ticket]:
        """Queues requests, all of them or none.

        Raises:
            ContextLengthExceeded: Prompt and max_tokens do not fit the model's context.
            BadRequest: A token is not in the vocabulary, or there is none.
            ModelNotFound: No adapter of a name.
            Overloaded: As much waits as may wait.
            Unavailable: The engine drains, has failed or is closed.
        """
        self._check_open()
        for request, _ in requests:
            self.check_prompt(request.prompt, request.max_tokens, request.adapters)
        self._accounts.check_room([request for request, _ in requests])
        tickets = [Ticket(request, sink, self._worker) for request, sink in requests]
        assert self._loop is not None
        for ticket in tickets:
            self._accounts.queued(ticket)
            ticket.timer = self._loop.call_later(self._limits.request_timeout_s, self._expire, ticket)
        self._idle.clear()
        self._accounts.tell_load()
        self._worker.submit(tickets)
        return tickets

    def _check_open(self) -> None:
        if self.failure is not None:
            raise Unavailable(f"the engine has failed: {self.failure}")
        if self._draining or self._closed:
            raise Unavailable("the server is stopping; send the request to another replica or try again later")

    def check_prompt(self, prompt: Sequence[int], max_tokens: int, adapters: Iterable[str]) -> None:
        """Refuses what cannot run; see `submit_all`."""
        size, limit = len(prompt), self.max_model_len
        whole = size + max_tokens
        if size == 0:
            raise BadRequest("the prompt has no tokens; give at least one", param="prompt")
        if whole > limit:
            raise ContextLengthExceeded(
                f"the prompt has {size} tokens and max_tokens is {max_tokens}, together {whole}; "
                f"the model's context is {limit} tokens: shorten the prompt or lower max_tokens"
            )
        if not 0 <= min(prompt) <= max(prompt) < self._vocabulary:
            raise BadRequest(
                f"the prompt has token ids from {min(prompt)} to {max(prompt)}; the model's vocabulary "
                f"has 0 to {self._vocabulary - 1}",
                param="prompt",
            )
        known = [adapter.name for adapter in self._adapters.all]
        for name in adapters:
            if name not in known:
                raise ModelNotFound(f"no adapter {name!r} is served; there are: {', '.join(known) or 'none'}")

    def check_memory(self, sequences: int, length: int, param: str) -> None:
        """Refuses a call on the model whose own keys and values memory does not hold.

        Raises:
            BadRequest: So it is.
        """
        fits = positions_that_fit(self._position_bytes, self._loaded.model.device)
        if sequences * length > fits:
            raise BadRequest(
                f"{param} is {sequences}: so many sequences of {length} tokens are {sequences * length} together, and "
                f"memory holds {int(fits)} now; ask for fewer, for a shorter answer, or try again later",
                param=param,
            )

    def stats(self) -> EngineStats:
        """What is in the engine now."""
        return self._accounts.stats()

    async def exclusive(self, work: Callable[[Turn], T]) -> T:
        """Runs something else on the model, in the engine's thread.

        It has the model for itself until it calls its argument, which lets the sequences of the engine go one step
        further and says whether to go on. A cancellation of the caller makes it say no, at the next call.

        Raises:
            Overloaded: As many of these wait as requests may wait.
            RequestTimeout: It took longer than a request may take.
            Unavailable: The engine drains, has failed or is closed.
        """
        self._check_open()
        if len(self._jobs) > self._limits.max_waiting:
            raise Overloaded(f"{len(self._jobs)} calls of this kind wait already; try again later", retry_after_s=5)
        assert self._loop is not None
        outcome: asyncio.Future[T] = self._loop.create_future()

        def done(value: T, error: Exception | None) -> None:
            if outcome.done():
                return
            if job.cancelled or self._closed:
                # What it gave is not whole.
                outcome.set_exception(Unavailable("the server is stopping, and the answer is not complete"))
            elif error is None:
                outcome.set_result(value)
            else:
                outcome.set_exception(error)

        job = job_of(work, done)
        self._jobs[job] = outcome
        self._idle.clear()
        self._worker.do(job)
        limit = self._limits.request_timeout_s
        try:
            async with asyncio.timeout(limit):
                return await outcome
        except TimeoutError:
            raise RequestTimeout(f"the request took longer than {limit:g} s") from None
        finally:
            job.cancelled = True
            self._jobs.pop(job, None)
            self._check_idle()

    async def drain(self, timeout_s: float) -> None:
        """Takes nothing new, lets what runs or waits end, and after a time aborts the rest."""
        self._draining = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        for ticket in self._accounts.open:
            ticket.cancel()
        for job in self._jobs:
            job.cancelled = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_ABORT_S):
                await self._idle.wait()
        self._abandon()

    def stop(self) -> None:
        """Ends the thread and waits for it, so not in the loop's thread; what runs then gets an abort."""
        self._closed = True
        self._worker.stop()
        if self._thread.is_alive():
            self._thread.join()
        self._call(self._abandon)

    def _abandon(self) -> None:
        for ticket in self._accounts.open:
            self._deliver(ticket, Update(finish_reason="abort"))
        self._end_jobs(Unavailable("the server is stopping"))

    def _end_jobs(self, error: Exception) -> None:
        for outcome in self._jobs.values():
            if not outcome.done():
                outcome.set_exception(error)
        self._check_idle()

    # In the engine's thread.

    def _lanes(self) -> Sequence[Lane]:
        # Of this thread, which is why it is set here.
        torch.set_num_threads(self._options.threads or granted_cpus())
        model = self._loaded.model
        pack(model)
        alone = AloneLane(model, self._adapters)
        try:
            cache = SlotCache(slot_layers(model), self._options.max_num_seqs, self.max_model_len)
            forward = SlotForward(model, cache)
            problem = explain_difference(model, forward, cache)
        except Exception as error:
            _log.debug("the slot cache cannot be made for this model", exc_info=error)
            problem = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        if problem is not None:
            _log.warning("sequences run one by one: the slot cache does not suit this model: %s", problem)
            self._call(self._ready.set)
            return (alone,)
        self.batched = True
        self._bound = length_bound(model)
        self._position_bytes = position_bytes(cache)
        self._limit_to_memory(length_that_fits(cache, self._options.max_num_seqs, model.device))
        self._call(self._ready.set)
        return (SlotLane(forward, cache, self._adapters), alone)

    def _limit_to_memory(self, fits: int) -> None:
        if self._options.max_model_len is not None or fits >= self.max_model_len:
            return
        _log.warning(
            "the context is limited to %d tokens, of the model's %d: memory holds no more for %d sequences together; "
            "fewer sequences leave each more, and a length that is asked for is taken as it is",
            fits,
            self.max_model_len,
            self._options.max_num_seqs,
        )
        self.max_model_len = fits
        self._accounts.positions = self._options.max_num_seqs * fits

    def _route(self, request: TokenRequest) -> int:
        return int(self.batched and self._bound is not None and len(request.prompt) + request.max_tokens > self._bound)

    def _probe(self) -> None:
        tokens = torch.zeros((1, 1), dtype=torch.long, device=self._loaded.model.device)
        self._loaded.model(input_ids=tokens, use_cache=False).logits.argmax().item()

    def _post(self, report: Report) -> None:
        self._call(self._take, report)

    def _call(self, function: Callable[..., object], *arguments: object) -> None:
        if self._loop is None:
            return
        # A loop that is closed has nobody left to tell.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function, *arguments)

    # In the loop.

    def _take(self, report: Report) -> None:
        for ticket in report.started:
            self._accounts.started(ticket)
        self._accounts.step(report.prefilled, report.positions)
        for ticket, update in report.updates:
            if not ticket.ended:
                self._accounts.came(ticket, len(update.tokens), report.at)
                self._deliver(ticket, update)
        for result in report.results:
            result()
        self._accounts.tell_load()
        self._check_idle()

    def _deliver(self, ticket: Ticket, update: Update) -> None:
        if update.finish_reason is not None or update.error is not None:
            ticket.ended = True
            if ticket.timer is not None:
                ticket.timer.cancel()
            self._accounts.finished(ticket, update)
        ticket.sink(update)

    def _expire(self, ticket: Ticket) -> None:
        if ticket.ended:
            return
        ticket.cancel()
        where = "while it was answered" if ticket.started else "while it waited"
        limit = self._limits.request_timeout_s
        self._deliver(ticket, Update(error=RequestTimeout(f"the request took longer than {limit:g} s, {where}")))
        self._check_idle()

    def _fail(self, error: Exception) -> None:
        self.failure = error
        self._ready.set()
        told = Unavailable(f"the engine has failed: {error}")
        for ticket in self._accounts.open:
            self._deliver(ticket, Update(error=told))
        self._end_jobs(told)

    def _check_idle(self) -> None:
        if not self._accounts.open and not self._jobs:
            self._idle.set()
