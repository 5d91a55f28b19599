"""Manager: the order in which all starts and stops, what is left behind by each way of ending, and its probes."""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
import threading
from contextlib import suppress
from datetime import timedelta

import aiohttp
import pytest

from kaito.client import Config, Request, Response, ResponseStream, Transport
from kaito.kube.core_v1 import ConfigMap, Secret
from kaito.runtime import DONE, Controller, Manager, Result
from kaito.runtime.servers import parse_address
from kaito.testing import eventually, virtual_clock
from kaito.testing.fake_api import FakeApi, Fault, Refuse
from tests.unit.runtime.managers import Slow, assert_nothing_left, manager, put


def test_stopping_waits_for_the_reconcile_in_progress_and_takes_no_new_work() -> None:
    async def main() -> None:
        api, reconciler = FakeApi(), Slow(5.0)
        it = manager(api, reconciler)
        task = asyncio.create_task(it.run())
        put(api, "a", "b")
        await asyncio.sleep(1.0)
        it.stop()
        put(api, "c")
        began = asyncio.get_running_loop().time()
        await task
        assert (reconciler.begun, reconciler.ended, reconciler.cancelled) == (1, 1, 0)
        assert asyncio.get_running_loop().time() - began < 5.0
        assert_nothing_left()

    virtual_clock.run(main())


def test_a_reconcile_that_outlasts_the_grace_is_cancelled() -> None:
    async def main() -> None:
        api, reconciler = FakeApi(), Slow(1000.0)
        it = manager(api, reconciler, grace_s=3.0)
        task = asyncio.create_task(it.run())
        put(api, "a")
        await asyncio.sleep(1.0)
        it.stop()
        began = asyncio.get_running_loop().time()
        await task
        assert asyncio.get_running_loop().time() - began == pytest.approx(3.0, abs=0.1)
        assert (reconciler.ended, reconciler.cancelled) == (0, 1)
        assert_nothing_left()

    virtual_clock.run(main())


def test_the_reconcile_in_progress_still_has_its_cache_and_its_client_while_it_ends() -> None:
    class Reading:
        def __init__(self) -> None:
            self.it: Manager | None = None
            self.found: list[str] = []

        async def reconcile(self, obj: ConfigMap) -> Result:
            assert self.it is not None
            await asyncio.sleep(2.0)
            await self.it.client.patch(ConfigMap, obj.key, {"data": {"x": "1"}})
            self.found.append((await self.it.client.get(ConfigMap, obj.key)).data["x"])
            return DONE

    async def main() -> None:
        api, reconciler = FakeApi(), Reading()
        it = reconciler.it = manager(api, reconciler)
        task = asyncio.create_task(it.run())
        put(api, "a")
        await asyncio.sleep(1.0)
        it.stop()
        await task
        assert reconciler.found == ["1"]

    virtual_clock.run(main())


def test_cancelling_ends_everything_without_grace() -> None:
    async def main() -> None:
        api, reconciler = FakeApi(), Slow(1000.0)
        it = manager(api, reconciler)
        task = asyncio.create_task(it.run())
        put(api, "a")
        await asyncio.sleep(1.0)
        task.cancel()
        await asyncio.wait([task], timeout=0.5)
        assert task.cancelled()
        assert reconciler.cancelled == 1
        assert all(watch.ended for watch in api._watches)
        assert_nothing_left()

    virtual_clock.run(main())


def test_cancelling_while_it_stops_cuts_the_grace_short() -> None:
    async def main() -> None:
        api, reconciler = FakeApi(), Slow(1000.0)
        it = manager(api, reconciler, grace_s=500.0)
        task = asyncio.create_task(it.run())
        put(api, "a")
        await asyncio.sleep(1.0)
        it.stop()
        await asyncio.sleep(1.0)
        task.cancel()
        await asyncio.wait([task], timeout=0.5)
        assert task.cancelled()
        assert_nothing_left()

    virtual_clock.run(main())


def test_stopping_before_anything_is_synced_ends_at_once() -> None:
    async def main() -> None:
        api = FakeApi()
        api.faults.add(Fault(Refuse(503), verb="watch", times=None))
        it = manager(api, Slow())
        task = asyncio.create_task(it.run())
        await asyncio.sleep(30.0)
        it.stop()
        await asyncio.wait_for(task, 0.5)
        assert_nothing_left()

    virtual_clock.run(main())


def test_stopping_twice_or_before_the_start_is_harmless() -> None:
    async def main() -> None:
        it = manager(FakeApi(), Slow())
        it.stop()
        it.stop()
        await asyncio.wait_for(it.run(), 5.0)
        with pytest.raises(RuntimeError, match="runs once"):
            await it.run()
        assert_nothing_left()

    virtual_clock.run(main())


def test_runnables_run_beside_controllers_and_end_with_them() -> None:
    class Ticking:
        def __init__(self) -> None:
            self.ticks = 0

        async def run(self) -> None:
            while True:
                await asyncio.sleep(1.0)
                self.ticks += 1

    async def main() -> None:
        ticking = Ticking()
        it = manager(FakeApi(), Slow())
        it.add(ticking)
        task = asyncio.create_task(it.run())
        await asyncio.sleep(5.5)
        it.stop()
        await task
        assert ticking.ticks == 5
        assert_nothing_left()

    virtual_clock.run(main())


def test_a_runnable_that_fails_ends_the_manager_with_its_error_and_leaves_nothing() -> None:
    class Failing:
        async def run(self) -> None:
            await asyncio.sleep(1.0)
            raise RuntimeError("on purpose")

    async def main() -> None:
        api, reconciler = FakeApi(), Slow(1000.0)
        it = manager(api, reconciler)
        it.add(Failing())
        put(api, "a")
        with pytest.raises(ExceptionGroup) as raised:
            await it.run()
        assert raised.value.subgroup(lambda error: str(error) == "on purpose") is not None
        assert reconciler.cancelled == 1
        assert_nothing_left()

    virtual_clock.run(main())


def test_kinds_that_are_not_declared_are_read_live_and_the_api_reader_always_is() -> None:
    async def main() -> None:
        api = FakeApi()
        put(api, "a")
        api.call("POST", "/api/v1/namespaces/default/secrets", {"metadata": {"name": "s"}})
        it = manager(api, Slow())
        task = asyncio.create_task(it.run())
        await asyncio.sleep(1.0)
        api.log.clear()
        (obj,) = await it.client.list(ConfigMap)
        await it.client.get(ConfigMap, obj.key)
        assert list(api.log) == []
        await it.client.get(Secret, obj.key._replace(name="s"))
        await it.api_reader.get(ConfigMap, obj.key)
        assert [entry.verb for entry in api.log] == ["get", "get"]
        it.stop()
        await task

    virtual_clock.run(main())


def test_two_managers_over_one_object_converge_without_a_write_too_many() -> None:
    class Stamping:
        def __init__(self, it: Manager) -> None:
            self.it = it

        async def reconcile(self, obj: ConfigMap) -> Result:
            if "stamp" not in obj.data:
                version = {"resourceVersion": obj.metadata.resource_version}
                await self.it.client.patch(ConfigMap, obj.key, {"metadata": version, "data": {"stamp": self.it.name}})
            return Result(requeue_after=timedelta(seconds=10))

    async def main() -> None:
        api = FakeApi()
        both = [manager(api) for _ in range(2)]
        for it in both:
            it.add(Controller(ConfigMap, Stamping(it)))
        tasks = [asyncio.create_task(it.run()) for it in both]
        await asyncio.sleep(1.0)
        put(api, *(f"m{number}" for number in range(20)))
        await asyncio.sleep(60.0)
        assert sum(entry.verb == "patch" and entry.status == 200 for entry in api.log) == 20
        for it in both:
            it.stop()
        await asyncio.gather(*tasks)

    virtual_clock.run(main())


# On sockets.


async def probe(it: Manager, path: str) -> tuple[int, str]:
    url = f"http://127.0.0.1:{it.addresses['health'].port}{path}"
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return response.status, await response.text()


async def test_probes_are_answered_before_the_caches_are_in_and_while_it_stops() -> None:
    api, reconciler = FakeApi(latency_s=(0.0, 0.0)), Slow(0.3)
    refusal = api.faults.add(Fault(Refuse(403, "Forbidden", "no rights"), verb="watch", times=1))
    it = manager(api, reconciler, health="127.0.0.1:0", metrics="127.0.0.1:0")
    it.add_readyz("license", lambda: None)
    task = asyncio.create_task(it.run())
    await eventually(lambda: refusal.seen == 1 and it.cache.informer(ConfigMap).state.error)
    status, text = await probe(it, "/readyz")
    assert status == 503
    assert "[+]shutdown ok\n[-]informer/ConfigMap failed: watch broken: " in text
    assert "[-]controller/configmap failed: waits for its caches" in text
    assert "no rights" in text
    assert "[+]license ok" in text
    assert await probe(it, "/healthz") == (200, "ok")
    await it.cache.wait_synced()
    assert await probe(it, "/readyz") == (200, "ok")
    put(api, "a")
    await eventually(lambda: reconciler.begun == 1)
    it.stop()
    status, text = await probe(it, "/readyz")
    assert status == 503
    assert "[-]shutdown failed: the manager is stopping" in text
    await task
    assert reconciler.ended == 1
    with pytest.raises((aiohttp.ClientError, KeyError)):
        await probe(it, "/healthz")


async def test_metrics_have_controller_runtimes_names() -> None:
    api = FakeApi(latency_s=(0.0, 0.0))
    put(api, "a")
    it = manager(api, Slow(), metrics="127.0.0.1:0")
    task = asyncio.create_task(it.run())
    await it.cache.wait_synced()
    url = f"http://127.0.0.1:{it.addresses['metrics'].port}/metrics"
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        text = await response.text()
    for line in (
        'controller_runtime_reconcile_total{controller="configmap",result="error"} 0.0',
        'controller_runtime_max_concurrent_reconciles{controller="configmap"} 1.0',
        'workqueue_depth{controller="configmap",name="configmap",priority="0"}',
        'controller_informer_synced{kind="ConfigMap"} 1.0',
        "process_cpu_seconds_total",
    ):
        assert line in text, line
    it.stop()
    await task


@pytest.mark.parametrize("which", ["metrics", "health"])
async def test_a_server_address_that_is_taken_is_a_clear_error_and_leaves_nothing(which: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        addresses = {"metrics": "127.0.0.1:0", "health": "127.0.0.1:0", which: f"127.0.0.1:{port}"}
        api = FakeApi()
        it = manager(api, Slow(), **addresses)
        with pytest.raises(OSError, match=f"{which} server: cannot listen on 127.0.0.1:{port}: Address already in use"):
            await it.run()
        assert it.addresses == {}
        assert api.log == []
    gc.collect()


async def test_a_manager_that_is_never_run_holds_nothing() -> None:
    threads, tasks = threading.enumerate(), asyncio.all_tasks()
    it = Manager("tests", Config("http://127.0.0.1:1"), metrics=":8080", health=":8081")
    assert (threading.enumerate(), asyncio.all_tasks(), it.addresses) == (threads, tasks, {})
    del it
    gc.collect()  # a socket that it left open would warn, and so fail


def test_what_cannot_work_is_refused_when_it_is_made() -> None:
    with pytest.raises(ValueError, match="give a config or a transport"):
        Manager("tests", None)
    with pytest.raises(ValueError, match="address 'here': expected HOST:PORT"):
        Manager("tests", Config("http://h"), metrics="here")
    with pytest.raises(ValueError, match="name is ''; give a short one"):
        Manager("", Config("http://h"))
    with pytest.raises(TypeError, match=r"config is 'a path'; give a Config, such as load_config\(\) finds"):
        Manager("tests", "a path")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="leader_election is 'yes'; give True, False or a LeaderElection"):
        Manager("tests", Config("http://h"), leader_election="yes")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"cannot add .*object.*; give a Controller, or an object with run\(\)"):
        Manager("tests", Config("http://h")).add(object())  # type: ignore[arg-type]


def test_addresses_of_ipv6_are_written_as_they_are_given() -> None:
    assert [str(parse_address(text)) for text in ("[::1]:80", "[::]:80", "h:80", ":80")] == [
        "[::1]:80",
        "[::]:80",
        "h:80",
        ":80",
    ]


def test_a_server_that_is_away_at_the_start_is_waited_for_and_said_so(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        api, reconciler = FakeApi(), Slow()
        put(api, "a")
        api.faults.add(Fault(Refuse(503, "ServiceUnavailable", "etcd is away"), verb="watch", times=4))
        it = manager(api, reconciler)
        task = asyncio.create_task(it.run())
        await asyncio.sleep(2.0)
        fault = it.servers.ready.fault("informer/ConfigMap")
        assert fault is not None
        assert "etcd is away" in fault
        await asyncio.sleep(60.0)
        assert it.servers.ready.fault("informer/ConfigMap") is None
        assert reconciler.ended == 1
        it.stop()
        await task

    with caplog.at_level(logging.INFO):
        virtual_clock.run(main())
    failed = [record for record in caplog.records if record.getMessage() == "watch failed, trying again"]
    assert [getattr(record, "failures", 0) for record in failed] == [1, 2, 3, 4]
    assert [record.levelname for record in failed] == ["WARNING", "WARNING", "INFO", "WARNING"]


class Counted:
    """A transport that counts how often it is closed."""

    def __init__(self, inner: Transport) -> None:
        self._inner = inner
        self.closed = 0

    async def send(self, request: Request) -> Response:
        return await self._inner.send(request)

    async def stream(self, request: Request) -> ResponseStream:
        return await self._inner.stream(request)

    async def aclose(self) -> None:
        self.closed += 1
        await self._inner.aclose()


@pytest.mark.parametrize("fails", [False, True])
def test_the_transport_is_closed_at_the_end_whatever_the_end_is(fails: bool) -> None:
    class Failing:
        async def run(self) -> None:
            raise RuntimeError("on purpose")

    async def main() -> None:
        transport = Counted(FakeApi().transport())
        it = Manager("tests", None, transport=transport, metrics="0", health="0")
        if fails:
            it.add(Failing())
        else:
            it.stop()
        with suppress(ExceptionGroup):
            await it.run()
        assert transport.closed == 1

    virtual_clock.run(main())
