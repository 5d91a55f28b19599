"""What a pod's plan promises, whatever happens to its containers and in whatever order."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from kaito.devcluster.process_nodes.pod_plan import FAILED, SUCCEEDED, Plan, phase_of, plan
from kaito.devcluster.process_nodes.pod_records import (
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
from kaito.devcluster.process_nodes.pod_status import Seen, changes, status_of
from kaito.kube.core_v1 import Pod

BACK_OFF = BackOff()
START = datetime(2026, 1, 1, tzinfo=UTC)
POLICIES = st.sampled_from(["Always", "OnFailure", "Never"])
SECONDS = st.sampled_from([0.0, 0.5, 1, 9, 10, 30, 299, 300, 601])
CODES = st.sampled_from([0, 0, 1, 3, 137, -9, -15])


HOOK = {"lifecycle": {"postStart": {"exec": {"command": ["true"]}}}}


def pod_of(policy: str, inits: int, sidecars: int, mains: int, hooks: bool) -> Pod:
    init = [{"name": f"init-{n}", "image": "i"} for n in range(inits)]
    init += [{"name": f"sidecar-{n}", "image": "i", "restartPolicy": "Always"} for n in range(sidecars)]
    spec: dict[str, Any] = {"restartPolicy": policy, "terminationGracePeriodSeconds": 30, "initContainers": init}
    spec["containers"] = [{"name": f"main-{n}", "image": "i", **(HOOK if hooks else {})} for n in range(mains)]
    return Pod.model_validate({"metadata": {"name": "pod", "namespace": "ns", "uid": "uid"}, "spec": spec})


class PodLife(RuleBasedStateMachine):
    """One pod; the test is its processes, its clock, and the people who delete it."""

    @initialize(
        policy=POLICIES,
        inits=st.integers(0, 2),
        sidecars=st.integers(0, 1),
        mains=st.integers(1, 2),
        hooks=st.booleans(),
    )
    def create(self, policy: str, inits: int, sidecars: int, mains: int, hooks: bool) -> None:
        self.pod, self.hooks = pod_of(policy, inits, sidecars, mains, hooks), hooks
        self.now = START
        self.records = recovered(self.pod, self.now)
        self.restarts = dict.fromkeys(self.records, 0)
        self.deleted_at: datetime | None = None
        self.phase = ""

    @rule(
        refused=st.sampled_from(["", "", "", "ErrImagePull", "CreateContainerConfigError"]),
        started=st.booleans(),
    )
    def step(self, refused: str, started: bool) -> None:
        made = self.plan()
        for name in made.starts:
            self.check_start(name)
            record = self.records[name]
            if refused:
                self.records[name] = record.refused(refused, "why", self.now, BACK_OFF)
            else:
                run = f"{name}/{record.next_run}"
                set_up = not (self.hooks and name.startswith("main"))
                self.records[name] = record.begun(run, self.now, started=started, ready=started, set_up=set_up)
        for name in made.stops:
            self.records[name] = self.records[name].with_running(stop=Stop(self.now, held=self.hooks))
        for name in made.tells:
            self.records[name] = self.told(self.records[name])
        for name in made.kills:
            self.records[name] = self.killed(self.records[name])
        self.write()

    @rule(seconds=SECONDS)
    def wait(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    @precondition(lambda self: self.running())
    @rule(data=st.data(), code=CODES)
    def exit(self, data: st.DataObject, code: int) -> None:
        name = data.draw(st.sampled_from(self.running()))
        self.records[name] = self.records[name].ended(code, "", self.now, BACK_OFF)

    @precondition(lambda self: self.running())
    @rule(data=st.data())
    def fail_liveness(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(self.running()))
        self.records[name] = self.records[name].with_running(stop=Stop(self.now, 5.0))

    @precondition(lambda self: self.running())
    @rule(data=st.data())
    def end_hook(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(self.running()))
        record = self.records[name]
        assert isinstance(record.state, Running)
        if record.state.stop is not None and record.state.stop.held:
            self.records[name] = self.told(record)
        elif record.state.stop is None:
            self.records[name] = record.with_running(set_up=True)

    @precondition(lambda self: self.deleted_at is None)
    @rule(grace=st.sampled_from([0, 1, 30]))
    def delete(self, grace: int) -> None:
        draft = self.pod.edit()
        draft.metadata.deletion_timestamp = self.now + timedelta(seconds=grace)
        draft.metadata.deletion_grace_period_seconds = grace
        self.pod, self.deleted_at = draft, self.now

    @rule()
    def restart_agent(self) -> None:
        self.write()
        for name, record in self.records.items():
            self.restarts[name] = max(self.restarts[name], record.restarts)
        self.records = recovered(self.pod, self.now)

    @invariant()
    def restart_counts_never_fall(self) -> None:
        for name, record in self.records.items():
            assert record.restarts >= self.restarts[name]
            self.restarts[name] = record.restarts

    @invariant()
    def a_plan_that_is_over_leaves_nothing(self) -> None:
        made = self.plan()
        if made.over:
            assert not self.running()
            assert (made.starts, made.stops, made.kills) == ((), (), ())

    @invariant()
    def whoever_is_told_to_end_is_killed_in_time(self) -> None:
        made = self.plan()
        for name, record in self.records.items():
            state = record.state
            if isinstance(state, Running) and state.stop is not None and not state.stop.killed:
                limit = state.stop.asked_at + timedelta(seconds=30)
                if state.stop.told_at is not None:
                    limit = max(limit, state.stop.told_at + timedelta(seconds=2))
                assert name in (*made.kills, *made.tells) or (made.wake_at is not None and made.wake_at <= limit)

    @invariant()
    def a_pod_that_waits_has_something_to_wait_for(self) -> None:
        made = self.plan()
        if not (made.over or self.running() or made.starts):
            assert made.wake_at is not None
            assert made.wake_at > self.now

    def plan(self) -> Plan:
        return plan(self.pod, self.records, self.now)

    def running(self) -> list[str]:
        return sorted(name for name, each in self.records.items() if isinstance(each.state, Running))

    def check_start(self, name: str) -> None:
        assert self.deleted_at is None, "nothing starts after the deletion"
        assert self.phase not in (SUCCEEDED, FAILED), "nothing starts once the pod has ended"
        record, policy = self.records[name], self.pod.spec.restart_policy
        mains = [each.name for each in self.pod.spec.containers]
        before = mains[: mains.index(name)] if name in mains else []
        assert all(self.records[each].is_set_up for each in before), "nobody overtakes a postStart hook"
        if isinstance(record.state, Ended) and name.startswith(("init", "main")):
            assert policy != "Never"
            assert record.state.exit_code != 0 or (policy == "Always" and name.startswith("main"))
        inits = [each.name for each in self.pod.spec.init_containers]
        earlier = inits[: inits.index(name)] if name in inits else inits
        has_begun = any(
            not isinstance(self.records[each.name].state, Waiting) or self.records[each.name].last is not None
            for each in self.pod.spec.containers
        )
        for each in earlier:
            state = self.records[each].state
            if each.startswith("sidecar"):
                assert has_begun or isinstance(state, Running)
            else:
                assert isinstance(state, Ended)
                assert state.exit_code == 0

    def told(self, record: ContainerRecord) -> ContainerRecord:
        state = record.state
        assert isinstance(state, Running)
        assert state.stop is not None
        return record.with_running(stop=replace(state.stop, held=False, told_at=self.now))

    def killed(self, record: ContainerRecord) -> ContainerRecord:
        state = record.state
        assert isinstance(state, Running)
        assert state.stop is not None
        assert not state.stop.held, "SIGTERM comes first"
        return record.with_running(stop=replace(state.stop, killed=True))

    def write(self) -> None:
        """The status reaches the API server: what was said last is what an agent that starts anew knows."""
        wanted = status_of(self.pod, Seen(self.records, "10.244.0.2", True, START, self.now))
        if self.phase in (SUCCEEDED, FAILED):
            assert wanted["phase"] == self.phase, "an end is final"
        assert wanted["phase"] == phase_of(self.pod, self.records)
        self.phase = wanted["phase"]
        conditions = {each["type"]: each for each in self.pod.status.to_dict().get("conditions", ())}
        conditions |= {each["type"]: each for each in wanted["conditions"]}
        status = {**wanted, "conditions": list(conditions.values())}
        self.pod = Pod.model_validate({**self.pod.to_dict(), "status": status})
        assert changes(self.pod, status_of(self.pod, Seen(self.records, "10.244.0.2", True, START, self.now))) == {}


PodLife.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestPodLife = PodLife.TestCase


def test_a_container_waits_longer_after_each_crash_and_anew_once_it_ran_for_long() -> None:
    record, now, waits = ContainerRecord("main"), START, []
    for ran_s in (1, 1, 1, 1, 1, 1, 1, 1, 601, 1):
        record = record.begun("run", now, started=True, ready=True)
        now += timedelta(seconds=ran_s)
        record = record.ended(1, "", now, BACK_OFF)
        waits.append(record.delay_s)
        now += timedelta(seconds=record.delay_s)
    assert waits == [0, 10, 20, 40, 80, 160, 300, 300, 0, 10]
    assert record.restarts == 9


def test_a_pod_that_was_rejected_has_no_containers_to_show_whoever_asks_later() -> None:
    pod = pod_of("Always", 1, 0, 1, hooks=False)
    records = recovered(pod, START)
    fate = Fate(verdict=Verdict("OutOfcpu", "too little", rejected=True))
    wanted = status_of(pod, Seen(records, "10.244.0.2", False, START, START, fate))
    assert (wanted["phase"], wanted["reason"]) == (FAILED, "OutOfcpu")
    assert wanted["message"] == "Pod was rejected: too little"
    pod = Pod.model_validate({**pod.to_dict(), "status": wanted})
    # As the next agent has it, which knows no verdict.
    again = status_of(pod, Seen(recovered(pod, START), "10.244.0.2", False, START, START))
    assert {"containerStatuses", "initContainerStatuses"}.isdisjoint([*wanted, *again])


def test_sidecars_end_after_those_that_they_serve_the_last_of_them_first() -> None:
    pod = pod_of("Never", 0, 2, 1, hooks=False)
    records = {
        each.name: ContainerRecord(each.name).begun(each.name, START, started=True, ready=True)
        for each in containers_of(pod)
    }
    order = []
    while (made := plan(pod, records, START, Fate(gone=True))).over is False:
        order.append(made.stops)
        for name in made.stops:
            records[name] = records[name].with_running(stop=Stop(START)).ended(0, "", START, BACK_OFF)
    assert order == [("main-0",), ("sidecar-1",), ("sidecar-0",)]


def test_a_container_that_was_to_end_with_a_node_that_is_back_gets_its_pods_grace_and_no_more() -> None:
    pod = pod_of("Always", 0, 0, 1, hooks=False)
    begun = ContainerRecord("main-0").begun("main-0/0", START, started=True, ready=True, set_up=True)
    records = {"main-0": begun.with_running(stop=Stop(START), ready=False)}
    over = START + timedelta(seconds=30)
    assert plan(pod, records, START).wake_at == over
    assert plan(pod, records, over).kills == ("main-0",)
