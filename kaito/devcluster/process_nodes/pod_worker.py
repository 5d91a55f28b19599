"""PodWorker: runs one pod: does what its plan says, and remembers what came of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from signal import Signals
from typing import Final

from kaito.devcluster.errors import ProgramError
from kaito.devcluster.process_nodes.container_probes import ContainerProbes
from kaito.devcluster.process_nodes.last_words import last_words
from kaito.devcluster.process_nodes.pod_events import PodEvents
from kaito.devcluster.process_nodes.pod_plan import Plan, grace_s, is_ending, plan, restarts
from kaito.devcluster.process_nodes.pod_records import (
    KUBELETS,
    PULL_FAILED,
    BackOff,
    ContainerRecord,
    Ended,
    Running,
    Stop,
    Waiting,
    containers_of,
    recovered,
)
from kaito.devcluster.process_nodes.pod_status import Seen, pull_back_off
from kaito.devcluster.process_nodes.probes import ProbeKind, probes_of
from kaito.devcluster.process_nodes.programs import Program, Programs
from kaito.devcluster.process_nodes.sandbox import Execution, NotStarted, Sandbox
from kaito.kube.core_v1 import Pod
from kaito.kube.pod_v1 import Container

SYNC_S: Final = 60.0
"""How often volumes are brought up to date, as a kubelet's default."""
_FIRST_MOUNT_RETRY_S: Final = 0.5
_LAST_MOUNT_RETRY_S: Final = 120.0
_PULL_SHOWN_S: Final = 1.0
"""For how long a failed pull is shown as that, before it is a back-off."""


@dataclass(frozen=True, slots=True)
class Tools:
    """What all pods share.

    Attributes:
        programs: starts and ends processes.
        backoff: waits between starts.
        now: wall clock.
    """

    programs: Programs
    backoff: BackOff = KUBELETS
    now: Callable[[], datetime] = lambda: datetime.now(UTC)


@dataclass(slots=True)
class _Run:
    program: Program
    execution: Execution
    probes: ContainerProbes


class PodWorker:
    """One pod, from its first start here until nothing of it is left.

    Args:
        pod: what the API server has.
        sandbox: its folder and volumes.
        tools: what all pods share.
        events: tells people.
        poke: asks for another `step`, soon.
    """

    def __init__(self, pod: Pod, sandbox: Sandbox, tools: Tools, events: PodEvents, poke: Callable[[], None]) -> None:
        now = tools.now()
        self.uid = pod.metadata.uid
        self.sandbox = sandbox
        self.prepared = False
        self._pod = pod
        self._tools = tools
        self._events = events
        self._poke = poke
        self._records = recovered(pod, now)
        self._containers = {each.name: each for each in containers_of(pod)}
        self._runs: dict[str, _Run] = {}
        self._condemned: dict[str, float] = {}
        self._started_at = now
        self._prepare_at = now
        self._mount_failures = 0
        self._pull_shown_until: datetime | None = None

    def seen(self, *, gone: bool = False) -> Seen:
        """What there is to tell of it."""
        now = self._tools.now()
        return Seen(dict(self._records), self.sandbox.address, self.prepared, self._started_at, now, gone)

    async def step(self, pod: Pod | None) -> Plan:
        """Does what is due now.

        Args:
            pod: as it is now; None: it, or its node, is gone.

        Returns:
            What is left to do; `wake_at` says when to call again although nothing happens.
        """
        gone = pod is None
        if pod is not None:
            await self._take(pod)
        self._take_ends(gone)
        if not is_ending(self._pod, gone):
            await self._prepare()
        todo = self._plan(gone)
        for name in todo.stops:
            await self._stop(name, Stop(self._tools.now()))
        for name, condemned_s in list(self._condemned.items()):
            await self._stop(name, Stop(self._tools.now(), condemned_s))
        self._condemned.clear()
        for name in todo.kills:
            await self._kill(name)
        for name in todo.starts if self.prepared else ():
            await self._start(self._containers[name])
        return self._plan(gone)

    def settle(self) -> None:
        """What was told need not be told any more: a pull that failed becomes one that backs off."""
        now = self._tools.now()
        if self._pull_shown_until is None or self._pull_shown_until > now:
            return
        self._pull_shown_until = None
        for name, record in self._records.items():
            if isinstance(record.state, Waiting) and record.state.reason in PULL_FAILED:
                container = self._containers[name]
                self._records[name] = replace(record, state=pull_back_off(container, record.state))
                self._events.pull_backs_off(self._pod, container)

    async def close(self) -> None:
        """Ends its probes and removes its folder, once it is over."""
        for run in self._runs.values():
            await run.probes.close()
        self._runs.clear()
        await self.sandbox.remove()

    async def abandon(self) -> None:
        """Ends its probes, and leaves everything else: the agent ends."""
        for run in self._runs.values():
            await run.probes.close()

    def _plan(self, gone: bool) -> Plan:
        made = plan(self._pod, self._records, self._tools.now(), gone=gone)
        moments = [made.wake_at, self._pull_shown_until, None if made.ending else self._prepare_at]
        starts = made.starts if self.prepared else ()
        return replace(made, starts=starts, wake_at=min((each for each in moments if each is not None), default=None))

    async def _take(self, pod: Pod) -> None:
        old, self._pod = self._pod.metadata, pod
        if (old.labels, old.annotations) != (pod.metadata.labels, pod.metadata.annotations):
            try:
                await self.sandbox.refresh(pod)
            except NotStarted as error:
                self._events.not_prepared(pod, error)  # tried again when all volumes are

    async def _prepare(self) -> None:
        now = self._tools.now()
        if now < self._prepare_at:
            return
        try:
            await self.sandbox.prepare()
        except NotStarted as error:
            self._events.not_prepared(self._pod, error)
            wait_s = min(_LAST_MOUNT_RETRY_S, _FIRST_MOUNT_RETRY_S * 2.0 ** min(self._mount_failures, 10))
            self._mount_failures += 1
        else:
            wait_s, self._mount_failures, self.prepared = SYNC_S, 0, True
        self._prepare_at = now + timedelta(seconds=wait_s)

    async def _start(self, container: Container) -> None:
        record = self._records[container.name]
        try:
            execution = await self.sandbox.execution(container, record.next_run)
            run = f"{self.uid}/{container.name}/{record.next_run}"
            program = await self._tools.programs.start(run, execution, self._poke, grace_s=grace_s(self._pod, False))
        except NotStarted as error:
            self._refuse(container, error)
            return
        except ProgramError as error:
            cause = str(error).splitlines()[0]
            self._refuse(container, NotStarted("RunContainerError", cause))
            return
        probes = probes_of(container)
        self._records[container.name] = record.begun(
            run,
            self._tools.now(),
            started=ProbeKind.STARTUP not in probes,
            ready=ProbeKind.READINESS not in probes,
        )
        self._runs[container.name] = _Run(program, execution, self._watch(container, execution))
        self._events.started(self._pod, container)

    def _watch(self, container: Container, execution: Execution) -> ContainerProbes:
        return ContainerProbes(
            container,
            self.sandbox,
            self._tools.programs,
            execution,
            lambda kind, holds: self._probed(container, kind, holds),
            lambda kind, fault: self._events.unhealthy(self._pod, kind, fault),
        )

    def _refuse(self, container: Container, error: NotStarted) -> None:
        now = self._tools.now()
        record = self._records[container.name]
        self._records[container.name] = record.refused(error.reason, error.message, now, self._tools.backoff)
        self._events.refused(self._pod, container, error)
        if error.reason in PULL_FAILED:
            self._pull_shown_until = now + timedelta(seconds=_PULL_SHOWN_S)

    def _probed(self, container: Container, kind: ProbeKind, holds: bool) -> None:
        """Takes what a probe found: it holds from now on, or no more."""
        name = container.name
        if kind is ProbeKind.READINESS:
            self._change(name, ready=holds)
        elif not holds:
            probe = probes_of(container)[kind]
            own = probe.termination_grace_period_seconds
            self._condemned[name] = grace_s(self._pod, False) if own is None else float(own)
            self._events.condemned(self._pod, container, kind)
        elif kind is ProbeKind.STARTUP:
            self._change(name, started=True)
        self._poke()

    def _change(self, name: str, **changes: object) -> None:
        self._records[name] = self._records[name].with_running(**changes)

    def _take_ends(self, gone: bool) -> None:
        for name, run in list(self._runs.items()):
            code = run.program.code
            if code is None:
                continue
            run.probes.cancel()
            del self._runs[name]
            self._condemned.pop(name, None)
            container = self._containers[name]
            words = last_words(container, code, run.execution.termination_log, run.execution.log)
            record = self._records[name].ended(code, words, self._tools.now(), self._tools.backoff)
            self._records[name] = record
            self._tell_back_off(container, record, gone)

    def _tell_back_off(self, container: Container, record: ContainerRecord, gone: bool) -> None:
        assert isinstance(record.state, Ended)
        if record.delay_s and not is_ending(self._pod, gone) and restarts(container, self._pod, record.state):
            self._events.backs_off(self._pod, container)

    async def _stop(self, name: str, stop: Stop) -> None:
        state = self._records[name].state
        if not isinstance(state, Running) or state.stop is not None or name not in self._runs:
            return
        if stop.grace_s is None:
            self._events.stopping(self._pod, self._containers[name])
        self._change(name, stop=stop, ready=False)
        self._runs[name].probes.cancel()
        await self._tools.programs.signal(self._runs[name].program, Signals.SIGTERM)

    async def _kill(self, name: str) -> None:
        state = self._records[name].state
        if isinstance(state, Running) and state.stop is not None and name in self._runs:
            self._change(name, stop=replace(state.stop, killed=True))
            await self._tools.programs.signal(self._runs[name].program, Signals.SIGKILL)
