"""PodWorker: runs one pod: does what its plan says, and remembers what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from signal import Signals
from typing import Final

from kaito.devcluster.errors import ProgramError
from kaito.devcluster.process_nodes.container_commands import ContainerCommands
from kaito.devcluster.process_nodes.container_probes import ContainerProbes
from kaito.devcluster.process_nodes.hooks import Hook, HookKind, hook_of, run_hook
from kaito.devcluster.process_nodes.last_words import last_words
from kaito.devcluster.process_nodes.pod_events import PodEvents
from kaito.devcluster.process_nodes.pod_plan import DEADLINE, Plan, deadline_of, grace_s, is_ending, plan, restarts
from kaito.devcluster.process_nodes.pod_records import (
    KUBELETS,
    PULL_FAILED,
    BackOff,
    ContainerRecord,
    Ended,
    Fate,
    Running,
    Stop,
    Verdict,
    Waiting,
    containers_of,
    recovered,
)
from kaito.devcluster.process_nodes.pod_status import Seen, pull_back_off
from kaito.devcluster.process_nodes.probes import ProbeKind, Prober, probes_of
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
    commands: ContainerCommands
    prober: Prober
    probes: ContainerProbes
    hook: asyncio.Task[None] | None = None

    def quiet(self) -> None:
        """Asks the container nothing any more."""
        self.probes.cancel()
        if self.hook is not None:
            self.hook.cancel()

    async def close(self) -> None:
        """The same, and waits for what is being asked."""
        self.quiet()
        await self.probes.close()
        if self.hook is not None:
            await asyncio.gather(self.hook, return_exceptions=True)


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
        self._hooks_over: set[str] = set()
        self.verdict: Verdict | None = None
        self._started_at = now
        self._ending_at: datetime | None = None
        self._prepare_at = now
        self._mount_failures = 0
        self._pull_shown_until: datetime | None = None

    def seen(self) -> Seen:
        """What there is to tell of it."""
        now = self._tools.now()
        fate = Fate(verdict=self.verdict)
        return Seen(dict(self._records), self.sandbox.address, self.prepared, self._started_at, now, fate)

    def fail(self, verdict: Verdict) -> None:
        """Fails the pod; the next steps end it."""
        self.verdict = verdict
        self._events.failed(self._pod, verdict)

    async def step(self, pod: Pod | None) -> Plan:
        """Does what is due now.

        Args:
            pod: as it is now; None: it, or its node, is gone.

        Returns:
            What is left to do; `wake_at` says when to call again although nothing happens.
        """
        if pod is not None:
            await self._take(pod)
        deadline = deadline_of(self._pod, self._started_at)
        if self.verdict is None and deadline is not None and deadline <= self._tools.now():
            self.fail(DEADLINE)
        fate = Fate(pod is None, self.verdict)
        self._take_ends(fate)
        if not is_ending(self._pod, fate):
            await self._prepare()
        todo = self._plan(fate)
        await self._end(todo)
        for name in todo.starts:
            await self._start(self._containers[name])
        return self._plan(fate)

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
        await self.abandon()
        self._runs.clear()
        await self.sandbox.remove()

    async def abandon(self) -> None:
        """Ends its probes and hooks, and leaves everything else: the agent ends."""
        for run in self._runs.values():
            await run.close()

    def _plan(self, fate: Fate) -> Plan:
        made = plan(self._pod, self._records, self._tools.now(), fate)
        moments = [made.wake_at, self._pull_shown_until]
        if not made.ending:
            moments += [self._prepare_at, deadline_of(self._pod, self._started_at)]
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
        except OSError as error:  # of its folder: a full disk, a file of the container's in the way
            self._refuse(container, NotStarted("CreateContainerError", str(error)))
            return
        except ProgramError as error:
            cause = str(error).splitlines()[0]
            self._refuse(container, NotStarted("RunContainerError", cause))
            return
        hook = hook_of(container, HookKind.POST_START)
        self._records[container.name] = record.begun(
            run, self._tools.now(), started=False, ready=False, set_up=hook is None
        )
        begun = self._runs[container.name] = self._run_of(container, program, execution)
        self._events.started(self._pod, container)
        if hook is None:
            self._set_up(container)
        else:
            begun.hook = asyncio.create_task(self._run_hook(container, HookKind.POST_START, hook))

    def _run_of(self, container: Container, program: Program, execution: Execution) -> _Run:
        commands = ContainerCommands(container, self.sandbox, self._tools.programs, execution)
        prober = Prober(container, self.sandbox.address, commands.run)
        probes = ContainerProbes(
            container,
            prober,
            lambda kind, holds: self._probed(container, kind, holds),
            lambda kind, fault: self._events.unhealthy(self._pod, kind, fault),
        )
        return _Run(program, execution, commands, prober, probes)

    def _set_up(self, container: Container) -> None:
        """From now on it is asked how it is, and others need not wait for it."""
        probes = probes_of(container)
        started, ready = ProbeKind.STARTUP not in probes, ProbeKind.READINESS not in probes
        self._change(container.name, set_up=True, started=started, ready=ready)
        self._runs[container.name].probes.begin()

    async def _run_hook(self, container: Container, kind: HookKind, hook: Hook) -> None:
        run = self._runs[container.name]
        fault = await run_hook(hook, run.prober, run.commands)
        if fault is not None:
            self._events.hook_failed(self._pod, container, kind, fault)
        if kind is HookKind.PRE_STOP:
            self._hooks_over.add(container.name)
        elif fault is None:
            self._set_up(container)
        else:
            self._condemned[container.name] = grace_s(self._pod, False)
        self._poke()

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

    def _take_ends(self, fate: Fate) -> None:
        for name, run in list(self._runs.items()):
            code = run.program.code
            if code is None:
                continue
            run.quiet()
            del self._runs[name]
            self._condemned.pop(name, None)
            self._hooks_over.discard(name)
            container = self._containers[name]
            words = last_words(container, code, run.execution.termination_log, run.execution.log)
            record = self._records[name].ended(code, words, self._tools.now(), self._tools.backoff)
            self._records[name] = record
            self._tell_back_off(container, record, fate)

    def _tell_back_off(self, container: Container, record: ContainerRecord, fate: Fate) -> None:
        assert isinstance(record.state, Ended)
        if record.delay_s and not is_ending(self._pod, fate) and restarts(container, self._pod, record.state):
            self._events.backs_off(self._pod, container)

    async def _end(self, todo: Plan) -> None:
        """Ends whom the plan, a probe or a hook says."""
        now = self._tools.now()
        if not todo.ending:
            self._ending_at = None
        elif self._ending_at is None:
            self._ending_at = now
        for name in todo.stops:
            # Whose turn comes after others has what they left of the grace.
            since = self._ending_at or now
            await self._stop(name, Stop(since, told_at=now if since < now else None))
        for name, condemned_s in list(self._condemned.items()):
            await self._stop(name, Stop(now, condemned_s))
        self._condemned.clear()
        for name in (*todo.tells, *self._hooks_over):
            await self._tell(name)
        self._hooks_over.clear()
        for name in todo.kills:
            await self._kill(name)

    async def _stop(self, name: str, stop: Stop) -> None:
        state = self._records[name].state
        if not isinstance(state, Running) or state.stop is not None or name not in self._runs:
            return
        container, run = self._containers[name], self._runs[name]
        if stop.grace_s is None:
            self._events.stopping(self._pod, container)
        run.quiet()
        hook = hook_of(container, HookKind.PRE_STOP)
        self._change(name, stop=replace(stop, held=hook is not None), ready=False)
        if hook is None:
            await self._tools.programs.signal(run.program, Signals.SIGTERM)
        else:
            run.hook = asyncio.create_task(self._run_hook(container, HookKind.PRE_STOP, hook))

    async def _tell(self, name: str) -> None:
        """Its preStop hook is over, or has had its time."""
        state = self._records[name].state
        if not isinstance(state, Running) or state.stop is None or not state.stop.held:
            return
        self._change(name, stop=replace(state.stop, held=False, told_at=self._tools.now()))
        self._runs[name].quiet()
        await self._tools.programs.signal(self._runs[name].program, Signals.SIGTERM)

    async def _kill(self, name: str) -> None:
        state = self._records[name].state
        if isinstance(state, Running) and state.stop is not None and name in self._runs:
            self._change(name, stop=replace(state.stop, killed=True))
            await self._tools.programs.signal(self._runs[name].program, Signals.SIGKILL)
