"""Lists of a cache: every index that there is narrows them."""

from __future__ import annotations

import asyncio

import pytest

from kaito.kube.core_v1 import ConfigMap
from kaito.testing import virtual_clock
from tests.unit.informers.caching import bench, config_map


def test_lists_are_narrowed_by_every_index_that_there_is() -> None:
    async def main() -> None:
        async with bench() as it:
            for number in range(4):
                it.put(f"m{number}", app=f"a{number % 2}", tier=f"t{number // 2}")
            it.cache.add_label_index(ConfigMap, "app", "tier")
            it.cache.add_label_index(ConfigMap, "app")  # twice is harmless
            it.cache.add_index(ConfigMap, "data.app", lambda found: [found.data["app"]])
            await asyncio.sleep(0.1)

            async def found(namespace: str | None = None, labels: str = "", fields: str = "") -> list[str]:
                objects = await it.client.list(ConfigMap, namespace=namespace, labels=labels, fields=fields)
                return [obj.metadata.name for obj in objects]

            assert await found(labels="app=a1") == ["m1", "m3"]
            assert await found(labels="app=a1,tier=t0") == ["m1"]
            assert await found(labels="app=a1,tier!=t0") == ["m3"]
            assert await found(labels="app=a1", fields="data.app=a0") == []
            assert await found(fields="data.app=a0,metadata.name=m2") == ["m2"]
            assert await found(fields="metadata.namespace=default,data.app==a0") == ["m0", "m2"]
            assert await found(fields="metadata.namespace=default", namespace="kube-system") == []
            with pytest.raises(ValueError, match="cannot be read from a cache; expected INDEX=VALUE"):
                await found(fields="data.app!=a0")
            with pytest.raises(ValueError, match=r"declare it with cache\.add_index\(ConfigMap, 'spec\.x'"):
                await found(fields="spec.x=1")
            with pytest.raises(ValueError, match=r"declare it with cache\.add_owner_index\(ConfigMap\)"):
                await it.cache.owned_by(ConfigMap, config_map())
            with pytest.raises(ValueError, match=r"index 'data\.app' of configmaps exists already"):
                it.cache.add_index(ConfigMap, "data.app", lambda found: [])

    virtual_clock.run(main())


def test_objects_are_found_by_their_controlling_owner() -> None:
    async def main() -> None:
        async with bench() as it:
            owner = await it.client.create(config_map("owner"))
            it.cache.add_owner_index(ConfigMap)
            it.cache.add_owner_index(ConfigMap)  # twice is harmless
            reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner.metadata.uid}
            for name, controller in (("mine", True), ("not-controlled", False)):
                metadata = {"name": name, "ownerReferences": [{**reference, "controller": controller}]}
                it.api.call("POST", "/api/v1/namespaces/default/configmaps", {"metadata": metadata})
            await asyncio.sleep(0.1)
            assert [obj.metadata.name for obj in await it.cache.owned_by(ConfigMap, owner)] == ["mine"]

    virtual_clock.run(main())
