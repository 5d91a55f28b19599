"""Secrets in namespaces of a fake API server, for tests of which of them an informer holds."""

from __future__ import annotations

from kaito.informers import InformerOptions
from kaito.kube.core_v1 import Secret
from tests.unit.informers.caching import Bench

ONE, TWO = "kube-system", "kube-public"


def put(it: Bench, namespace: str, name: str, **labels: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/secrets"
    it.api.call("POST", path, {"metadata": {"name": name, "labels": labels}, "stringData": {}})


def drop(it: Bench, namespace: str, name: str) -> None:
    it.api.call("DELETE", f"/api/v1/namespaces/{namespace}/secrets/{name}")


async def names(it: Bench, namespace: str | None = None, labels: str = "") -> list[str]:
    return [str(obj.key) for obj in await it.client.list(Secret, namespace=namespace, labels=labels)]


def options(*namespaces: str, labels: str = "", fields: str = "") -> InformerOptions:
    return InformerOptions(frozenset(namespaces) if namespaces else None, labels, fields)
