"""Objects as JSON, for tests of what is stored of them."""

from __future__ import annotations

import json
from typing import Any

Json = dict[str, Any]


def make(
    name: str, rv: int = 1, *, namespace: str | None = "ns", uid: str = "", labels: Json | None = None, **more: Any
) -> bytes:
    metadata = {
        "name": name,
        **({"namespace": namespace} if namespace else {}),
        "uid": uid or f"uid-{name}",
        "resourceVersion": str(rv),
        **({"labels": labels} if labels else {}),
        **more,
    }
    return json.dumps({"apiVersion": "v1", "kind": "Thing", "metadata": metadata, "spec": {"rv": rv}}).encode()


def controller(name: str = "boss", api_version: str = "apps/v1", **more: Any) -> Json:
    return {
        "apiVersion": api_version,
        "kind": "Deployment",
        "name": name,
        "uid": f"uid-{name}",
        "controller": True,
    } | more
