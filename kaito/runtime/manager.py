"""Manager: what controllers share, and the order in which all of it starts and stops."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector

from kaito.client.client import Client
from kaito.client.config import Config
from kaito.client.middleware import Middleware, usual_middleware
from kaito.client.observed import ObservedTransport
from kaito.client.transport import AiohttpTransport, Transport
from kaito.informers.cache import Cache
from kaito.informers.floors import WriteFloors
from kaito.informers.options import InformerOptions
from kaito.kube.resource import Resource
from kaito.runtime import checks
from kaito.runtime.controller import Controller
from kaito.runtime.election import LeaderElection, elections_of, fence_writes
from kaito.runtime.elections import Elections
from kaito.runtime.events import EventRecorder
from kaito.runtime.health import Check
from kaito.runtime.hot_loop import note_writes
from kaito.runtime.life import GRACE_S, START_TIMEOUT_S, STOP_TIMEOUT_S, Life
from kaito.runtime.metrics import RuntimeMetrics
from kaito.runtime.preflight import Preflight
from kaito.runtime.rbac import needs_of
from kaito.runtime.servers import Address, Servers, parse_address
from kaito.runtime.service import Runnable, Service, Stage
from kaito.runtime.watchdog import BLOCKED_AFTER_S, Watchdog, WatchdogMetrics

if TYPE_CHECKING:
    from kaito.runtime.secure_metrics import SecureMetrics

R = TypeVar("R", bound=Resource)

log = logging.getLogger(__name__)


class Manager:
    """Runs controllers and services in one event loop, over one cache.

    Order of start: servers (so that probes are answered), then services stage by stage (webhooks, caches, others), each
    stage once the one before has started; then controllers, each as soon as its own caches are synced and, with leader
    election, it is elected. Of stop: readiness goes first; controllers take in nothing more, get `grace_s` to end what
    they do, and are cancelled; their leaderships are given up; then the stages go, last first; then the servers. What
    does not end in time is logged by name and left behind.

    Args:
        name: user agent and field owner.
        config: which API server, and as whom; None with a `transport` of one's own.
        metrics: address of /metrics, such as ``:8080``; ``0`` for none.
        health: address of /healthz and /readyz, such as ``:8081``; ``0`` for none.
        secure_metrics: serves /metrics by TLS, to tokens of the cluster that may ``get`` it; see `SecureMetrics`.
        metrics_certificates: directory with ``tls.crt`` and ``tls.key`` for that; None: a self-signed certificate.
        transport: instead of the one that `config` gives.
        middleware: more of it, around every call.
        cache: which objects are cached of kinds that nobody declares otherwise (`Cache.informer` with options of its
            own, before the controller is added): ``InformerOptions(namespaces=…)`` for a manager of some namespaces.
        leader_election: which controllers work here. True, or `LeaderElection(…)`: each whose Lease this process holds;
            False: all; or who else decides.
        check_permissions: ask at the start whether all that is declared is allowed, see `Preflight`.
        rng: source of every random choice (jitter, ids); give a seeded one to replay a run.
        now: wall clock, for the times of events.
        grace_s: seconds that reconciles in progress have to end at a stop.
        start_timeout_s: seconds that a stage may hold up those after it.
        stop_timeout_s: seconds that controllers, and each stage, have to end once they are cancelled.
        stuck_s: seconds after which a key that is worked on is stuck, which /readyz tells; default 600, and for a
            controller with a longer `reconcile_timeout` that and a minute.
        blocked_after_s: seconds without a turn after which the event loop is blocked, which the log and probes tell.
        debug: serves /debug/queues, which names objects, beside the probes.
        read_wait_s: how long cached reads wait for own writes.

    Attributes:
        client: reads declared kinds from the cache, and all else live.
        api_reader: the same client, reading everything from the API server.
        events: tells people what was done; see `EventRecorder.event`.
        permissions: knows which permissions are missing.
        crd_remedy: how the definition of a kind that the cluster lacks is brought there, in words; may be set.

    Raises:
        ValueError: an address is malformed, there is no name, or neither config nor transport was given.
        TypeError: config or leader_election is something else.
    """

    def __init__(
        self,
        name: str,
        config: Config | None,
        *,
        metrics: str = ":8080",
        health: str = ":8081",
        secure_metrics: bool = False,
        metrics_certificates: str | Path | None = None,
        transport: Transport | None = None,
        middleware: Sequence[Middleware] = (),
        cache: InformerOptions = InformerOptions(),
        leader_election: bool | LeaderElection | Elections = False,
        check_permissions: bool = True,
        rng: random.Random | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        grace_s: float = GRACE_S,
        start_timeout_s: float = START_TIMEOUT_S,
        stop_timeout_s: float = STOP_TIMEOUT_S,
        stuck_s: float | None = None,
        blocked_after_s: float = BLOCKED_AFTER_S,
        debug: bool = False,
        read_wait_s: float = 2.0,
    ) -> None:
        self.name = _checked(name, config, leader_election)
        self.crd_remedy = "apply its CustomResourceDefinition, and it is found by itself"
        self.rng = rng or random.Random()
        self.registry = CollectorRegistry()
        self.metrics = RuntimeMetrics(self.registry)
        self._connect(config, transport, middleware, cache, read_wait_s)
        self.events = EventRecorder(self.api_reader, self.name, registry=self.registry, now=now, rng=self.rng)
        self.elections = elections_of(
            leader_election,
            name,
            self.cache,
            config,
            transport,
            registry=self.registry,
            events=self.events,
            rng=self.rng,
        )
        security = _security(self.api_reader, metrics_certificates) if secure_metrics else None
        watchdog = Watchdog(WatchdogMetrics(self.registry), blocked_after_s=blocked_after_s)
        where = (parse_address(metrics), parse_address(health))
        shown = self._debug if debug else None
        self.servers = Servers(self.registry, watchdog, *where, security=security, debug=shown)
        self._life = Life(self, self.elections, grace_s, start_timeout_s, stop_timeout_s)
        self._add_services(check_permissions, security)
        self._stuck_s = stuck_s
        self._add_checks()

    def _connect(
        self,
        config: Config | None,
        transport: Transport | None,
        middleware: Sequence[Middleware],
        options: InformerOptions,
        read_wait_s: float,
    ) -> None:
        """Makes the clients and the cache, over one transport."""
        self._transport = _observed(transport, config, self.name, self.registry)
        floors = WriteFloors()
        outer = [note_writes, *middleware]
        usual = usual_middleware(outer=outer, inner=[floors, fence_writes], rng=self.rng, registry=self.registry)
        self.api_reader = Client(self._transport, field_owner=self.name, middleware=usual)
        self.cache = Cache(
            self.api_reader, floors, options=options, registry=self.registry, rng=self.rng, read_wait_s=read_wait_s
        )
        self.client = Client(self._transport, field_owner=self.name, middleware=usual, reader=self.cache)

    @property
    def controllers(self) -> tuple[Controller[Resource], ...]:
        """What was added, and not removed since."""
        return self._life.controllers

    @property
    def services(self) -> tuple[Service, ...]:
        """The services that say more of themselves than that they run: what they need, and why they are not ready."""
        return self._life.services

    def add(self, item: Controller[R] | Runnable) -> None:
        """Adds a controller, a `Service`, or anything with ``run()``. While the manager runs, it is started at once.

        Raises:
            TypeError: it has no ``run()``.
            ValueError: a controller, or a service, of that name is there already.
            RuntimeError: the manager is stopping, or has stopped; or what was removed under that name goes on.
        """
        if isinstance(item, type) or not hasattr(item, "run"):
            raise TypeError(f"manager {self.name}: cannot add {item!r}; give a Controller, or an object with run()")
        if isinstance(item, Controller):
            self._life.add_controller(item)  # type: ignore[arg-type]
        elif isinstance(item, Service):
            self._life.add_service(item.name, item, item.stage)
        else:
            self._life.add_service(self._life.free_name(type(item).__name__), item, Stage.OTHERS)

    async def remove(self, name: str) -> None:
        """Stops a controller, or else a service, and forgets it; it (or another of its name) can be added again.

        A controller takes in nothing more at once, has the grace to end what it does, is cancelled, and gives up its
        leadership. Its informers stay; `Cache.remove_informer` stops one. Cancelled, it is stopped without grace.

        Raises:
            ValueError: there is none of that name.
        """
        await self._life.remove(name)

    def add_readyz(self, name: str, check: Check) -> None:
        """Adds a named readiness check."""
        self.servers.ready.add(name, check)

    def add_healthz(self, name: str, check: Check) -> None:
        """Adds a named check of /healthz: one that a restart may mend."""
        self.servers.live.add(name, check)

    def stop(self) -> None:
        """Asks `run` to stop in order and return. For the thread of the loop; before `run`, it returns at once."""
        self._life.stop()

    async def run(self) -> None:
        """Runs until `stop`, or until something that cannot fail does. Cancellation stops without grace.

        Signals are left alone; `run_until_signal` is for programs.

        Raises:
            RuntimeError: it ran before.
            CannotListen: an address for a server is taken.
            ExceptionGroup: services or controllers failed; it, and notes on the errors in it, name them.
            LeadershipLost: another may lead now, so the process must end.
        """
        self._life.claim()
        self._add_process_metrics()
        try:
            self.servers.start()
            log.info("manager started", extra={"manager": self.name, **self._bound()})
            await self._life.run()
        finally:
            try:
                await self.servers.stop()
            finally:
                await self._transport.aclose()
            log.info("manager stopped", extra={"manager": self.name})

    def _add_services(self, check_permissions: bool, security: SecureMetrics | None) -> None:
        self.permissions = Preflight(self.api_reader, partial(needs_of, self), rng=self.rng)
        self._life.add_service("cache", self.cache, Stage.CACHES)
        self.add(self.events)
        for service in (self.permissions if check_permissions else None, security):
            if service is not None:
                self.add(service)

    def _add_checks(self) -> None:
        live, ready = self.servers.live, self.servers.ready
        live.add("ping", lambda: None)
        ready.add("shutdown", lambda: "the manager is stopping" if self._life.stopping else None)
        ready.add_source(lambda: checks.informer_checks(self.cache.informers(), self.controllers, self.crd_remedy))
        ready.add_source(lambda: checks.controller_checks(self.controllers, self.cache.informers(), self._stuck_s))
        ready.add_source(lambda: checks.service_checks(self._life))
        ready.add_source(lambda: checks.election_checks(self.elections))

    def _debug(self) -> Mapping[str, object]:
        queues = checks.queues(self.controllers, self._stuck_s)
        return {
            "manager": self.name,
            "controllers": queues,
            "caches": checks.caches(self.cache.informers(), self.crd_remedy),
        }

    def _add_process_metrics(self) -> None:
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self.registry)

    def _bound(self) -> dict[str, str]:
        return {what: str(address) for what, address in self.servers.bound.items()}

    @property
    def addresses(self) -> dict[str, Address]:
        """Where ``metrics`` and ``health`` really listen, once it runs."""
        return self.servers.bound


def _checked(name: str, config: object, leader_election: object) -> str:
    """The name, unless an argument is none."""
    if not isinstance(name, str) or not name:
        raise ValueError(f"Manager: name is {name!r}; give a short one, such as 'widgets'")
    if config is not None and not isinstance(config, Config):
        raise TypeError(f"Manager {name}: config is {config!r}; give a Config, such as load_config() finds")
    if not isinstance(leader_election, bool | LeaderElection) and not hasattr(leader_election, "gate"):
        raise TypeError(f"Manager {name}: leader_election is {leader_election!r}; give True, False or a LeaderElection")
    return name


def _observed(
    transport: Transport | None, config: Config | None, name: str, registry: CollectorRegistry
) -> ObservedTransport:
    if transport is None:
        if config is None:
            raise ValueError("Manager: give a config or a transport")
        transport = AiohttpTransport(config, user_agent=name)
    return ObservedTransport(transport, registry=registry, host=config.host if config else "")


def _security(client: Client, certificates: str | Path | None) -> SecureMetrics:
    # Certificates need a library of some megabytes, which most managers do without.
    from kaito.runtime.secure_metrics import SecureMetrics

    return SecureMetrics(client, certificates)
