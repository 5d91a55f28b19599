"""Manager: what controllers share, and the order in which all of it starts and stops."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Sequence
from typing import TypeVar

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector

from kaito.client.client import Client
from kaito.client.config import Config
from kaito.client.middleware import Middleware, usual_middleware
from kaito.client.observed import ObservedTransport
from kaito.client.transport import AiohttpTransport, Transport
from kaito.informers.cache import Cache
from kaito.informers.floors import WriteFloors
from kaito.informers.informer import Informer
from kaito.informers.options import InformerOptions
from kaito.kube.resource import Resource
from kaito.runtime.controller import Controller
from kaito.runtime.metrics import RuntimeMetrics
from kaito.runtime.servers import Address, Check, LoopLag, Servers, parse_address
from kaito.runtime.service import Runnable

R = TypeVar("R", bound=Resource)

log = logging.getLogger(__name__)

GRACE_S = 10.0


class Manager:
    """Runs controllers in one event loop, over one cache.

    Order of start: servers (so that probes are answered), caches, then controllers and runnables, each controller as
    soon as its own caches are synced. Of stop: readiness goes first, then controllers get `grace_s` to end what they
    do and are cancelled, then caches, then servers.

    Args:
        name: user agent and field owner.
        config: which API server, and as whom; None with a `transport` of one's own.
        metrics: address of /metrics, such as ``:8080``; ``0`` for none.
        health: address of /healthz and /readyz, such as ``:8081``; ``0`` for none.
        transport: instead of the one that `config` gives.
        middleware: more of it, around every call.
        cache: which objects are cached of kinds that nobody declares otherwise (`Cache.informer` with options of its
            own, before the controller is added): ``InformerOptions(namespaces=…)`` for a manager of some namespaces.
        rng: source of every random choice (jitter, ids); give a seeded one to replay a run.
        grace_s: seconds that reconciles in progress have to end at a stop.
        read_wait_s: how long cached reads wait for own writes.

    Raises:
        ValueError: an address is malformed, or neither config nor transport was given.
    """

    def __init__(
        self,
        name: str,
        config: Config | None,
        *,
        metrics: str = ":8080",
        health: str = ":8081",
        transport: Transport | None = None,
        middleware: Sequence[Middleware] = (),
        cache: InformerOptions = InformerOptions(),  # noqa: B008 - frozen
        rng: random.Random | None = None,
        grace_s: float = GRACE_S,
        read_wait_s: float = 2.0,
    ) -> None:
        self.name = name
        self.rng = rng or random.Random()
        self.registry = CollectorRegistry()
        self.metrics = RuntimeMetrics(self.registry)
        self.servers = Servers(self.registry, parse_address(metrics), parse_address(health))
        if transport is None:
            if config is None:
                raise ValueError("Manager: give a config or a transport")
            transport = AiohttpTransport(config, user_agent=name)
        transport = ObservedTransport(transport, registry=self.registry, host=config.host if config else "")
        floors = WriteFloors()
        usual = usual_middleware(outer=middleware, inner=[floors], rng=self.rng, registry=self.registry)
        self.api_reader = Client(transport, field_owner=name, middleware=usual)
        self.cache = Cache(
            self.api_reader, floors, options=cache, registry=self.registry, rng=self.rng, read_wait_s=read_wait_s
        )
        self.client = Client(transport, field_owner=name, middleware=usual, reader=self.cache)
        self._transport = transport
        self._controllers: list[Controller[Resource]] = []
        self._runnables: list[Runnable] = []
        self._grace_s = grace_s
        self._stopping = asyncio.Event()
        self._ran = False
        self._lag = LoopLag()
        self._add_checks()

    def add(self, runnable: Controller[R] | Runnable) -> None:
        """Adds a controller or anything with ``run()``; before `run`.

        Raises:
            ValueError: a controller of that name is there already.
        """
        if isinstance(runnable, Controller):
            if any(known.name == runnable.name for known in self._controllers):
                raise ValueError(f"two controllers are named {runnable.name!r}; give one of them a name=")
            runnable.bind(self)
            self._controllers.append(runnable)  # type: ignore[arg-type]
        else:
            self._runnables.append(runnable)

    def add_readyz(self, name: str, check: Check) -> None:
        """Adds a named readiness check."""
        self.servers.ready_checks[name] = check

    def stop(self) -> None:
        """Asks `run` to stop in order and return. Safe from a signal handler of the loop."""
        self._stopping.set()

    async def run(self) -> None:
        """Runs until `stop`, or until something that cannot fail does. Cancellation stops without grace.

        Raises:
            RuntimeError: it ran before.
            CannotListen: an address for a server is taken.
            ExceptionGroup: a runnable or controller failed.
        """
        if self._ran:
            raise RuntimeError("a manager runs once; make another")
        self._ran = True
        self._add_process_metrics()
        try:
            await self.servers.start()
            log.info("manager started", extra={"manager": self.name, **self._bound()})
            await self._run_all()
        finally:
            try:
                await self.servers.stop()
            finally:
                await self._transport.aclose()
            log.info("manager stopped", extra={"manager": self.name})

    async def _run_all(self) -> None:
        async with asyncio.TaskGroup() as background:
            caches = background.create_task(self.cache.run(), name="cache")
            lag = background.create_task(self._lag.run(), name="loop lag")
            try:
                await self._work()
            finally:
                caches.cancel()
                lag.cancel()

    async def _work(self) -> None:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._run_controller(each), name=each.name) for each in self._controllers]
            tasks += [group.create_task(runnable.run(), name=type(runnable).__name__) for runnable in self._runnables]
            await self._stopping.wait()
            await self._drain()
            for task in tasks:
                task.cancel()

    async def _run_controller(self, controller: Controller[Resource]) -> None:
        await controller.run(self)
        if not self._stopping.is_set():
            raise RuntimeError(f"controller {controller.name} ended by itself")

    async def _drain(self) -> None:
        """Takes no new work in, and waits (bounded) until what is being worked on has ended."""
        log.info("manager stopping", extra={"manager": self.name, "grace_s": self._grace_s})
        queues = [controller.queue for controller in self._controllers if controller.running]
        for queue in queues:
            queue.close()
        try:
            async with asyncio.timeout(self._grace_s):
                for queue in queues:
                    await queue.wait_idle()
        except TimeoutError:
            log.warning("reconciles did not end in time and are cancelled", extra={"manager": self.name})

    def _add_checks(self) -> None:
        self.servers.live_checks["ping"] = lambda: None
        self.servers.ready_checks["shutdown"] = lambda: "the manager is stopping" if self._stopping.is_set() else None
        self.servers.ready_checks["informers"] = self._informers_fault
        self.servers.live_checks["loop"] = self._lag_fault

    def _informers_fault(self) -> str | None:
        declared = {kind for controller in self._controllers for kind in controller.kinds}
        needed = {kind for controller in self._controllers for kind in controller.needed_kinds}
        faults = [
            fault
            for informer in self.cache.informers()
            if (fault := _fault(informer)) is not None
            # A kind that the cluster may lack, and does.
            and not (informer.state.dormant and informer.kind in declared - needed)
        ]
        return "; ".join(faults) or None

    def _lag_fault(self) -> str | None:
        return f"the event loop ran {self._lag.last_s:.1f} s late" if self._lag.last_s > 10 else None

    def _add_process_metrics(self) -> None:
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self.registry)

    def _bound(self) -> dict[str, str]:
        return {what: f"{address.host}:{address.port}" for what, address in self.servers.bound.items()}

    @property
    def addresses(self) -> dict[str, Address]:
        """Where ``metrics`` and ``health`` really listen, once it runs."""
        return self.servers.bound


def _fault(informer: Informer[Resource]) -> str | None:
    kind = informer.kind.resource_type.group_kind
    if informer.state.error is not None:
        waits = "waiting for its CRD" if informer.state.dormant else "watch broken"
        return f"{kind}: {waits}: {informer.state.error}"
    return None if informer.synced else f"{kind}: first list not in yet"
