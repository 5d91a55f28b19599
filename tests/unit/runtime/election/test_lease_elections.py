"""Managers that elect their controllers: who works, who stands by, and what becomes of a leader that is cut off."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from kaito.client import Client, LeadershipLost, Request
from kaito.kube.coordination_v1 import Lease
from kaito.kube.core_v1 import ConfigMap, Secret
from kaito.kube.events_v1 import Event
from kaito.kube.object_key import ObjectKey
from kaito.runtime import DONE, Controller, Manager, Result, Watch
from kaito.runtime.election import LeaderElection
from kaito.runtime.life import GRACE_S
from kaito.runtime.watch import AnyWatch
from kaito.testing import eventually, virtual_clock
from kaito.testing.fake_api import FakeApi, Fault, Hang, Refuse

MAPS = "/api/v1/namespaces/default/configmaps"
LEASE = ObjectKey("tests-configmap", "default")
DURATION_S, DEADLINE_S, RETRY_S = 15.0, 10.0, 2.0


class Writer:
    """A reconciler that writes who it is into each ConfigMap, and remembers when it was called."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.called_at: list[float] = []
        self.seen: dict[str, str] = {}
        self.failed: list[Exception] = []
        self.before: Callable[[], Awaitable[object]] | None = None
        self.manager: Manager | None = None

    async def reconcile(self, obj: ConfigMap) -> Result:
        assert self.manager is not None
        self.called_at.append(asyncio.get_running_loop().time())
        self.seen.setdefault(obj.metadata.name, obj.data.get("by", ""))
        try:
            if self.before:
                await self.before()
            await self.manager.client.patch(ConfigMap, obj.key, {"data": {"by": self.name}})
        except Exception as error:
            self.failed.append(error)
            raise
        return DONE


class Process:
    """A manager with one controller of ConfigMaps, that can be told from others by its user agent."""

    def __init__(self, api: FakeApi, name: str, *, watches: Sequence[AnyWatch] = (), **election: Any) -> None:
        self.api = api
        self.name = name
        self.writer = Writer(name)
        options: dict[str, Any] = {"namespace": "default", "identity": name, "trusts_absence": True, **election}
        self.manager = self.writer.manager = Manager(
            "tests",
            None,
            transport=api.transport(user_agent=name),
            metrics="0",
            health="0",
            rng=random.Random(name),
            leader_election=LeaderElection(**options),
            check_permissions=False,
        )
        self.manager.add(Controller(ConfigMap, self.writer, watches=watches))
        self.task = asyncio.create_task(self.manager.run())

    @property
    def works(self) -> bool:
        return bool(self.writer.called_at)

    def metric(self, name: str) -> float | None:
        return self.manager.registry.get_sample_value(name, {"name": LEASE.name})

    def cut_off(self) -> None:
        """Its requests get no answer any more."""
        self.api.faults.add(Fault(Hang(), times=None, only=self._is_mine))
        self.api.cut_watches("reset")

    def _is_mine(self, request: Request) -> bool:
        return request.headers.get("User-Agent") == self.name

    async def stop(self) -> None:
        self.manager.stop()
        await self.task


def put(api: FakeApi, name: str) -> None:
    api.call("POST", MAPS, {"metadata": {"name": name}})


def time() -> float:
    return asyncio.get_running_loop().time()


async def two(api: FakeApi) -> tuple[Process, Process]:
    """One that leads, and one that stands by, warm."""
    put(api, "a")
    first = Process(api, "first")
    await eventually(lambda: first.works)
    second = Process(api, "second")
    await asyncio.sleep(30.0)
    assert not second.works
    return first, second


async def lease(api: FakeApi) -> Lease:
    async with Client(api.transport(), field_owner="test") as client:
        return await client.get(Lease, LEASE)


def test_one_works_the_other_stands_by_warm_and_only_reads() -> None:
    async def main() -> None:
        api = FakeApi()
        first, second = await two(api)
        assert (first.metric("leader_election_master_status"), second.metric("leader_election_master_status")) == (1, 0)
        assert first.manager.controllers[0].phase == "working"
        assert second.manager.controllers[0].phase == "standby"
        assert len(second.manager.controllers[0].queue) == 1
        assert (await lease(api)).spec.holder_identity == "first"
        await second.stop()
        await first.stop()

    virtual_clock.run(main())


def test_t64_a_clean_stop_hands_over_within_a_second_and_only_after_the_last_write() -> None:
    async def main() -> None:
        api = FakeApi()
        first, second = await two(api)
        first.writer.before = lambda: asyncio.sleep(5.0)
        put(api, "b")
        await eventually(lambda: "b" in first.writer.seen)
        await first.stop()
        stopped_at = time()
        await eventually(lambda: second.works)
        assert second.writer.called_at[0] - stopped_at < 1.0
        # Its last write, made while it was stopping, came through, and was seen by the next one.
        assert first.writer.failed == []
        await eventually(lambda: second.writer.seen == {"a": "first", "b": "first"})
        assert (await lease(api)).spec.lease_transitions == 1
        await second.stop()
        spec = (await lease(api)).spec
        assert (spec.holder_identity, spec.lease_duration_seconds) == ("", 1)

    virtual_clock.run(main())


def test_t62_a_leader_that_is_cut_off_ends_before_another_begins_and_that_begins_in_time() -> None:
    async def main() -> None:
        api = FakeApi()
        first, second = await two(api)
        first.cut_off()
        cut_at = time()
        with pytest.raises(
            LeadershipLost, match="lease default/tests-configmap was lost: it was not renewed within 10 s"
        ):
            await first.task
        lost_after_s = time() - cut_at
        await eventually(lambda: second.works, timeout_s=30.0)
        assert DEADLINE_S - RETRY_S - 0.1 <= lost_after_s <= DEADLINE_S + 0.1
        assert lost_after_s < second.writer.called_at[0] - cut_at <= DURATION_S + 1.0
        await second.stop()

    virtual_clock.run(main())


def test_what_a_former_leader_left_running_writes_nothing_any_more() -> None:
    async def main() -> None:
        api = FakeApi()
        put(api, "a")
        only = Process(api, "first")
        late: list[asyncio.Task[ConfigMap]] = []
        flipped = asyncio.Event()

        async def write_later() -> ConfigMap:
            await flipped.wait()
            return await only.manager.client.patch(ConfigMap, ObjectKey("a", "default"), {"data": {"late": "yes"}})

        async def leave_behind() -> None:
            late.append(asyncio.create_task(write_later()))

        only.writer.before = leave_behind
        await eventually(lambda: late)
        path = f"/apis/coordination.k8s.io/v1/namespaces/default/leases/{LEASE.name}"
        api.call("PATCH", path, {"spec": {"holderIdentity": "somebody"}}, content_type="application/merge-patch+json")
        with pytest.raises(LeadershipLost, match="it is held by somebody"):
            await only.task
        flipped.set()
        for each in await asyncio.gather(*late, return_exceptions=True):
            assert isinstance(each, LeadershipLost)
        assert "late" not in api.objects(ConfigMap)[0]["data"]

    virtual_clock.run(main())


def test_what_outlasts_its_cancellation_writes_nothing_once_its_controller_was_removed() -> None:
    async def main() -> None:
        api = FakeApi()
        put(api, "a")
        only = Process(api, "first")
        late: list[asyncio.Task[ConfigMap]] = []
        removed = asyncio.Event()

        async def write_later() -> ConfigMap:
            await removed.wait()
            return await only.manager.client.patch(ConfigMap, ObjectKey("a", "default"), {"data": {"late": "yes"}})

        async def leave_behind() -> None:
            late.append(asyncio.create_task(write_later()))

        only.writer.before = leave_behind
        await eventually(lambda: late)
        await only.manager.remove("configmap")
        removed.set()
        for each in await asyncio.gather(*late, return_exceptions=True):
            assert isinstance(each, LeadershipLost)
        await only.stop()

    virtual_clock.run(main())


def test_what_the_leader_before_wrote_is_seen_before_anything_is_decided() -> None:
    async def main() -> None:
        api = FakeApi()
        first, second = await two(api)
        # What the first one writes from now on reaches the second one's cache by no watch.
        second_only = Fault(Hang(), verb="watch", resource="configmaps", times=None, only=second._is_mine)
        api.faults.add(second_only)
        api.cut_watches("reset")
        api.call("PATCH", f"{MAPS}/a", {"data": {"by": "late"}}, content_type="application/merge-patch+json")
        await first.stop()
        api.faults.clear()
        await eventually(lambda: second.works)
        assert second.writer.seen["a"] == "late"
        await second.stop()

    virtual_clock.run(main())


def test_a_write_that_was_given_up_has_had_its_time_to_arrive_before_another_leads() -> None:
    async def main() -> None:
        api = FakeApi()
        first, second = await two(api)
        # Sent, and stored whenever the API server likes: its answer does not come, and the reconcile is cancelled.
        api.faults.add(Fault(Hang(), verb="patch", resource="configmaps", times=None, only=first._is_mine))
        put(api, "b")
        await eventually(lambda: "b" in first.writer.seen)
        stops_at = time()
        await first.stop()
        await eventually(lambda: second.works)
        kept_s = second.writer.called_at[0] - (stops_at + GRACE_S)
        assert kept_s == pytest.approx(DURATION_S - DEADLINE_S, abs=0.5)
        await second.stop()

    virtual_clock.run(main())


def test_what_outlasts_its_cancellation_writes_nothing_while_the_lease_is_kept_for_an_earlier_write() -> None:
    async def main() -> None:
        api = FakeApi()
        put(api, "a")
        only = Process(api, "first")
        await eventually(lambda: only.works)
        api.faults.add(Fault(Hang(), verb="patch", resource="configmaps", times=1))
        late: list[asyncio.Task[ConfigMap]] = []

        async def write_later() -> ConfigMap:
            await asyncio.sleep(GRACE_S + RETRY_S * 1.5)  # the Lease was renewed once more
            return await only.manager.client.patch(ConfigMap, ObjectKey("a", "default"), {"data": {"late": "yes"}})

        async def leave_behind() -> None:
            late.append(asyncio.create_task(write_later()))

        only.writer.before = leave_behind
        put(api, "b")
        await eventually(lambda: late)
        await only.stop()
        for each in await asyncio.gather(*late, return_exceptions=True):
            assert isinstance(each, LeadershipLost)

    virtual_clock.run(main())


def test_a_map_that_writes_is_refused_while_its_controller_stands_by() -> None:
    async def main() -> None:
        api = FakeApi()
        put(api, "a")
        first = Process(api, "first")
        await eventually(lambda: first.works)
        outcomes: list[str] = []

        async def writes(obj: Secret) -> list[ObjectKey]:
            try:
                await second.manager.client.patch(ConfigMap, ObjectKey("a", "default"), {"data": {"map": "yes"}})
            except LeadershipLost:
                outcomes.append("refused")
                raise
            outcomes.append("written")
            return []

        second = Process(api, "second", watches=[Watch(Secret, map=writes)])
        api.call("POST", "/api/v1/namespaces/default/secrets", {"metadata": {"name": "s"}})
        await eventually(lambda: len(outcomes) > 2)
        assert set(outcomes) == {"refused"}
        await first.stop()
        await eventually(lambda: outcomes[-1] == "written", timeout_s=90.0)
        await second.stop()

    virtual_clock.run(main())


def test_a_first_start_without_a_lease_waits_for_one_duration_unless_told_otherwise() -> None:
    async def main() -> None:
        api = FakeApi()
        put(api, "a")
        only = Process(api, "first", trusts_absence=False)
        await eventually(lambda: only.works, timeout_s=60.0)
        assert DURATION_S <= only.writer.called_at[0] <= DURATION_S + RETRY_S + 0.2
        await only.stop()

    virtual_clock.run(main())


def test_who_waits_for_that_is_told_why_for_how_long_and_what_helps(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        only = Process(FakeApi(), "first", trusts_absence=False)
        await asyncio.sleep(1.0)
        await only.stop()

    with caplog.at_level("INFO"):
        virtual_clock.run(main())
    (record,) = [each for each in caplog.records if each.message == "controller leads once its lease has lasted"]
    assert (record.__dict__["controller"], record.__dict__["wait_s"]) == ("configmap", DURATION_S)
    assert "set trusts_absence" in record.__dict__["remedy"]


def test_events_about_the_lease_say_who_became_leader_and_who_stopped() -> None:
    async def main() -> None:
        api = FakeApi()
        first, second = await two(api)
        await first.stop()
        await eventually(lambda: second.works)
        await second.stop()
        told = [(each["regarding"]["name"], each["action"], each["note"]) for each in api.objects(Event)]
        assert told == [
            (LEASE.name, "BecomeLeader", "first became leader of controller configmap"),
            (LEASE.name, "StopLeading", "first stopped leading controller configmap"),
            (LEASE.name, "BecomeLeader", "second became leader of controller configmap"),
            (LEASE.name, "StopLeading", "second stopped leading controller configmap"),
        ]

    virtual_clock.run(main())


def test_missing_rights_are_a_fault_that_names_the_lease_once_they_have_lasted() -> None:
    async def main() -> None:
        api = FakeApi()
        put(api, "a")
        api.faults.add(Fault(Refuse(403, "Forbidden", "no leases for you"), resource="leases", times=None))
        only = Process(api, "first")
        await asyncio.sleep(20.0)
        assert only.manager.elections is not None
        assert "lease default/tests-configmap" in (only.manager.elections.fault() or "")
        assert not only.works
        api.faults.clear()
        await eventually(lambda: only.works)
        assert only.manager.elections.fault() is None
        await only.stop()

    virtual_clock.run(main())


def test_a_controller_removed_gives_its_lease_up_and_added_again_campaigns_again() -> None:
    async def main() -> None:
        api = FakeApi()
        put(api, "a")
        only = Process(api, "first")
        await eventually(lambda: only.works)
        await only.manager.remove("configmap")
        assert (await lease(api)).spec.holder_identity == ""
        only.writer.called_at.clear()
        only.manager.add(Controller(ConfigMap, only.writer))
        await eventually(lambda: only.works)
        await only.stop()

    virtual_clock.run(main())


def test_outside_of_a_cluster_the_namespace_must_be_given_and_that_is_said_before_anything_runs() -> None:
    with pytest.raises(ValueError, match="no namespace is given for the Leases"):
        Manager("tests", None, transport=FakeApi().transport(), metrics="0", health="0", leader_election=True)
