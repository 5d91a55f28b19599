"""ContainerRecord: what the agent remembers of one container, and how that changes; values, without any process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from kaito.kube.core_v1 import ContainerState, ContainerStatus, Pod
from kaito.kube.pod_v1 import Container

LOST_EXIT_CODE: Final = 137
LOST_REASON: Final = "ContainerStatusUnknown"
LOST_MESSAGE: Final = "The container could not be located when the pod was terminated"
PULL_FAILED: Final = ("ErrImagePull", "ErrImageNeverPull")
"""Reasons of a start that failed which a kubelet alternates with ImagePullBackOff."""


@dataclass(frozen=True, slots=True)
class BackOff:
    """How long a container waits before it is started again; the defaults are a kubelet's.

    Attributes:
        first_s: after the second end, and after a first start that failed; doubles from there.
        cap_s: at most.
        reset_s: a container that ran for so long begins anew.
    """

    first_s: float = 10.0
    cap_s: float = 300.0
    reset_s: float = 600.0

    def after(self, times: int) -> float:
        """The wait once something has failed for the given time in a row, from 1 on."""
        return min(self.cap_s, self.first_s * 2.0 ** min(times - 1, 60))


KUBELETS: Final = BackOff()
"""How a kubelet waits."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """It does not run: it never did, or could not be started."""

    reason: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why the agent has failed a pod, as its status and an event say it.

    Attributes:
        reason: in one word.
        message: in more.
        rejected: nothing of the pod was ever started.
    """

    reason: str
    message: str
    rejected: bool = False


@dataclass(frozen=True, slots=True)
class Fate:
    """What has become of a pod, other than by its containers.

    Attributes:
        gone: it, or its node, is no more.
        verdict: the agent has failed it.
    """

    gone: bool = False
    verdict: Verdict | None = None

    @property
    def ends(self) -> bool:
        """Whether nothing of the pod may run any more."""
        return self.gone or self.verdict is not None


LIVES: Final = Fate()


@dataclass(frozen=True, slots=True)
class Stop:
    """It is to end.

    Attributes:
        asked_at: when its time began to run.
        grace_s: how long it may take; None: as long as its pod's deletion says.
        held: its preStop hook runs, and it got no SIGTERM yet.
        told_at: when it got SIGTERM, where a hook went before.
        killed: it got SIGKILL.
    """

    asked_at: datetime
    grace_s: float | None = None
    held: bool = False
    told_at: datetime | None = None
    killed: bool = False


@dataclass(frozen=True, slots=True)
class Running:
    """It runs, under the name `run`.

    Attributes:
        run: unique among all runs.
        started_at: since when.
        set_up: its postStart hook, if it has one, is through.
        started: its startup probe, if it has one, held.
        ready: its readiness probe, if it has one, holds.
        stop: it is to end.
    """

    run: str
    started_at: datetime
    set_up: bool = True
    started: bool = True
    ready: bool = True
    stop: Stop | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """It has ended."""

    exit_code: int
    reason: str
    finished_at: datetime
    started_at: datetime | None = None
    message: str = ""
    run: str = ""


@dataclass(frozen=True, slots=True)
class ContainerRecord:
    """One container of one pod.

    Attributes:
        name: the container's.
        state: what it does.
        last: how its run before the present one ended.
        restarts: how often it was started after the first time.
        ends: how often in a row it ended soon; what the back-off follows.
        refusals: how often in a row it could not be started.
        retry_at: no start before.
        delay_s: the wait that `retry_at` stands for.
    """

    name: str
    state: Waiting | Running | Ended = Waiting()
    last: Ended | None = None
    restarts: int = 0
    ends: int = 0
    refusals: int = 0
    retry_at: datetime | None = None
    delay_s: float = 0.0

    @property
    def next_run(self) -> int:
        """The number of restarts that the next run will have."""
        has_run = isinstance(self.state, Ended) or self.last is not None
        return self.restarts + 1 if has_run else self.restarts

    @property
    def succeeded(self) -> bool:
        """Whether it ended well."""
        return isinstance(self.state, Ended) and self.state.exit_code == 0

    def may_start(self, now: datetime) -> bool:
        """Whether its back-off is over."""
        return self.retry_at is None or self.retry_at <= now

    @property
    def is_set_up(self) -> bool:
        """Whether no postStart hook of it is running."""
        return not isinstance(self.state, Running) or self.state.set_up

    def begun(self, run: str, now: datetime, *, started: bool, ready: bool, set_up: bool = True) -> ContainerRecord:
        """It was started."""
        return replace(
            self,
            state=Running(run, now, set_up, started, ready),
            last=self.state if isinstance(self.state, Ended) else self.last,
            restarts=self.next_run,
            refusals=0,
            retry_at=None,
            delay_s=0.0,
        )

    def refused(self, reason: str, message: str, now: datetime, backoff: BackOff) -> ContainerRecord:
        """It could not be started."""
        refusals = self.refusals + 1
        # Only pulls wait ever longer: what a container's configuration lacks is looked for again soon.
        delay_s = backoff.after(refusals if reason in PULL_FAILED else 1)
        return replace(
            self,
            state=Waiting(reason, message),
            last=self.state if isinstance(self.state, Ended) else self.last,
            refusals=refusals,
            delay_s=delay_s,
            retry_at=now + timedelta(seconds=delay_s),
        )

    def ended(self, exit_code: int, message: str, now: datetime, backoff: BackOff) -> ContainerRecord:
        """Its process is gone; below zero the code is a signal's."""
        assert isinstance(self.state, Running)
        code = exit_code if exit_code >= 0 else 128 - exit_code
        long = now - self.state.started_at >= timedelta(seconds=backoff.reset_s)
        before = 0 if long else self.ends
        delay_s = backoff.after(before) if before else 0.0
        ended = Ended(code, "Error" if code else "Completed", now, self.state.started_at, message, self.state.run)
        return replace(self, state=ended, ends=before + 1, delay_s=delay_s, retry_at=now + timedelta(seconds=delay_s))

    def with_running(self, **changes: Any) -> ContainerRecord:
        """With changes to its state while it runs; else as it is."""
        if not isinstance(self.state, Running):
            return self
        return replace(self, state=replace(self.state, **changes))


Records = Mapping[str, ContainerRecord]
"""The records of a pod's containers, by name."""


def containers_of(pod: Pod) -> tuple[Container, ...]:
    """All containers of a pod, those that run first first."""
    return (*pod.spec.init_containers, *pod.spec.containers)


def recovered(pod: Pod, now: datetime) -> dict[str, ContainerRecord]:
    """The records of a pod that is new to this agent: what its status says, and that nothing of it runs any more."""
    told = {each.name: each for each in (*pod.status.init_container_statuses, *pod.status.container_statuses)}
    return {each.name: _recovered(each.name, told.get(each.name), now) for each in containers_of(pod)}


def _recovered(name: str, status: ContainerStatus | None, now: datetime) -> ContainerRecord:
    if status is None:
        return ContainerRecord(name)
    last = _ended(status.last_state, now)
    if status.state.running is not None:
        lost = Ended(
            LOST_EXIT_CODE, LOST_REASON, now, status.state.running.started_at, LOST_MESSAGE, _run(status.container_id)
        )
        return ContainerRecord(name, lost, last, status.restart_count, ends=1, retry_at=now)
    ended = _ended(status.state, now)
    if ended is not None:
        return ContainerRecord(name, ended, last, status.restart_count, ends=1, retry_at=now)
    if last is not None:
        # It waited to be started again: it is as it was when it ended.
        return ContainerRecord(name, last, None, status.restart_count, ends=1, retry_at=now)
    return ContainerRecord(name, restarts=status.restart_count)


def _ended(state: ContainerState, now: datetime) -> Ended | None:
    told = state.terminated
    if told is None:
        return None
    return Ended(
        told.exit_code,
        told.reason or "",
        told.finished_at or told.started_at or now,
        told.started_at,
        told.message or "",
        _run(told.container_id),
    )


def _run(container_id: str | None) -> str:
    return (container_id or "").removeprefix("process://")
