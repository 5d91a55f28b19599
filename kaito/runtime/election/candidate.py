"""Candidate: what one controller's elector tells, to its fence in its own thread and to the manager's event loop."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial

from kaito.client.client import Client
from kaito.client.errors import KubeError
from kaito.kube.core_v1 import ObjectReference
from kaito.kube.object_key import ObjectKey
from kaito.runtime.election.admission_fence import NotInPod, Written, identity_of_pod, install
from kaito.runtime.election.clock import uptime_s
from kaito.runtime.election.elector import Elector
from kaito.runtime.election.fence import Fence
from kaito.runtime.election.messages import Action, Asked, Phase
from kaito.runtime.election.metrics import ElectionMetrics, LeaseMetrics
from kaito.runtime.election.options import LeaderElection
from kaito.runtime.election.record import Rules, State

log = logging.getLogger(__name__)


Announce = Callable[[ObjectReference, str, str], None]


class Candidate:
    """One controller that wants to lead. Made in the manager's event loop; its elector may run in another thread.

    Args:
        controller: its name.
        lease: what it campaigns for.
        options: see there.
        metrics: where its own are.
        ended: called in the manager's loop when its elector has ended.
        announce: tells people what was done, in an event about the Lease; called in the manager's loop.
        clock: seconds, counting up.
        rng: source of jitter.

    Attributes:
        fence: open while it leads.
        campaigns: whether its elector was started.
        fenced_writes: what the API server is to refuse to pods that are not named in the Lease; None: nothing.
    """

    def __init__(
        self,
        controller: str,
        lease: ObjectKey,
        options: LeaderElection,
        metrics: ElectionMetrics,
        ended: Callable[[Candidate], None],
        *,
        announce: Announce | None = None,
        clock: Callable[[], float] = uptime_s,
        rng: random.Random | None = None,
    ) -> None:
        self.controller = controller
        self.lease = lease
        self.campaigns = False
        self.fenced_writes: frozenset[Written] | None = None
        self.fence = Fence(
            controller,
            lease,
            renew_deadline_s=options.renew_deadline_s,
            lease_duration_s=options.lease_duration_s,
            clock=clock,
        )
        self._options = options
        self._rules = Rules(
            lease,
            options.identity,
            options.lease_duration_s,
            options.renew_deadline_s,
            options.retry_period_s,
            options.trusts_absence,
        )
        self._metrics = LeaseMetrics(metrics, lease.name)
        self._metrics.status.set(0)
        self._tell_ended = ended
        self._announce = announce
        self._clock = clock
        self._rng = rng
        self._elector: Elector | None = None
        self._task: asyncio.Task[None] | None = None
        self._state = State()
        self._error: Exception | None = None
        self._failing_since: float | None = None
        self._stopped = False
        self._won = asyncio.Event()
        self._ended = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    @property
    def lost(self) -> bool:
        """Whether it led and does not any more, without having been asked to stop."""
        return self._state.phase is Phase.LOST

    @property
    def why_lost(self) -> str:
        """Why, in words."""
        if self._state.lease is not None and self._state.holder != self._rules.identity:
            return f"it is held by {self._state.holder or 'nobody'}"
        error = f" ({_said(self._error)})" if self._error is not None else ""
        return f"it was not renewed within {self._options.renew_deadline_s:g} s{error}"

    @property
    def fault(self) -> str | None:
        """Why it can neither lead nor stand by, once that has been so for the duration of a lease."""
        since, error = self._failing_since, self._error
        if since is None or error is None or self._clock() - since < self._options.lease_duration_s:
            return None
        return f"lease {self.lease}: {_said(error)}"

    async def run(self, client: Client) -> None:
        """Campaigns, where the renewer wants it to."""
        self._task = asyncio.current_task()
        try:
            if self.fenced_writes is not None:
                await self._fence_in_server(client, self.fenced_writes)
            timeout_s = self._options.request_timeout_s
            rules, clock, rng = self._rules, self._clock, self._rng
            self._elector = Elector(client, rules, self, request_timeout_s=timeout_s, clock=clock, rng=rng)
            if not self._stopped:
                await self._elector.run()
        finally:
            self.fence.close()
            self._metrics.status.set(0)
            self._in_loop(self._end)

    def stop(self) -> None:
        """Gives up; called where the electors run."""
        self._stopped = True
        if self._elector is not None:
            self._elector.stop()

    def abandon(self) -> None:
        """Leaves the Lease to run out; called where the electors run."""
        self._stopped = True
        if self._task is not None:
            self._task.cancel()

    async def has_won(self) -> None:
        """Waits, without a limit, until it leads."""
        await self._won.wait()

    async def has_ended(self) -> None:
        """Waits, without a limit, until its elector has ended."""
        await self._ended.wait()

    # What the elector tells, in its own thread.

    def changed(self, before: State, state: State) -> None:
        """See `Listener.changed`."""
        self._state = state
        led, leads = before.phase is Phase.LEADING, state.phase is Phase.LEADING
        if leads and not state.stopping:
            self.fence.renew(state.renewed_at)
        else:
            self.fence.close()
        if leads != led:
            self._metrics.status.set(float(leads))
        if leads and not led:
            self._in_loop(self._won.set)
            self._tell_people(state, "BecomeLeader", "became leader of")
        elif led and (state.phase is Phase.RELEASED or state.holder != self._rules.identity):
            # Not of a Lease that could not be renewed: the event would not arrive either, and hold the end up.
            self._tell_people(before, "StopLeading", "stopped leading")
        if state.phase is Phase.PROBATION and before.phase is not Phase.PROBATION:
            self._tell_of_probation(state)
        if state.holder and state.holder != before.holder:
            self._metrics.transitions.inc()
            fields = {"lease": str(self.lease), "holder": state.holder}
            log.info("lease has a new holder", extra=fields)
        if state.phase is Phase.LOST:
            self._lose()

    def asking(self, action: Action, state: State) -> None:
        """See `Listener.asking`."""
        if action.asked is Asked.READ and state.phase is Phase.LEADING:
            self._metrics.slow_path.inc()

    def failed(self, error: Exception | None) -> None:
        """See `Listener.failed`."""
        if error is None:
            self._failing_since = None
            return
        self._metrics.failures.inc()
        self._error = error
        if self._failing_since is None:
            self._failing_since = self._clock()

    async def _fence_in_server(self, client: Client, what: frozenset[Written]) -> None:
        """Takes the pod's identity, and installs the policy; not before that is done does it campaign.

        Raises:
            NotInPod: the API server cannot tell this process from others.
        """
        suffix = self._options.identity.rpartition("_")[2]
        while not self._stopped:
            try:
                async with asyncio.timeout(self._options.request_timeout_s):
                    self._rules = replace(self._rules, identity=await identity_of_pod(client, suffix))
                    await install(client, self.lease, what)
            except NotInPod:
                raise
            except (KubeError, TimeoutError) as error:
                self.failed(error)
                fields = {"lease": str(self.lease), "error": str(error) or repr(error)}
                log.warning("the fence in the API server cannot be installed", extra=fields)
                await asyncio.sleep(self._options.retry_period_s)
            else:
                self.failed(None)
                return

    def _tell_people(self, state: State, action: str, what: str) -> None:
        if self._announce is not None and state.lease is not None:
            meta, kind = state.lease.metadata, state.lease
            about = ObjectReference(
                api_version=kind.api_version, kind=kind.kind, namespace=meta.namespace, name=meta.name, uid=meta.uid
            )
            note = f"{self._rules.identity} {what} controller {self.controller}"
            self._in_loop(partial(self._announce, about, action, note))

    def _tell_of_probation(self, state: State) -> None:
        fields = {
            "lease": str(self.lease),
            "controller": self.controller,
            "wait_s": round(state.probation_ends_at - self._clock(), 1),
            "why": "no earlier lease is known, and one may have been deleted under a leader; a first start waits once",
            "remedy": "make the lease beforehand, without a spec, or set trusts_absence",
        }
        log.info("controller leads once its lease has lasted", extra=fields)

    def _lose(self) -> None:
        log.error("lease lost", extra={"lease": str(self.lease), "why": self.why_lost})
        if self._options.exit_hard:
            # By then others may lead. A daemon: a process that ends by itself is not held up.
            wait_s = max(1.0, self._options.lease_duration_s - self._options.renew_deadline_s)
            timer = threading.Timer(wait_s, _exit, [str(self.lease), wait_s])
            timer.daemon = True
            timer.start()

    def _in_loop(self, function: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # it was closed: nobody waits any more
            self._loop.call_soon_threadsafe(function)

    def _end(self) -> None:
        self._ended.set()
        self._tell_ended(self)


def _said(error: Exception) -> str:
    return "timed out" if isinstance(error, TimeoutError) else str(error) or repr(error)


def _exit(lease: str, waited_s: float) -> None:
    log.critical("the process did not end after its lease was lost", extra={"lease": lease, "waited_s": waited_s})
    for handler in logging.getLogger().handlers:
        handler.flush()
    os._exit(1)
