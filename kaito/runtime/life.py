"""Life: the order in which a manager's services and controllers start and stop, and what happens when one fails."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterable
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any

from kaito.runtime.cancellation import CancelReason
from kaito.runtime.groups import Group, end
from kaito.runtime.service import Runnable, Service, Stage

if TYPE_CHECKING:
    from kaito.kube.resource import Resource
    from kaito.runtime.controller import Controller
    from kaito.runtime.elections import Elections
    from kaito.runtime.manager import Manager

log = logging.getLogger(__name__)

GRACE_S = 10.0
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 15.0
"""Webhooks, for one, go on for some seconds: the API server learns late that we stop."""


class Life:
    """What a manager runs, from its start to its end. Made by `Manager`.

    Args:
        manager: whose.
        elections: decides which controllers work; None: all.
        grace_s: seconds that reconciles in progress have to end.
        start_timeout_s: seconds that a stage may hold up those after it.
        stop_timeout_s: seconds that controllers, and each stage, have to end once cancelled.
    """

    def __init__(
        self,
        manager: Manager,
        elections: Elections | None,
        grace_s: float,
        start_timeout_s: float,
        stop_timeout_s: float,
    ) -> None:
        self._manager = manager
        self._elections = elections
        self._grace_s = grace_s
        self._start_timeout_s = start_timeout_s
        self._stop_timeout_s = stop_timeout_s
        self._controllers: dict[str, Controller[Resource]] = {}
        self._services: dict[str, tuple[Runnable, Stage]] = {}
        self._failures: list[tuple[str, Exception]] = []
        self._lost: Exception | None = None
        self._ended = asyncio.Event()
        self._claimed = False
        self._stages = {stage: Group(self._service_failed) for stage in Stage}
        self._working = Group(self._controller_failed)
        self._electing = Group(self._election_failed)
        self._begun: set[Stage] = set()
        self._controllers_begun = False
        # Removed, and still at work: they ignore that they are cancelled.
        self._hanging: set[str] = set()
        self._starting_since: dict[str, float] = {}

    @property
    def controllers(self) -> tuple[Controller[Resource], ...]:
        """In the order in which they were added."""
        return tuple(self._controllers.values())

    @property
    def services(self) -> tuple[Service, ...]:
        """In the order in which they were added."""
        return tuple(service for service, _ in self._services.values() if isinstance(service, Service))

    @property
    def stopping(self) -> bool:
        """Whether the end has begun."""
        return self._ended.is_set()

    def starting_s(self, name: str) -> float | None:
        """For how many seconds a service has been starting; None: it has started, or has not begun to."""
        since = self._starting_since.get(name)
        return None if since is None else asyncio.get_running_loop().time() - since

    def add_controller(self, controller: Controller[Resource]) -> None:
        """See `Manager.add`."""
        self._check_open("controller", controller.name)
        if controller.name in self._controllers:
            raise ValueError(f"two controllers are named {controller.name!r}; give one of them a name=")
        _check_ended("controller", controller.name, self._working)
        controller.bind(self._manager)
        self._controllers[controller.name] = controller
        if self._controllers_begun:
            self._start_controller(controller)

    def add_service(self, name: str, service: Runnable, stage: Stage) -> None:
        """See `Manager.add`."""
        self._check_open("service", name)
        if name in self._services:
            raise ValueError(f"two services are named {name!r}; give one of them another name")
        _check_ended("service", name, self._stages[stage])
        self._services[name] = (service, stage)
        if stage in self._begun:
            self._start_service(name, service, stage)

    def free_name(self, wanted: str) -> str:
        """A name for a service that has none of its own."""
        numbers = (f"{wanted} {number}" for number in count(2))
        return wanted if wanted not in self._services else next(each for each in numbers if each not in self._services)

    async def remove(self, name: str) -> None:
        """See `Manager.remove`."""
        if (controller := self._controllers.pop(name, None)) is not None:
            try:
                await self._drain([controller])
            finally:
                await self._end_controllers([name])
        elif name in self._services:
            _, stage = self._services.pop(name)
            await self._stages[stage].stop(self._stop_timeout_s, [name])
        else:
            known = ", ".join([*self._controllers, *self._services]) or "nothing"
            raise ValueError(f"manager {self._manager.name} has no {name!r} to remove; it has {known}")

    def stop(self) -> None:
        """See `Manager.stop`."""
        self._ended.set()

    def claim(self) -> None:
        """Begins the one run that there is.

        Raises:
            RuntimeError: it began before.
        """
        if self._claimed:
            raise RuntimeError(f"manager {self._manager.name} ran before, and a manager runs once; make another")
        self._claimed = True

    async def run(self) -> None:
        """Starts all, waits for the end, and stops all. Raises as `Manager.run` does."""
        try:
            await self._start()
            await self._ended.wait()
            if self._lost is None:
                await self._drain(self._controllers.values())
        finally:
            self._ended.set()
            await self._end()
        if self._lost is not None:
            raise self._lost
        if self._failures:
            what = ", ".join(name for name, _ in self._failures)
            raise ExceptionGroup(f"manager {self._manager.name}: {what} failed", [each for _, each in self._failures])

    async def _start(self) -> None:
        for stage in Stage:
            if self.stopping:
                return
            self._begun.add(stage)
            starting = [
                self._start_service(name, service, stage)
                for name, (service, its_stage) in list(self._services.items())
                if its_stage is stage
            ]
            await self._until_ended(self._all_started(stage, [each for each in starting if each is not None]))
        if self.stopping:
            return
        self._controllers_begun = True
        if self._elections is not None:
            self._electing.start("leader election", self._elections.run())
        for controller in self.controllers:
            self._start_controller(controller)

    def _start_service(self, name: str, service: Runnable, stage: Stage) -> asyncio.Task[None] | None:
        """Runs a service; returns the task that ends when it has started (or ended), None if that is at once."""
        running = self._stages[stage].start(name, service.run())
        if not isinstance(service, Service) or type(service).started is Service.started:
            return None
        self._starting_since[name] = asyncio.get_running_loop().time()
        return self._stages[stage].start(f"{name} starting", self._await_started(name, service, running))

    async def _await_started(self, name: str, service: Service, running: asyncio.Task[None]) -> None:
        started = asyncio.create_task(service.started(), name=f"{name} started")
        try:
            await asyncio.wait([started, running], return_when=asyncio.FIRST_COMPLETED)
            if started.done():
                started.result()
            self._starting_since.pop(name, None)
        finally:
            await end([started], self._stop_timeout_s)

    async def _all_started(self, stage: Stage, starting: list[asyncio.Task[None]]) -> None:
        if not starting:
            return
        _, late = await asyncio.wait(starting, timeout=self._start_timeout_s)
        if late and not self.stopping:
            names = [name for name in self._starting_since if self._services[name][1] is stage]
            fields = {"stage": stage.name, "services": ", ".join(names), "waited_s": self._start_timeout_s}
            log.warning("services have not started in time; what comes after them is started", extra=fields)

    async def _until_ended(self, waiting: Coroutine[Any, Any, None]) -> None:
        """Waits for something, or for the end."""
        task, ended = asyncio.create_task(waiting), asyncio.create_task(self._ended.wait())
        try:
            await asyncio.wait([task, ended], return_when=asyncio.FIRST_COMPLETED)
        finally:
            ended.cancel()
            task.cancel()
            await asyncio.wait([task, ended])

    def _start_controller(self, controller: Controller[Resource]) -> None:
        task = self._working.start(controller.name, self._run_controller(controller))
        task.add_done_callback(partial(self._controller_ended, controller.name))

    async def _run_controller(self, controller: Controller[Resource]) -> None:
        gate = self._elections.gate(controller) if self._elections is not None else None
        await controller.run(self._manager, gate)
        if not self.stopping and self._controllers.get(controller.name) is controller:
            raise RuntimeError(f"controller {controller.name} ended by itself")

    async def _drain(self, controllers: Iterable[Controller[Resource]]) -> None:
        """Takes no new work in, and waits (bounded) until what is being worked on has ended."""
        running = [each for each in controllers if each.running]
        fields = {"manager": self._manager.name, "controllers": ", ".join(each.name for each in running)}
        log.info("controllers are stopping", extra={**fields, "grace_s": self._grace_s})
        for controller in running:
            controller.stop_intake()
        try:
            async with asyncio.timeout(self._grace_s):
                for controller in running:
                    await controller.wait_idle()
        except TimeoutError:
            for controller in running:
                self._log_unfinished(controller)

    def _log_unfinished(self, controller: Controller[Resource]) -> None:
        for work in controller.queue.in_work() if controller.running else ():
            fields = {"controller": controller.name, "key": str(work.key), "worked_s": round(work.seconds, 1)}
            log.warning("reconcile did not end in time and is cancelled", extra={**fields, "grace_s": self._grace_s})

    async def _end(self) -> None:
        """Ends what still runs, in order; each step is bounded."""
        await self._end_controllers(self._controllers)
        await self._working.stop(self._stop_timeout_s)
        await self._electing.stop(self._stop_timeout_s)
        for stage in reversed(Stage):
            await self._stages[stage].stop(self._stop_timeout_s)

    async def _end_controllers(self, names: Iterable[str]) -> None:
        """Cancels controllers; then, that is when nothing of them works any more, gives up their leaderships."""
        names = list(names)
        await self._working.stop(self._stop_timeout_s, names)
        if self._elections is None or self._lost is not None or not self._controllers_begun:
            return
        for name in names:
            if name in self._working:
                # It does not end: until it has, only its lease's end may let another work.
                self._hanging.add(name)
            else:
                await self._release(name)

    async def _release(self, name: str) -> None:
        assert self._elections is not None
        try:
            async with asyncio.timeout(self._stop_timeout_s):
                await self._elections.release(name)
        except Exception as error:
            log.warning("leadership was not given up", extra={"controller": name, "error": repr(error)})

    def _controller_ended(self, name: str, _: asyncio.Task[None]) -> None:
        """One that was removed, and hung, has ended after all: now another may lead."""
        if name in self._hanging and not self.stopping:
            self._hanging.discard(name)
            self._electing.start(f"release of {name}", self._release(name))

    def _check_open(self, what: str, name: str) -> None:
        if self.stopping:
            raise RuntimeError(f"manager {self._manager.name} has stopped: {what} {name} comes too late")

    def _service_failed(self, name: str, error: Exception) -> None:
        self._failed(f"service {name.removesuffix(' starting')}", error)

    def _controller_failed(self, name: str, error: Exception) -> None:
        self._failed(f"controller {name}", error)

    def _election_failed(self, _: str, error: Exception) -> None:
        self._lost = error
        for controller in self.controllers:
            controller.stop_intake(CancelReason.LEADERSHIP_LOST)
        log.error("leader election ended, and so does the manager", extra={"error": str(error)})
        self._ended.set()

    def _failed(self, what: str, error: Exception) -> None:
        if self.stopping:
            log.error("failed while the manager stopped", extra={"what": what}, exc_info=error)
            return
        error.add_note(f"in {what} of manager {self._manager.name}")
        log.error("failed, so the manager stops", extra={"what": what, "error": str(error)})
        self._failures.append((what, error))
        self._ended.set()


def _check_ended(what: str, name: str, group: Group) -> None:
    if name in group:
        raise RuntimeError(f"{what} {name} was removed, but has not ended yet: await remove(), or add it later")
