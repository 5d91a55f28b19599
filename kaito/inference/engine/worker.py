"""The engine's thread: takes requests in, lets the model work step by step, tells the event loop what came."""

from __future__ import annotations

import contextlib
import logging
import queue
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from kaito.inference.engine.lane import Lane, Running, Work
from kaito.inference.engine.ticket import Ticket
from kaito.inference.engine.tokens import TokenRequest, Update
from kaito.inference.errors import BadRequest, Unavailable
from kaito.inference.requests import FinishReason
from kaito.inference.sampling import Chosen, Sampler

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Report:
    """What a step brought.

    Attributes:
        started: tickets that got a slot.
        updates: for sinks, in order.
        prefilled: prompt tokens worked on.
        positions: tokens in the cache.
        at: when the step ended, on the monotonic clock.
        results: of jobs, to be called in the loop.
    """

    started: list[Ticket] = field(default_factory=list)
    updates: list[tuple[Ticket, Update]] = field(default_factory=list)
    prefilled: int = 0
    positions: int = 0
    at: float = 0.0
    results: list[Callable[[], None]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.started or self.updates or self.prefilled or self.results)


@dataclass(slots=True, eq=False)
class Job:
    """Something else to do with the model.

    Attributes:
        run: gets a function to call now and then: it lets the sequences go one step further, and says whether the job
            is still wanted. Returns what is to be called in the loop with the outcome.
        cancelled: whether it is not.
    """

    run: Callable[[Callable[[], bool]], Callable[[], None]]
    cancelled: bool = False


class Worker:
    """What runs in the engine's thread. `submit`, `cancel`, `do` and `stop` may be called from any thread."""

    def __init__(
        self,
        lanes: Callable[[], Sequence[Lane]],
        route: Callable[[TokenRequest], int],
        sampler: Sampler,
        *,
        seats: int,
        prefill_tokens: int,
        report: Callable[[Report], None],
        failed: Callable[[Exception], None],
        probe: Callable[[], None],
        rest_after_s: float = 60.0,
    ) -> None:
        self._make_lanes, self._route, self._sampler = lanes, route, sampler
        self._lanes: Sequence[Lane] = ()
        self._prefill_tokens = prefill_tokens
        self._send, self._failed, self._probe = report, failed, probe
        self._rest_after_s = rest_after_s
        self._inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._free_seats = list(range(seats - 1, -1, -1))
        self._waiting: deque[Ticket] = deque()
        self._running: dict[Ticket, tuple[Lane, Running]] = {}
        self._jobs: deque[Job] = deque()
        self._stopping = False
        self._fatal: Exception | None = None
        self._report = Report()

    def submit(self, tickets: Sequence[Ticket]) -> None:
        """Queues requests."""
        self._inbox.put(lambda: self._waiting.extend(tickets))

    def cancel(self, ticket: Ticket) -> None:
        """Ends a request that has `cancelled` set."""
        self._inbox.put(lambda: self._drop(ticket))

    def do(self, job: Job) -> None:
        """Runs something else between two steps."""
        self._inbox.put(lambda: self._jobs.append(job))

    def stop(self) -> None:
        """Ends the thread after the step it is at, whatever still runs."""

        def stop() -> None:
            self._stopping = True

        self._inbox.put(stop)

    def run(self) -> None:
        """The thread."""
        with torch.inference_mode():
            try:
                self._lanes = self._make_lanes()
                while not self._stopping:
                    self._take(wait=not (self._waiting or self._running or self._jobs))
                    while self._jobs and not self._stopping:
                        self._do(self._jobs.popleft())
                    self._step()
            except Exception as error:
                _log.exception("the engine failed")
                self._failed(error)

    def _take(self, *, wait: bool) -> None:
        if wait:
            self._wait()()
        with contextlib.suppress(queue.Empty):
            while True:
                self._inbox.get_nowait()()

    def _wait(self) -> Callable[[], None]:
        with contextlib.suppress(queue.Empty):
            return self._inbox.get(timeout=self._rest_after_s)
        for lane in self._lanes:
            lane.rest()
        return self._inbox.get()

    def _do(self, job: Job) -> None:
        def turn() -> bool:
            try:
                self._take(wait=False)
                self._step()
            except Exception as error:
                # The job may take it for its own, but it ends the engine.
                self._fatal = error
                raise
            return not (job.cancelled or self._stopping)

        if job.cancelled:
            return
        result = job.run(turn)
        self._report.results.append(result)
        if self._fatal is not None:
            raise self._fatal
        self._publish()

    def _step(self) -> None:
        self._admit()
        budget = self._prefill_tokens
        for lane in self._lanes:
            while budget > 0 and (work := lane.next_prefill(budget, self._prefill_tokens)):
                budget -= work.tokens
                self._prefill(lane, work)
                # Whose prompt is done has a first token, which need not wait for the others' prompts.
                self._publish()
        for lane in self._lanes:
            if work := lane.next_decode():
                self._decode(lane, work)
        self._publish()

    def _publish(self) -> None:
        report, self._report = self._report, Report()
        if report:
            report.at = time.monotonic()
            report.positions = sum(lane.positions() for lane in self._lanes)
            self._send(report)

    def _admit(self) -> None:
        while self._free_seats and self._waiting:
            ticket = self._waiting.popleft()
            sequence = Running(ticket, self._free_seats.pop())
            lane = self._lanes[self._route(ticket.request)]
            self._running[ticket] = (lane, sequence)
            self._report.started.append(ticket)
            try:
                self._sampler.add(sequence.seat, ticket.request)
            except Exception as error:
                lane.add(sequence)
                self._fail(sequence, error)
            else:
                lane.add(sequence)

    def _prefill(self, lane: Lane, work: Work) -> None:
        rows = list(work.sequences)
        try:
            logits = lane.prefill(work)
        except Exception as error:
            if len(rows) > 1:
                _log.warning("a pass over %d prompts failed; they are tried one by one", len(rows), exc_info=error)
            failure = _without_tensors(error)
        else:
            self._report.prefilled += work.tokens
            if logits is not None:
                self._choose(rows, logits, together=len(rows) > 1)
            return
        if len(rows) > 1:
            lane.again(rows)
        else:
            self._fail(rows[0], failure)

    def _decode(self, lane: Lane, work: Work) -> None:
        rows = list(work.sequences)
        try:
            logits = lane.decode(work)
        except Exception as error:
            if len(rows) > 1:
                _log.warning("a step of %d sequences failed; they are tried one by one", len(rows), exc_info=error)
            failure = _without_tensors(error)
        else:
            self._choose(rows, logits)
            return
        if len(rows) == 1:
            self._fail(rows[0], failure)
            return
        for row in rows:
            self._decode(lane, Work([row]))

    def _choose(self, rows: Sequence[Running], logits: torch.Tensor, *, together: bool = False) -> None:
        try:
            chosen = self._sampler.choose([row.seat for row in rows], logits)
        except Exception as error:
            if len(rows) > 1:
                _log.warning("choosing for %d sequences failed; they are tried one by one", len(rows), exc_info=error)
            failure = _without_tensors(error)
        else:
            self._give_all(rows, chosen, together)
            return
        if len(rows) == 1:
            self._fail(rows[0], failure)
            return
        for index, row in enumerate(rows):
            self._choose([row], logits[index : index + 1], together=together)

    def _give_all(self, rows: Sequence[Running], chosen: Sequence[Chosen], together: bool) -> None:
        # Of prompts in one pass, one whose numbers overflow spoils the others: a mask takes nothing off not-a-number.
        spoilt = [
            row
            for row, choice in zip(rows, chosen, strict=True)
            if together and choice.error is not None and not isinstance(choice.error, BadRequest)
        ]
        if spoilt:
            lane, _ = self._running[spoilt[0].ticket]
            lane.again(spoilt)
        for row, choice in zip(rows, chosen, strict=True):
            if row not in spoilt:
                self._give(row, choice)

    def _give(self, row: Running, choice: Chosen) -> None:
        if choice.error is not None:
            self._release(row)
            self._report.updates.append((row.ticket, Update(error=choice.error)))
            return
        request = row.ticket.request
        row.last = choice.token
        row.new += 1
        reason: FinishReason | None = None
        if choice.token in request.stop_ids and row.new >= request.min_tokens:
            reason = "stop"
        elif row.new >= request.max_tokens:
            reason = "length"
        logprobs = () if choice.logprob is None else (choice.logprob,)
        self._report.updates.append((row.ticket, Update((choice.token,), logprobs, reason)))
        if reason is not None:
            self._release(row)

    def _drop(self, ticket: Ticket) -> None:
        if entry := self._running.get(ticket):
            self._release(entry[1])
        elif ticket in self._waiting:
            self._waiting.remove(ticket)
        else:
            return
        self._report.updates.append((ticket, Update(finish_reason=ticket.cancelled or "abort")))

    def _release(self, row: Running) -> None:
        lane, _ = self._running.pop(row.ticket)
        lane.remove(row)
        self._sampler.remove(row.seat)
        self._free_seats.append(row.seat)

    def _fail(self, row: Running, error: Exception) -> None:
        _log.error("a request failed", exc_info=error)
        self._release(row)
        told = Unavailable(f"the model failed on this request: {type(error).__name__}: {error}")
        self._report.updates.append((row.ticket, Update(error=told)))
        # Raises, and so ends the engine, if the model can do nothing at all any more.
        self._probe()


def _without_tensors(error: Exception) -> Exception:
    """Lets go of what the traceback keeps: the tensors of a pass for which memory lacked would lack in the next one."""
    each: BaseException | None = error
    while each is not None:
        traceback.clear_frames(each.__traceback__)
        each = each.__cause__ or each.__context__
    return error


def job_of(work: Callable[[Callable[[], bool]], Any], done: Callable[[Any, Exception | None], None]) -> Job:
    """A job that tells its outcome, a value or an error, in the loop."""

    def run(turn: Callable[[], bool]) -> Callable[[], None]:
        try:
            value = work(turn)
        except Exception as raised:
            error = raised
            return lambda: done(None, error)
        return lambda: done(value, None)

    return Job(run)
