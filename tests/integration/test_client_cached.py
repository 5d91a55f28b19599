"""A manager's client: kinds without a class, and metadata alone, from its cache; its metrics count its watches."""

from __future__ import annotations

import asyncio

from kaito.client import load_config
from kaito.devcluster.controlplane import ControlPlane
from kaito.kube import ConfigMap, MetadataOnly, ObjectKey, Unstructured
from kaito.runtime import Manager
from kaito.testing import eventually
from tests.integration.test_client import config_map


async def test_a_manager_reads_json_and_metadata_from_its_cache_and_counts_its_watches(
    control_plane: ControlPlane, namespace: str
) -> None:
    config = load_config(control_plane.kubeconfig)
    manager = Manager("docs", config, metrics="127.0.0.1:0", health="127.0.0.1:0")
    whole, alone = Unstructured("v1", "ConfigMap"), MetadataOnly(ConfigMap)
    for kind in (whole, alone):
        manager.cache.informer(kind)
    running = asyncio.create_task(manager.run())
    try:
        await eventually(lambda: all(informer.synced for informer in manager.cache.informers()))
        made = await manager.client.create(config_map(namespace, x="1"))

        async def from_cache() -> bool:
            read, cut = await manager.client.get(whole, made.key), await manager.client.get(alone, made.key)
            assert (read["data"], read.kind) == ({"x": "1"}, "ConfigMap")
            assert (cut.kind, cut.api_version, cut.metadata.uid) == ("ConfigMap", "v1", made.metadata.uid)
            return set(cut.to_dict()) == {"apiVersion", "kind", "metadata"}

        assert await from_cache()  # one's own write, at once
        (found,) = await manager.client.list(alone, namespace=namespace, labels="t=1", limit=1)
        assert found.key == ObjectKey("a", namespace)
        labels = {"verb": "watch", "host": config.host.removeprefix("https://")}
        opened = manager.registry.get_sample_value("rest_client_request_duration_seconds_count", labels)
        assert opened == 2
        gets = manager.registry.get_sample_value("rest_client_request_duration_seconds_count", labels | {"verb": "get"})
        assert gets is None  # all of the reads were the cache's
    finally:
        manager.stop()
        await running
