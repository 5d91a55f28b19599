"""The catalogue's ConfigMap: what counts, what is refused, and what waits while nothing good is known."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from kaito.catalog import CurrentCatalog
from kaito.client.client import Client
from kaito.controllers.catalog_source import CatalogMetrics, CatalogSource
from kaito.controllers.held import LOOK_AGAIN, MakingHeld
from kaito.kube.core_v1 import ConfigMap
from kaito.kube.object_key import ObjectKey
from kaito.runtime.manager import Manager
from kaito.runtime.reconciler import DONE, Result
from kaito.testing import eventually
from kaito.testing.fake_api import FakeApi

KEY = ObjectKey("kaito-catalog", "default")
BUILT_IN = CurrentCatalog().catalog.model("phi-4").disk_gib


def config_map(**data: str) -> ConfigMap:
    metadata = {"name": KEY.name, "namespace": KEY.namespace}
    return ConfigMap.model_validate(
        {"metadata": metadata, "data": {f"{name}.yaml": text for name, text in data.items()}}
    )


def disk(size: int) -> str:
    return f"models: {{phi-4: {{disk_gib: {size}}}}}"


class Scene:
    """A source on an API server in memory."""

    def __init__(self, api: FakeApi) -> None:
        self.manager = Manager("kaito", None, metrics="0", health="0", transport=api.transport())
        self.client = Client(api.transport(), field_owner="tests")
        self.current = CurrentCatalog()
        self.changes = 0
        metrics = CatalogMetrics(self.manager.registry, self.current)
        self.source = CatalogSource(self.manager, KEY, self.current, metrics, changed=self.changed)

    async def changed(self) -> None:
        self.changes += 1

    def disk_is(self, size: float) -> bool:
        return self.current.catalog.model("phi-4").disk_gib == size

    def is_valid(self, yes: bool) -> bool:
        return self.manager.registry.get_sample_value("kaito_catalog_valid") == float(yes)


@asynccontextmanager
async def scene(*objects: ConfigMap) -> AsyncIterator[Scene]:
    made = Scene(FakeApi())
    async with made.client:
        for each in objects:
            await made.client.create(each)
        task = asyncio.create_task(made.source.run())
        try:
            yield made
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_without_a_config_map_the_built_in_catalogue_counts() -> None:
    async with scene() as it:
        assert "has not been looked for yet" in (it.source.fault() or "")
        await it.source.started()
        assert it.source.fault() is None
        assert it.disk_is(BUILT_IN)


async def test_keys_are_laid_over_each_other_in_the_order_of_their_names() -> None:
    async with scene(config_map(b=disk(202), a=disk(201))) as it:
        await it.source.started()
        assert it.disk_is(202)


async def test_a_change_counts_a_faulty_one_does_not_and_a_deletion_goes_back() -> None:
    async with scene(config_map(a=disk(201))) as it:
        await it.source.started()
        await it.client.patch(ConfigMap, KEY, {"data": {"a.yaml": disk(203)}})
        await eventually(lambda: it.disk_is(203))
        await it.client.patch(ConfigMap, KEY, {"data": {"a.yaml": disk(0)}})
        await eventually(lambda: it.is_valid(False))
        assert it.disk_is(203)
        assert it.source.fault() is None, "the one before goes on"
        await it.client.patch(ConfigMap, KEY, {"data": {"a.yaml": disk(203)}})
        await eventually(lambda: it.is_valid(True))
        assert it.changes == 2, "nothing new came"
        await it.client.delete(ConfigMap, KEY)
        await eventually(lambda: it.disk_is(BUILT_IN))
        assert it.changes == 3


class Counting:
    """Counts what it reconciles."""

    reconciled = 0

    async def reconcile_key(self, key: ObjectKey, /) -> Result:
        self.reconciled += 1
        return DONE


async def test_a_faulty_one_at_the_start_holds_what_rests_on_it_until_it_is_mended() -> None:
    async with scene(config_map(a=disk(0))) as it:
        inner = Counting()
        held = MakingHeld(inner, ConfigMap, it.client, it.source.loaded)
        assert await held.reconcile_key(KEY) == Result(requeue_after=LOOK_AGAIN)
        await eventually(lambda: "is faulty" in (it.source.fault() or ""))
        assert "ConfigMap default/kaito-catalog: a.yaml: models.phi-4.disk_gib: " in (it.source.fault() or "")
        assert (it.is_valid(False), inner.reconciled) == (True, 0)
        await it.client.patch(ConfigMap, KEY, {"data": {"a.yaml": disk(204)}})
        await eventually(lambda: it.changes == 1, message="what was held has its turn")
        assert await held.reconcile_key(KEY) == DONE
        assert it.disk_is(204)
        assert (it.is_valid(True), inner.reconciled, it.source.fault()) == (True, 1, None)


def test_a_config_map_without_a_namespace_is_refused() -> None:
    it = Scene(FakeApi())
    with pytest.raises(ValueError, match="has no namespace"):
        CatalogSource(it.manager, ObjectKey("x"), it.current, it.source._metrics, changed=it.changed)
