"""What the tests of process nodes share: an API server in memory with a client, and pods' sandboxes on it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from kaito.client import Client
from kaito.devcluster.process_nodes import volumes
from kaito.devcluster.process_nodes.images import ImageTable, LocalImage
from kaito.devcluster.process_nodes.pod_sandbox import PodSandbox
from kaito.kube.core_v1 import Pod
from kaito.testing.fake_api import FakeApi


@pytest.fixture
def api() -> FakeApi:
    """An API server in memory that answers at once."""
    return FakeApi(latency_s=(0.0, 0.0))


@pytest_asyncio.fixture
async def fake_client(api: FakeApi) -> AsyncIterator[Client]:
    """A client of it."""
    async with Client(api.transport(), field_owner="agent") as client:
        yield client


@pytest.fixture
def sandbox(tmp_path: Path, fake_client: Client) -> Iterator[Callable[..., PodSandbox]]:
    """Makes the sandbox of a pod of one container, whose image's programs are this machine's."""

    def sandbox(spec: dict[str, Any], *, image: LocalImage | None = None, **metadata: Any) -> PodSandbox:
        pod = Pod.model_validate({"metadata": {"name": "web-0", "namespace": "default", **metadata}, "spec": spec})
        pod = pod.edit()
        pod.metadata.uid = "5a0ad0a2"
        images = ImageTable([image or LocalImage("*")])
        server = "https://127.0.0.1:6443"
        return PodSandbox(pod, fake_client, images, tmp_path / "agent", "10.244.0.5", api_server=server)

    yield sandbox
    # As an agent that ends.
    volumes.remove(volumes.memory_folder(tmp_path / "agent"))
