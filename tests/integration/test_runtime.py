"""Controllers, the manager and applying intent against a real API server."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from typing import Any

import aiohttp
import pytest

from kaito.client import Client, Config, Conflict, NotFound, load_config
from kaito.client.middleware import Handler
from kaito.client.transport import Request, Response
from kaito.devcluster.controlplane import ControlPlane
from kaito.informers import Informer
from kaito.kube.apps_v1 import Deployment
from kaito.kube.core_v1 import ConfigMap, Secret, Service
from kaito.kube.frozen import FrozenDict
from kaito.kube.meta_v1 import ObjectMeta
from kaito.kube.object_key import ObjectKey
from kaito.kube.resource import Resource
from kaito.runtime import DONE, Applier, ApplyOutcome, Controller, Manager, NotOurs, Result, Watch, spec_changed
from kaito.testing import eventually

GIBIBYTE = "1024Mi"


class Writes:
    """Middleware that writes down what is written."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    async def __call__(self, request: Request, handler: Handler) -> Response:
        if request.is_write and "accessreviews" not in request.path:
            self.seen.append(request.describe())
        return await handler(request)


class Bench:
    """A manager, as one process would have it, and what it wrote."""

    def __init__(self, config: Config, name: str = "tests") -> None:
        self.writes = Writes()
        self.manager = Manager(
            name, config, metrics="127.0.0.1:0", health="127.0.0.1:0", middleware=[self.writes], grace_s=5.0
        )
        self.applier = Applier(self.manager.client, self.manager.metrics)

    async def probe(self, path: str, server: str = "health") -> tuple[int, str]:
        url = f"http://127.0.0.1:{self.manager.addresses[server].port}{path}"
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            return response.status, await response.text()


@asynccontextmanager
async def running(it: Bench) -> AsyncIterator[Bench]:
    task = asyncio.create_task(it.manager.run())
    try:
        async with asyncio.timeout(30):
            await it.manager.cache.wait_synced()
        yield it
    finally:
        it.manager.stop()
        await task


@pytest.fixture
def config(control_plane: ControlPlane) -> Config:
    return load_config(control_plane.kubeconfig)


def named(namespace: str, name: str = "a", **data: str) -> ConfigMap:
    return ConfigMap(metadata=ObjectMeta(name=name, namespace=namespace), data=FrozenDict(data))


def deployment(namespace: str, **container: Any) -> Deployment:
    labels = {"app": "web"}
    main = {
        "name": "main",
        "image": "i",
        "env": [{"name": "A", "value": "1"}, {"name": "EMPTY", "value": ""}],
        "resources": {"limits": {"memory": GIBIBYTE, "cpu": "1000m"}, "requests": {"cpu": "0.5"}},
        "ports": [{"containerPort": 80}],
        "volumeMounts": [{"name": "v", "mountPath": "/v", "readOnly": False}],
        **container,
    }
    pod = {
        "containers": [main],
        "volumes": [{"name": "v", "emptyDir": {}}],
        "tolerations": [{"key": "sku", "operator": "Equal", "value": "gpu", "effect": "NoSchedule"}],
        "hostNetwork": False,
    }
    return Deployment.model_validate(
        {
            "metadata": {"name": "web", "namespace": namespace, "labels": labels},
            "spec": {
                "replicas": 0,
                "strategy": {"type": "Recreate"},
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": pod},
            },
        }
    )


def service(namespace: str) -> Service:
    ports = [{"name": "http", "port": 80, "targetPort": 5000}, {"name": "torch", "port": 29500}]
    return Service.model_validate(
        {"metadata": {"name": "web", "namespace": namespace}, "spec": {"selector": {"app": "web"}, "ports": ports}}
    )


@asynccontextmanager
async def applying(config: Config) -> AsyncIterator[Bench]:
    it = Bench(config)
    for kind in (Deployment, Service):
        it.manager.cache.informer(kind)
    async with running(it):
        yield it


async def test_applying_an_intent_again_writes_nothing_not_even_after_a_restart(
    config: Config, client: Client, namespace: str
) -> None:
    owner = await client.create(named(namespace, "owner"))
    wanted: list[Callable[[str], Resource]] = [deployment, service]
    async with applying(config) as it:
        for intent in wanted:
            assert (await it.applier.apply(intent(namespace), owner)).outcome is ApplyOutcome.CREATED
        it.writes.seen.clear()
        for intent in wanted:
            assert (await it.applier.apply(intent(namespace), owner)).outcome is ApplyOutcome.UNCHANGED
        assert it.writes.seen == []
    async with applying(config) as again:
        for intent in wanted:
            assert (await again.applier.apply(intent(namespace), owner)).outcome is ApplyOutcome.UNCHANGED
        assert again.writes.seen == []


async def test_drift_is_repaired_once_and_then_there_is_none(config: Config, client: Client, namespace: str) -> None:
    owner = await client.create(named(namespace, "owner"))
    key = ObjectKey("web", namespace)
    drifts: list[dict[str, Any]] = [
        {"spec": {"replicas": 3}},
        {"spec": {"template": {"spec": {"containers": [{"name": "main", "image": "other"}]}}}},
        {"spec": {"template": {"spec": {"containers": [{"name": "main", "env": [{"name": "X", "value": "9"}]}]}}}},
        {"spec": {"template": {"spec": {"containers": [{"name": "sidecar", "image": "j"}]}}}},
        {"spec": {"template": {"spec": {"containers": [{"name": "main", "resources": {"limits": {"x.y/z": "1"}}}]}}}},
    ]
    async with applying(config) as it:
        await it.applier.apply(deployment(namespace), owner)
        clean = (await client.get(Deployment, key)).to_dict()["spec"]
        informer = it.manager.cache.informer(Deployment)
        for drift in drifts:
            drifted = int((await client.patch(Deployment, key, drift, type="strategic")).metadata.resource_version)
            await informer.wait_until(partial(reached, informer, drifted))
            assert await settled(it, deployment(namespace), owner) == ApplyOutcome.UPDATED, drift
            assert (await client.get(Deployment, key)).to_dict()["spec"] == clean
            it.writes.seen.clear()
            assert await settled(it, deployment(namespace), owner) == ApplyOutcome.UNCHANGED
            assert it.writes.seen == []


def reached(informer: Informer[Deployment], version: int) -> bool:
    return informer.store.resource_version >= version


async def settled(it: Bench, wanted: Deployment, owner: ConfigMap) -> ApplyOutcome:
    """Applies, and again after a conflict, as a reconciler does: the Deployment's own controller writes, too."""

    async def outcome() -> ApplyOutcome:
        return (await it.applier.apply(wanted, owner)).outcome

    return await eventually(outcome, retry_on=(Conflict,))


async def test_an_object_of_another_is_refused_and_not_touched(config: Config, client: Client, namespace: str) -> None:
    owner = await client.create(named(namespace, "owner"))
    foreign = await client.create(deployment(namespace))
    async with applying(config) as it:
        with pytest.raises(NotOurs, match=f"Deployment {namespace}/web exists and has no controlling owner"):
            await it.applier.apply(deployment(namespace), owner)
        assert it.writes.seen == []
    now = await client.get(Deployment, foreign.key)
    assert now.metadata.owner_references == ()
    assert now.metadata.uid == foreign.metadata.uid


class Mirror:
    """Gives each ConfigMap of a namespace a Secret of its name, with a text from a shared ConfigMap."""

    def __init__(self, it: Bench, namespace: str) -> None:
        self.it = it
        self.namespace = namespace
        self.active: set[str] = set()
        self.runs: list[str] = []

    async def reconcile(self, obj: ConfigMap) -> Result:
        if obj.metadata.namespace != self.namespace or "mirror" not in obj.data or obj.metadata.deletion_timestamp:
            return DONE
        name = obj.metadata.name
        assert name not in self.active
        self.active.add(name)
        self.runs.append(name)
        try:
            if obj.data["mirror"] == "fail" and self.runs.count(name) < 4:
                raise RuntimeError("on purpose")
            text = obj.data["mirror"]
            if source := obj.data.get("source"):
                text = (await self.it.manager.client.get(ConfigMap, ObjectKey(source, self.namespace))).data["text"]
            wanted = Secret(
                metadata=ObjectMeta(name=name, namespace=self.namespace),
                data=FrozenDict(text=text),
            )
            await self.it.applier.apply(wanted, obj)
        finally:
            self.active.discard(name)
        return Result(requeue_after=timedelta(seconds=0.2)) if obj.data["mirror"] == "tick" else DONE


def mirroring(config: Config, namespace: str, name: str = "tests") -> tuple[Bench, Mirror]:
    it = Bench(config, name)
    mirror = Mirror(it, namespace)
    # ConfigMap is a stand-in for a source of another kind: a watch may be of the controller's own kind, too.
    sources = Watch(ConfigMap, references=lambda obj: obj.data.get("source"))
    it.manager.add(Controller(ConfigMap, mirror, owns=[Secret], watches=[sources], concurrency=4))
    return it, mirror


async def test_owned_objects_are_made_mended_and_made_again(config: Config, client: Client, namespace: str) -> None:
    it, mirror = mirroring(config, namespace)
    key = ObjectKey("a", namespace)

    async def has(text: str) -> bool:
        return (await client.get(Secret, key)).data["text"] == text

    async with running(it):
        made = await client.create(named(namespace, mirror="aaaa"))
        await eventually(lambda: has("aaaa"), retry_on=(NotFound,))
        await client.patch(Secret, key, {"data": {"text": "bbbb"}})
        await eventually(lambda: has("aaaa"))
        uid = (await client.get(Secret, key)).metadata.uid
        await client.delete(Secret, key)
        await eventually(lambda: has("aaaa"), retry_on=(NotFound,))
        assert (await client.get(Secret, key)).metadata.uid != uid
        await client.create(named(namespace, "source", text="cccc"))
        await client.patch(ConfigMap, key, {"data": {"source": "source"}})
        await eventually(lambda: has("cccc"))
        await client.patch(ConfigMap, ObjectKey("source", namespace), {"data": {"text": "dddd"}})
        await eventually(lambda: has("dddd"))
        it.writes.seen.clear()
        runs = len(mirror.runs)
        await client.patch(ConfigMap, key, {"metadata": {"labels": {"x": "y"}}})
        await eventually(lambda: len(mirror.runs) > runs)
        assert it.writes.seen == []
        assert (await client.get(Secret, key)).metadata.owner_references[0].uid == made.metadata.uid


async def test_failures_are_retried_ticks_come_back_and_the_metrics_tell(
    config: Config, client: Client, namespace: str
) -> None:
    it, mirror = mirroring(config, namespace)
    async with running(it):
        await client.create(named(namespace, "bad", mirror="fail"))
        await client.create(named(namespace, "clock", mirror="tick"))
        await eventually(lambda: mirror.runs.count("bad") >= 4 and mirror.runs.count("clock") >= 4)
        status, text = await it.probe("/metrics", "metrics")
        assert status == 200
        assert 'controller_runtime_reconcile_total{controller="configmap",result="error"} 3.0' in text
        assert 'rest_client_requests_total{code="201"' in text
        assert await it.probe("/readyz") == (200, "ok")


async def test_a_controller_whose_writes_start_it_again_is_named_and_a_filter_ends_it(
    config: Config, client: Client, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    runs = 0

    async def notes_itself(it: Bench, obj: ConfigMap) -> Result:
        nonlocal runs
        if obj.key == ObjectKey("a", namespace):
            runs += 1
            note = {"metadata": {"annotations": {"runs": str(runs)}}}
            await it.manager.client.patch(ConfigMap, obj.key, note)
        return DONE

    class Noting:
        async def reconcile(self, obj: ConfigMap) -> Result:
            return await notes_itself(it, obj)

    it = Bench(config)
    it.manager.add(Controller(ConfigMap, Noting(), name="noting"))
    async with running(it):
        await client.create(named(namespace, a="b"))
        await eventually(lambda: "hot loop" in caplog.text)
        await it.manager.remove("noting")
        it.manager.add(Controller(ConfigMap, Noting(), name="noting", where=spec_changed()))
        before = runs
        await eventually(lambda: runs > before)
        await client.patch(ConfigMap, ObjectKey("a", namespace), {"data": {"a": "c"}})
        await eventually(lambda: runs >= before + 2)
        status, text = await it.probe("/metrics", "metrics")
        assert status == 200
        assert 'controller_hot_loops_total{controller="noting"} 1.0' in text
        assert runs <= before + 4
    lines = [vars(record) for record in caplog.records if record.getMessage().startswith("hot loop")]
    assert [(fields["controller"], fields["key"]) for fields in lines] == [("noting", f"{namespace}/a")]


async def test_two_managers_of_one_kind_make_one_object_and_come_to_rest(
    config: Config, client: Client, namespace: str
) -> None:
    (one, first), (other, second) = mirroring(config, namespace), mirroring(config, namespace)
    async with running(one), running(other):
        for number in range(5):
            await client.create(named(namespace, f"m{number}", mirror="aaaa"))
        await eventually(lambda: min(len(set(first.runs)), len(set(second.runs))) == 5)

        async def all_made() -> bool:
            return len(await client.list(Secret, namespace=namespace, fields="type=Opaque")) == 5

        await eventually(all_made)
        await eventually(lambda: not first.active and not second.active)
        before = await client.list(Secret, namespace=namespace, fields="type=Opaque")
        runs = len(first.runs) + len(second.runs)
        for number in range(5):
            await client.patch(ConfigMap, ObjectKey(f"m{number}", namespace), {"metadata": {"labels": {"x": "y"}}})
        await eventually(lambda: len(first.runs) + len(second.runs) >= runs + 10)
        after = await client.list(Secret, namespace=namespace, fields="type=Opaque")
        versions = [[obj.metadata.resource_version for obj in found] for found in (before, after)]
        assert versions[0] == versions[1]


async def test_a_manager_that_loses_its_api_server_says_so_and_goes_on_when_it_is_back() -> None:
    with ControlPlane() as plane:
        config = load_config(plane.kubeconfig)
        it, _ = mirroring(config, "default")
        async with Client.from_config(config) as client, running(it):
            await client.create(named("default", mirror="aaaa"))
            key = ObjectKey("a", "default")
            await eventually(lambda: client.get(Secret, key), retry_on=(NotFound,))
            assert await it.probe("/readyz") == (200, "ok")
            await plane.stop_program("kube-apiserver")

            async def not_ready() -> str | None:
                status, text = await it.probe("/readyz")
                return text if status == 503 else None

            text = await eventually(not_ready)
            assert re.search(
                r"\[-\]informer/ConfigMap failed: watch broken( \(last heard of \d+ s ago\))?: watch configmaps: ", text
            )
            assert "[+]shutdown ok" in text
            assert await it.probe("/healthz") == (200, "ok")
            assert (await it.manager.client.get(ConfigMap, key)).data["mirror"] == "aaaa"
            await plane.start_program("kube-apiserver")
            await eventually(
                lambda: client.create(named("default", "b", mirror="bbbb")), retry_on=(Exception,), timeout_s=20.0
            )
            await eventually(
                lambda: client.get(Secret, ObjectKey("b", "default")), retry_on=(NotFound,), timeout_s=30.0
            )

            async def ready() -> bool:
                return await it.probe("/readyz") == (200, "ok")

            await eventually(ready, timeout_s=30.0)
