"""kwok: a cloud of fake nodes; it creates and deletes Node objects, and kwok brings them to life."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from kaito.controllers.gpu_provisioner.providers.node_objects import NodeObjectProvider


class KwokProvider(NodeObjectProvider):
    """Implements `Provider` with Nodes that kwok plays."""

    name = "kwok"
    annotations: ClassVar[Mapping[str, str]] = {"kwok.x-k8s.io/node": "fake"}
