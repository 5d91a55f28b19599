"""LeaseElections: the elections of a manager's controllers, one Lease each."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import logging
import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry

from kaito.client.client import Client
from kaito.client.config import Config
from kaito.client.errors import LeadershipLost
from kaito.client.transport import AiohttpTransport, Transport
from kaito.informers.cache import Cache
from kaito.kube.coordination_v1 import Lease
from kaito.kube.core_v1 import ObjectReference
from kaito.kube.events_v1 import Event
from kaito.runtime.access import Access
from kaito.runtime.clocks import loop_time
from kaito.runtime.election import admission_fence
from kaito.runtime.election.admission_fence import Written
from kaito.runtime.election.candidate import Candidate
from kaito.runtime.election.clock import uptime_s
from kaito.runtime.election.fence import enter_fence
from kaito.runtime.election.fresh_caches import FreshCaches
from kaito.runtime.election.metrics import ElectionMetrics
from kaito.runtime.election.options import LeaderElection
from kaito.runtime.election.renewer import LoopRenewer, Renewer, ThreadRenewer
from kaito.runtime.elections import BeforeWork, Elections
from kaito.runtime.events import EventRecorder
from kaito.runtime.rbac import implied_by

if TYPE_CHECKING:
    from kaito.kube.resource import Resource
    from kaito.runtime.controller import Controller

log = logging.getLogger(__name__)


class LeaseElections:
    """Elects each controller by a Lease of its own. Implements `kaito.runtime.elections.Elections`.

    Args:
        options: see there.
        manager: name of the manager.
        cache: relisted for a controller that was elected, before it works.
        config: which API server; the electors get connections of their own, in a thread of their own.
        transport: instead, for tests under virtual time: electors run in the manager's own event loop.
        clock: seconds, counting up, in every thread alike; default `uptime_s`, and with a transport the loop's.
        registry: where metrics go; None: nowhere.
        events: says who leads, in events about the Leases; None: nobody does.
        rng: source of jitter.

    Raises:
        ValueError: neither config nor transport was given; or the namespace of the Leases is not known.
    """

    def __init__(
        self,
        options: LeaderElection,
        *,
        manager: str,
        cache: Cache,
        config: Config | None = None,
        transport: Transport | None = None,
        clock: Callable[[], float] | None = None,
        registry: CollectorRegistry | None = None,
        events: EventRecorder | None = None,
        rng: random.Random | None = None,
    ) -> None:
        # Here, and not when the first controller is started: it is the program's mistake, and found at once.
        self.options = options.in_namespace()
        self._manager = manager
        self._fresh_caches = FreshCaches(cache)
        self._clock = clock or (uptime_s if transport is None else loop_time)
        self._rng = rng
        self._metrics = ElectionMetrics(registry)
        self._events = events
        self._candidates: dict[str, Candidate] = {}
        self._controllers: dict[str, Controller[Resource]] = {}
        self._ended: asyncio.Queue[Candidate] = asyncio.Queue()
        self._renewer: Renewer
        if transport is not None:
            self._renewer = LoopRenewer(Client(transport, field_owner=manager))
        elif config is not None:
            self._renewer = ThreadRenewer(partial(_client, config, manager, options), f"{manager} lease renewer")
        else:
            raise ValueError("leader election: give a config or a transport")

    @property
    def needs(self) -> Sequence[Access]:
        """What it needs to be allowed to do: in the namespace of the Leases."""
        place = self.options.namespace
        leases = Access(Lease, "get", "list", "watch", "create", "update", namespace=place)
        events = (Access(Event, "create", "patch", namespace=place),) if self._events is not None else ()
        return (leases, *events, *(admission_fence.needs() if self.options.admission_fence else ()))

    def gate(self, controller: Controller[Resource]) -> BeforeWork:
        """See `Elections.gate`.

        Raises:
            ValueError: the controller's name makes no name of a Lease.
        """
        lease = self.options.lease_of(self._manager, controller.name)
        candidate = Candidate(
            controller.name,
            lease,
            self.options,
            self._metrics,
            self._ended.put_nowait,
            announce=self._announce,
            clock=self._clock,
            rng=self._rng,
        )
        self._candidates[controller.name] = candidate
        self._controllers[controller.name] = controller
        # From the start on: a map of its watches that writes does not do so while it stands by either.
        enter_fence(candidate.fence)
        return partial(self._await_leadership, candidate, controller)

    async def run(self) -> None:
        """See `Elections.run`.

        Raises:
            LeadershipLost: a lease was lost, or can be renewed no more.
        """
        renewing = asyncio.create_task(self._renewer.run(), name="lease renewer")
        losing = asyncio.create_task(self._first_loss(), name="loss of a lease")
        try:
            done, _ = await asyncio.wait([renewing, losing], return_when=asyncio.FIRST_COMPLETED)
            if losing in done:
                lost = losing.result()
                raise LeadershipLost(
                    f"controller {lost.controller}: lease {lost.lease} was lost: {lost.why_lost}; this process must end"
                )
            error = renewing.exception()
            raise LeadershipLost(f"manager {self._manager}: nothing renews its leases any more: {error!r}") from error
        finally:
            for candidate in self._candidates.values():
                candidate.fence.close()
            for task in (renewing, losing):
                task.cancel()
            await asyncio.wait([renewing, losing])

    async def release(self, controller: str) -> None:
        """See `Elections.release`. From now on what still runs of the controller writes nothing.

        A write that was sent and given up, by a reconcile that was cancelled for one, may still take effect: the Lease
        is kept for as long as it is given to travel. Cancelled, or when the API server does not answer, the Lease is
        left to run out.
        """
        candidate = self._candidates.pop(controller, None)
        if candidate is None:
            return
        fence = candidate.fence
        fence.seal()
        if not candidate.campaigns:
            return
        try:
            if (wait_s := fence.unsettled_s()) > 0:
                fields = {"controller": controller, "lease": str(candidate.lease), "wait_s": round(wait_s, 1)}
                log.info("a write got no answer, so the lease is kept until it must have arrived", extra=fields)
                await asyncio.sleep(wait_s)
        except asyncio.CancelledError:
            self._renewer.call(candidate.abandon)
            raise
        self._renewer.call(candidate.stop)
        await candidate.has_ended()

    def fault(self) -> str | None:
        """See `Elections.fault`."""
        faults = (candidate.fault for candidate in self._candidates.values())
        return next((fault for fault in faults if fault is not None), None)

    async def _await_leadership(self, candidate: Candidate, controller: Controller[Resource]) -> None:
        if self.options.admission_fence:
            candidate.fenced_writes = self._written_alone(controller)
        fields = {"controller": controller.name, "lease": str(candidate.lease)}
        log.info("controller stands by", extra=fields)
        await self._renewer.start(candidate.run, f"elector of {candidate.lease}")
        candidate.campaigns = True
        await candidate.has_won()
        await self._fresh_caches.wait(controller.needed_kinds)
        log.info("controller leads", extra=fields)

    def _announce(self, lease: ObjectReference, action: str, note: str) -> None:
        if self._events is not None:
            self._events.event(lease, "Normal", "LeaderElection", action, note)

    def _written_alone(self, controller: Controller[Resource]) -> frozenset[Written]:
        """What this controller writes, and no other of the manager: one Lease can stand for that."""
        own = admission_fence.written(implied_by(controller))
        others = [each for each in self._controllers.values() if each.name != controller.name]
        shared = own & admission_fence.written(access for each in others for access in implied_by(each))
        if shared:
            what = ", ".join(sorted(f"{each.operation} {each.resource}" for each in shared))
            log.warning("not fenced in the API server", extra={"controller": controller.name, "shared": what})
        return own - shared

    async def _first_loss(self) -> Candidate:
        while True:
            candidate = await self._ended.get()
            if candidate.lost:
                return candidate


def elections_of(
    chosen: bool | LeaderElection | Elections,
    manager: str,
    cache: Cache,
    config: Config | None,
    transport: Transport | None,
    *,
    registry: CollectorRegistry | None = None,
    events: EventRecorder | None = None,
    rng: random.Random | None = None,
) -> Elections | None:
    """The elections that a manager was told to have; None: it works on everything, whoever else does."""
    if chosen is False:
        return None
    if chosen is not True and not isinstance(chosen, LeaderElection):
        return chosen
    options = LeaderElection() if chosen is True else chosen
    own = None if config is not None else transport
    return LeaseElections(
        options, manager=manager, cache=cache, config=config, transport=own, registry=registry, events=events, rng=rng
    )


def _client(config: Config, manager: str, options: LeaderElection) -> Client:
    # Credentials may hold a lock of the event loop that uses them.
    own = dataclasses.replace(config, credentials=copy.deepcopy(config.credentials))
    transport = AiohttpTransport(
        own, user_agent=f"{manager}/leader-election", connect_timeout_s=options.request_timeout_s
    )
    return Client(transport, field_owner=manager)
