"""Life: in which order services and controllers start and stop, how they come and go meanwhile, and how they fail."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kaito.kube.core_v1 import ConfigMap
from kaito.kube.resource import Resource
from kaito.runtime import DONE, Controller, Manager, Result, Service, Stage
from kaito.testing import virtual_clock
from kaito.testing.fake_api import FakeApi
from tests.unit.runtime.managers import Slow, assert_nothing_left, manager, put


class Telling(Service):
    """A service that writes down what becomes of it."""

    def __init__(self, name: str, told: list[str], stage: Stage = Stage.OTHERS, *, starts_s: float = 0.0) -> None:
        self._name = name
        self.stage = stage
        self.told = told
        self.starts_s = starts_s

    @property
    def name(self) -> str:
        return self._name

    async def started(self) -> None:
        await asyncio.sleep(self.starts_s)
        self.told.append(f"{self.name} started")

    async def run(self) -> None:
        self.told.append(f"{self.name} runs")
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self.told.append(f"{self.name} ended")


class Hanging(Telling):
    """A service that does not let itself be cancelled."""

    def __init__(self) -> None:
        super().__init__("hanging", [])
        self.let_go = asyncio.Event()

    async def run(self) -> None:
        while not self.let_go.is_set():
            try:
                await self.let_go.wait()
            except asyncio.CancelledError:
                continue


class Elected:
    """Leader election for tests: everything is won when told so."""

    def __init__(self, told: list[str]) -> None:
        self.told = told
        self.won = asyncio.Event()
        self.loss: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def gate(self, controller: Controller[Resource]) -> Any:
        async def gate() -> None:
            await self.won.wait()
            self.told.append(f"{controller.name} elected")

        return gate

    async def run(self) -> None:
        await self.loss

    async def release(self, controller: str) -> None:
        self.told.append(f"{controller} released")

    def fault(self) -> str | None:
        return None


def test_stages_start_one_after_the_other_and_stop_the_other_way_round() -> None:
    async def main() -> None:
        told: list[str] = []

        class Told(Slow):
            async def reconcile(self, obj: ConfigMap) -> Any:
                told.append("reconciled")
                try:
                    return await super().reconcile(obj)
                finally:
                    told.append("reconcile ended")

        api = FakeApi()
        put(api, "a")
        it = manager(api, Told(3.0))
        it.add(Telling("other", told))
        it.add(Telling("hook", told, Stage.WEBHOOKS, starts_s=2.0))
        it.add(Telling("store", told, Stage.CACHES))
        task = asyncio.create_task(it.run())
        await asyncio.sleep(1.0)
        assert told == ["hook runs"]
        await asyncio.sleep(2.0)
        begun = ["hook runs", "hook started", "store runs", "store started", "other runs", "other started"]
        assert told == [*begun, "reconciled"]
        it.stop()
        await task
        assert told[len(begun) + 1 :] == ["reconcile ended", "other ended", "store ended", "hook ended"]
        assert_nothing_left()

    virtual_clock.run(main())


def test_a_service_that_does_not_start_is_named_and_holds_the_others_up_no_longer(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        told: list[str] = []
        it = manager(FakeApi(), start_timeout_s=20.0)
        it.add(Telling("hook", told, Stage.WEBHOOKS, starts_s=60.0))
        it.add(Telling("other", told))
        task = asyncio.create_task(it.run())
        await asyncio.sleep(19.0)
        assert told == ["hook runs"]
        await asyncio.sleep(2.0)
        assert told == ["hook runs", "other runs", "other started"]
        await asyncio.sleep(40.0)
        assert told[-1] == "hook started"
        it.stop()
        await task
        assert_nothing_left()

    virtual_clock.run(main())
    (late,) = [each for each in caplog.records if "not started in time" in each.getMessage()]
    assert vars(late)["services"] == "hook"


def test_stopping_while_a_service_starts_starts_nothing_more() -> None:
    async def main() -> None:
        told: list[str] = []
        it = manager(FakeApi())
        it.add(Telling("hook", told, Stage.WEBHOOKS, starts_s=20.0))
        it.add(Telling("other", told))
        task = asyncio.create_task(it.run())
        await asyncio.sleep(1.0)
        it.stop()
        await asyncio.wait_for(task, 0.5)
        assert told == ["hook runs", "hook ended"]
        assert_nothing_left()

    virtual_clock.run(main())


def test_what_is_added_while_it_runs_starts_at_once_and_what_comes_after_the_stop_is_refused() -> None:
    async def main() -> None:
        told: list[str] = []
        api, reconciler = FakeApi(), Slow()
        put(api, "a")
        it = manager(api)
        task = asyncio.create_task(it.run())
        await asyncio.sleep(1.0)
        it.add(Controller(ConfigMap, reconciler))
        it.add(Telling("late", told, Stage.WEBHOOKS))
        await asyncio.sleep(1.0)
        assert told == ["late runs", "late started"]
        assert reconciler.ended == 1
        it.stop()
        with pytest.raises(RuntimeError, match="manager tests has stopped: controller configmap comes too late"):
            it.add(Controller(ConfigMap, Slow()))
        with pytest.raises(RuntimeError, match="manager tests has stopped: service too late comes too late"):
            it.add(Telling("too late", told))
        await task
        assert told[2:] == ["late ended"]
        assert_nothing_left()

    virtual_clock.run(main())


def test_a_controller_that_is_removed_ends_its_work_and_hears_no_more_and_can_come_back() -> None:
    async def main() -> None:
        api, reconciler = FakeApi(), Slow(5.0)
        put(api, "a")
        it = manager(api)
        it.add(controller := Controller(ConfigMap, reconciler))
        task = asyncio.create_task(it.run())
        await asyncio.sleep(1.0)
        await it.remove("configmap")
        assert (reconciler.begun, reconciler.ended, reconciler.cancelled) == (1, 1, 0)
        assert it.controllers == ()
        put(api, "b")
        await asyncio.sleep(10.0)
        assert reconciler.begun == 1
        it.add(controller)
        await asyncio.sleep(12.0)
        assert reconciler.ended == 3
        it.stop()
        await task
        assert_nothing_left()

    virtual_clock.run(main())


def test_what_was_removed_and_has_not_ended_is_refused_by_its_name_and_harms_nobody() -> None:
    async def main() -> None:
        api, let_go = FakeApi(), asyncio.Event()
        put(api, "a")

        class Stubborn:
            async def reconcile(self, _: ConfigMap) -> Result:
                while not let_go.is_set():
                    try:
                        await let_go.wait()
                    except asyncio.CancelledError:
                        continue
                return DONE

        told: list[str] = []
        elections = Elected(told)
        elections.won.set()
        it = manager(api, leader_election=elections)
        it.add(controller := Controller(ConfigMap, Stubborn()))
        task = asyncio.create_task(it.run())
        await asyncio.sleep(1.0)
        removing = asyncio.create_task(it.remove("configmap"))
        await asyncio.sleep(1.0)
        refusal = "controller configmap was removed, but has not ended yet"
        with pytest.raises(RuntimeError, match=refusal):
            it.add(Controller(ConfigMap, Slow()))
        await removing
        with pytest.raises(RuntimeError, match=refusal):
            it.add(controller)
        assert not task.done()
        assert told == ["configmap elected"]
        let_go.set()
        await asyncio.sleep(1.0)
        assert told == ["configmap elected", "configmap released"]
        it.add(Controller(ConfigMap, after := Slow()))
        await asyncio.sleep(1.0)
        assert after.ended == 1
        it.stop()
        await task
        assert_nothing_left()

    virtual_clock.run(main())


def test_a_service_that_ends_with_what_is_no_exception_stops_the_manager_like_any_other() -> None:
    class Panic(BaseException):
        pass

    class Panicking(Telling):
        async def run(self) -> None:
            raise Panic("at the disco")

    async def main() -> None:
        it = manager(FakeApi())
        it.add(Panicking("mine", []))
        with pytest.raises(ExceptionGroup, match="service mine failed") as caught:
            await asyncio.wait_for(it.run(), 60.0)
        (error,) = caught.value.exceptions
        assert isinstance(error.__cause__, Panic)
        assert_nothing_left()

    virtual_clock.run(main())


def test_a_service_that_is_removed_ends_and_what_is_unknown_is_refused_with_what_is_there() -> None:
    async def main() -> None:
        told: list[str] = []
        it = manager(FakeApi(), Slow())
        it.add(Telling("mine", told))
        task = asyncio.create_task(it.run())
        await asyncio.sleep(1.0)
        await it.remove("mine")
        assert told[-1] == "mine ended"
        with pytest.raises(ValueError, match="manager tests has no 'mine' to remove; it has configmap, cache"):
            await it.remove("mine")
        it.stop()
        await task

    virtual_clock.run(main())


def test_two_of_one_name_are_refused() -> None:
    async def main() -> None:
        it = manager(FakeApi(), Slow())
        it.add(Telling("mine", []))
        with pytest.raises(ValueError, match="two services are named 'mine'"):
            it.add(Telling("mine", []))
        with pytest.raises(ValueError, match="two controllers are named 'configmap'"):
            it.add(Controller(ConfigMap, Slow()))

    virtual_clock.run(main())


def test_a_service_that_hangs_is_named_with_where_it_hangs_and_left_behind(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        it = manager(FakeApi(), stop_timeout_s=4.0)
        it.add(hanging := Hanging())
        task = asyncio.create_task(it.run())
        await asyncio.sleep(1.0)
        it.stop()
        await asyncio.wait_for(task, 4.5)
        hanging.let_go.set()
        await asyncio.sleep(0.1)
        assert_nothing_left()

    virtual_clock.run(main())
    (left,) = [each for each in caplog.records if "left behind" in each.getMessage()]
    assert vars(left)["what"] == "hanging"
    assert "in Event.wait" in vars(left)["where"]


def test_what_fails_is_named_by_the_error_and_what_fails_while_it_stops_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Failing(Telling):
        async def run(self) -> None:
            try:
                await asyncio.sleep(1.0 if self.name == "first" else 100.0)
            except asyncio.CancelledError:
                raise OSError("the file is gone") from None
            raise RuntimeError("on purpose")

    async def main() -> None:
        it = manager(FakeApi())
        it.add(Failing("first", []))
        it.add(Failing("second", []))
        with pytest.raises(ExceptionGroup, match="manager tests: service first failed") as raised:
            await it.run()
        (error,) = raised.value.exceptions
        assert error.__notes__ == ["in service first of manager tests"]
        assert_nothing_left()

    virtual_clock.run(main())
    (logged,) = [each for each in caplog.records if each.getMessage() == "failed while it was stopped"]
    assert vars(logged)["what"] == "second"
    assert logged.exc_info is not None
    assert "the file is gone" in str(logged.exc_info[1])


def test_reconciles_that_outlast_the_grace_are_named_with_key_and_seconds(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        api = FakeApi()
        put(api, "a")
        it = manager(api, Slow(1000.0), grace_s=3.0)
        task = asyncio.create_task(it.run())
        await asyncio.sleep(1.0)
        it.stop()
        await task

    virtual_clock.run(main())
    (named,) = [each for each in caplog.records if "did not end in time" in each.getMessage()]
    assert (vars(named)["controller"], vars(named)["key"]) == ("configmap", "default/a")
    assert vars(named)["worked_s"] == pytest.approx(4.0, abs=0.2)


def test_a_controller_works_once_it_is_elected_and_gives_up_after_its_workers_have_ended() -> None:
    async def main() -> None:
        told: list[str] = []

        class Told(Slow):
            async def reconcile(self, obj: ConfigMap) -> Any:
                try:
                    return await super().reconcile(obj)
                finally:
                    told.append("reconcile ended")

        api = FakeApi()
        put(api, "a")
        elections = Elected(told)
        it: Manager = manager(api, Told(3.0), leader_election=elections)
        task = asyncio.create_task(it.run())
        await asyncio.sleep(5.0)
        assert told == []
        elections.won.set()
        await asyncio.sleep(1.0)
        it.stop()
        await task
        assert told == ["configmap elected", "reconcile ended", "configmap released"]
        assert_nothing_left()

    virtual_clock.run(main())


def test_lost_leadership_ends_the_manager_with_that_error_and_without_grace() -> None:
    class Lost(Exception):
        pass

    async def main() -> None:
        told: list[str] = []
        api, reconciler = FakeApi(), Slow(1000.0)
        put(api, "a")
        elections = Elected(told)
        elections.won.set()
        it = manager(api, reconciler, leader_election=elections, grace_s=500.0)
        task = asyncio.create_task(it.run())
        await asyncio.sleep(1.0)
        elections.loss.set_exception(Lost("the lease ran out"))
        with pytest.raises(Lost, match="the lease ran out"):
            await asyncio.wait_for(task, 0.5)
        assert reconciler.cancelled == 1
        assert told == ["configmap elected"]
        assert_nothing_left()

    virtual_clock.run(main())
