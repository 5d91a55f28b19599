"""Elector: one candidate for one Lease on the network; `record` decides, this asks and listens."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import Protocol, TypeVar

from kaito.client.client import Client
from kaito.client.errors import AlreadyExists, Conflict, Forbidden, NotFound
from kaito.kube.coordination_v1 import Lease
from kaito.runtime.clocks import utc_now
from kaito.runtime.election.clock import uptime_s
from kaito.runtime.election.messages import (
    Action,
    Asked,
    Event,
    Failed,
    Found,
    Noticed,
    Phase,
    Refusal,
    Refused,
    Stop,
    Tick,
    Watching,
    Wrote,
)
from kaito.runtime.election.record import Rules, State

T = TypeVar("T")

log = logging.getLogger(__name__)

WATCH_TIMEOUT_S = 300
RIGHTS = "a Role needs get, list, watch, create and update on leases of coordination.k8s.io there"


class Listener(Protocol):
    """Whom an elector tells; called in its thread, at once."""

    def changed(self, before: State, state: State) -> None:
        """What is known changed."""
        ...

    def asking(self, action: Action, state: State) -> None:
        """A request is about to be sent."""
        ...

    def failed(self, error: Exception | None) -> None:
        """A request failed, or (None) one did not."""
        ...


class Elector:
    """Campaigns for a Lease, keeps it, and gives it back when it is asked to.

    Args:
        client: for Leases alone: nothing else may hold its requests up, and it tries nothing again by itself.
        rules: what decides.
        listener: whom it tells.
        request_timeout_s: how long a request may take.
        clock: seconds, counting up.
        rng: source of jitter.
    """

    def __init__(
        self,
        client: Client,
        rules: Rules,
        listener: Listener,
        *,
        request_timeout_s: float,
        clock: Callable[[], float] = uptime_s,
        rng: random.Random | None = None,
    ) -> None:
        self._client = client
        self._rules = rules
        self._listener = listener
        self._request_timeout_s = request_timeout_s
        self._clock = clock
        self._rng = rng or random.Random()
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._complaint = ""
        self.state = State()

    async def run(self) -> None:
        """Runs until the Lease is lost, or given back after `stop`. Cancelled, it leaves the Lease to run out."""
        async with asyncio.TaskGroup() as tasks:
            watch = tasks.create_task(self._watch(), name=f"watch of lease {self._rules.key}")
            request: asyncio.Task[None] | None = None
            event: Event = Tick()
            try:
                while self.state.phase not in (Phase.LOST, Phase.RELEASED):
                    action = self._step(event)
                    if action is not None:
                        request = tasks.create_task(self._perform(action), name=f"{action.asked} {self._rules.key}")
                    event = await self._next_event()
            finally:
                watch.cancel()
                if request is not None:
                    request.cancel()

    def stop(self) -> None:
        """Gives the Lease back, if it has it, and ends `run`. Call it when nobody works under it any more."""
        self._events.put_nowait(Stop())

    def _step(self, event: Event) -> Action | None:
        before = self.state
        self.state, action = self._rules.step(before, event, self._clock(), utc_now())
        if self.state is not before:
            self._listener.changed(before, self.state)
        if action is not None:
            self._listener.asking(action, self.state)
        return action

    async def _next_event(self) -> Event:
        if self.state.phase in (Phase.LOST, Phase.RELEASED):
            return Tick()
        wait_s = self._rules.wakes_at(self.state) - self._clock()
        if wait_s <= 0 and self._events.empty():
            await asyncio.sleep(0)
            return Tick()
        try:
            # Looks at the clock now and then: the loop's own may stand still while the machine sleeps.
            async with asyncio.timeout(min(max(wait_s, 0.0), self._rules.retry_period_s)):
                return await self._events.get()
        except TimeoutError:
            return Tick()

    async def _perform(self, action: Action) -> None:
        try:
            async with asyncio.timeout(self._request_timeout_s):
                answer = await self._answer(action)
        except Exception as error:  # whatever it is, the election must go on
            self._complain(action, error)
            answer = Failed(action.number)
        else:
            self._complaint = ""
            self._listener.failed(None)
        self._events.put_nowait(answer)

    async def _answer(self, action: Action) -> Event:
        if action.lease is None:
            try:
                return Found(action.number, await self._client.get(Lease, self._rules.key))
            except NotFound:
                return Found(action.number, None)
        if not action.lease.metadata.resource_version:
            return await self._create(action, action.lease)
        try:
            return Wrote(action.number, await self._client.update(action.lease))
        except Conflict:
            return Refused(action.number, Refusal.CHANGED)
        except NotFound:
            return Refused(action.number, Refusal.MISSING)

    async def _create(self, action: Action, lease: Lease) -> Event:
        try:
            return Wrote(action.number, await self._client.create(lease))
        except AlreadyExists:
            return Refused(action.number, Refusal.EXISTS)

    def _complain(self, action: Action, error: Exception) -> None:
        self._listener.failed(error)
        text = "timed out" if isinstance(error, TimeoutError) else str(error) or repr(error)
        if text == self._complaint:
            return  # said once until something goes well
        self._complaint = text
        fields = {"lease": str(self._rules.key), "asked": str(action.asked), "error": text}
        if isinstance(error, Forbidden):
            fields["remedy"] = RIGHTS
        leads = self.state.phase is Phase.LEADING and action.asked is not Asked.RELEASE
        log.log(logging.WARNING if leads or "remedy" in fields else logging.INFO, "lease request failed", extra=fields)

    async def _watch(self) -> None:
        """Tells of changes for as long as it can; without it the Lease is read each retry period."""
        while True:
            try:
                await self._watch_once()
            except Exception as error:
                log.debug("watch of lease broke", extra={"lease": str(self._rules.key), "error": repr(error)})
            self._events.put_nowait(Watching(False))
            await asyncio.sleep(self._rules.retry_period_s * (0.5 + 0.5 * self._rng.random()))

    async def _watch_once(self) -> None:
        key, is_open = self._rules.key, False
        fields = f"metadata.name={key.name}"
        watch = self._client.watch(Lease, namespace=key.namespace, fields=fields, timeout_s=WATCH_TIMEOUT_S)
        # A living leader is heard of at each renewal: longer silence is that of the leader, or of the connection.
        async with aclosing(_not_silent(watch, self._rules.lease_duration_s)) as events:
            async for event in events:
                if not is_open:
                    is_open = True
                    self._events.put_nowait(Watching(True))
                if event.type != "BOOKMARK":
                    self._events.put_nowait(Noticed(event.object, event.type == "DELETED"))


async def _not_silent(source: AsyncIterator[T], limit_s: float) -> AsyncGenerator[T, None]:
    """What a source yields.

    Raises:
        TimeoutError: it said nothing for so long.
    """
    try:
        while True:
            try:
                async with asyncio.timeout(limit_s):
                    item = await anext(source)
            except StopAsyncIteration:
                return
            yield item
    finally:
        if hasattr(source, "aclose"):
            await source.aclose()
