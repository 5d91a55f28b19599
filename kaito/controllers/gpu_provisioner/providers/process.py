"""process: a cloud of nodes on this machine; an agent (`kaito devcluster up --node process`) brings them to life."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from kaito.controllers.gpu_provisioner.providers.node_objects import NodeObjectProvider


class ProcessProvider(NodeObjectProvider):
    """Implements `Provider` with Nodes whose pods run as processes of this machine.

    They stand in for nodes of the instance type: they have its CPUs, memory and GPUs, whatever this machine has.
    """

    name = "process"
    labels: ClassVar[Mapping[str, str]] = {"kaito.sh/process-node": "true"}
