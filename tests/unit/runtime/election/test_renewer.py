"""ThreadRenewer: leases are renewed while the event loop is blocked, and nothing of it outlives its end."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from typing import Any

import pytest

from kaito.client import Config, LeadershipLost, Request
from kaito.kube.core_v1 import ConfigMap
from kaito.runtime import DONE, Controller, LeaderElection, Manager, Result
from kaito.testing import eventually
from kaito.testing.fake_api import FakeApi, FakeApiServer, Fault, Hang

LEASE = "/apis/coordination.k8s.io/v1/namespaces/default/leases/tests-configmap"
MAPS = "/api/v1/namespaces/default/configmaps"


class ServerThread:
    """A FakeApi served from a thread of its own, which a blocked test does not hold up."""

    def __init__(self) -> None:
        self.api = FakeApi()
        self.host = ""
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=lambda: self._loop.run_until_complete(self._serve()), daemon=True)

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        async with FakeApiServer(self.api) as server:
            self.host = server.url
            self._ready.set()
            await self._stop.wait()

    def __enter__(self) -> ServerThread:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._loop.close()

    def call(self, method: str, path: str, body: Any = None, **options: Any) -> Any:
        """Asks the server, in its own thread."""

        async def asked() -> Any:
            return self.api.call(method, path, body, **options)

        return asyncio.run_coroutine_threadsafe(asked(), self._loop).result(5.0)

    def silence(self, agent: str) -> None:
        """A client of this user agent gets no answers any more."""

        def is_from(request: Request) -> bool:
            return request.headers.get("User-Agent") == agent

        async def silenced() -> None:
            self.api.faults.add(Fault(Hang(), times=None, only=is_from))
            self.api.cut_watches()

        asyncio.run_coroutine_threadsafe(silenced(), self._loop).result(5.0)


class Blocking:
    """A reconciler that can block the loop, and then tries to write."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.manager: Manager | None = None
        self.calls = 0
        self.outcome: list[object] = []

    async def reconcile(self, obj: ConfigMap) -> Result:
        assert self.manager is not None
        self.calls += 1
        if self.seconds and not self.outcome:
            _block(self.seconds)
            try:
                self.outcome.append(await self.manager.client.patch(ConfigMap, obj.key, {"data": {"late": "yes"}}))
            except LeadershipLost as error:
                self.outcome.append(error)
        return DONE


def _block(seconds: float) -> None:
    """In Python, as a loop without end would; not in C, where no other thread might run."""
    ends_at = time.monotonic() + seconds
    while time.monotonic() < ends_at:
        pass


def manager(server: ServerThread, reconciler: Blocking) -> Manager:
    election = LeaderElection(
        namespace="default",
        identity="me",
        lease_duration_s=1.2,
        renew_deadline_s=0.6,
        retry_period_s=0.1,
        trusts_absence=True,
    )
    made = Manager(
        "tests",
        Config(server.host),
        metrics="0",
        health="0",
        rng=random.Random(1),
        leader_election=election,
        check_permissions=False,
    )
    made.add(Controller(ConfigMap, reconciler))
    reconciler.manager = made
    return made


async def test_a_loop_blocked_for_longer_than_the_lease_loses_nothing_while_the_renewer_has_its_turns() -> None:
    with ServerThread() as server:
        server.call("POST", MAPS, {"metadata": {"name": "a"}})
        reconciler = Blocking(1.5)
        running = asyncio.create_task(manager(server, reconciler).run())
        await eventually(lambda: reconciler.outcome, timeout_s=10.0)
        assert isinstance(reconciler.outcome[0], ConfigMap)
        assert reconciler.manager is not None
        reconciler.manager.stop()
        await running
        assert server.call("GET", LEASE)["spec"]["holderIdentity"] == ""
    assert "tests lease renewer" not in {thread.name for thread in threading.enumerate()}


async def test_t63_a_loop_that_was_blocked_while_its_lease_ran_out_writes_nothing_when_it_goes_on() -> None:
    with ServerThread() as server:
        server.call("POST", MAPS, {"metadata": {"name": "a"}})
        reconciler = Blocking()
        running = asyncio.create_task(manager(server, reconciler).run())
        await eventually(lambda: reconciler.calls, timeout_s=10.0)
        reconciler.seconds = 1.0
        server.silence("tests/leader-election")
        server.call("POST", MAPS, {"metadata": {"name": "b"}})
        with pytest.raises(LeadershipLost, match=r"was not renewed within 0\.6 s \(timed out\)"):
            await running
        assert isinstance(reconciler.outcome[0], LeadershipLost)
        assert all("data" not in server.call("GET", f"{MAPS}/{name}") for name in ("a", "b"))
