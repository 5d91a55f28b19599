"""A Workspace of a model that only a hub knows: told why it waits, and served as soon as the hub tells what it is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kaito.client import Client
from kaito.controllers.workspace.models import recorded
from kaito.devcluster.controlplane import ControlPlane
from kaito.devcluster.ports import free_port
from kaito.kube.apps_v1 import Deployment
from kaito.testing import eventually
from tests.operating.cluster import Cluster, install_crds, workspace
from tests.operating.fake_hub import LLAMA, FakeHub, answer
from tests.operating.manager_process import ManagerProcess

NAME = "from-hub"
MODEL = "org/model"
TOKEN = "hf_integration"


@pytest.fixture
async def place(control_plane: ControlPlane, client: Client, namespace: str) -> AsyncIterator[Cluster]:
    await install_crds(control_plane)
    yield Cluster(control_plane, client, namespace)
    kinds = "validatingwebhookconfiguration,mutatingwebhookconfiguration"
    await control_plane.kubectl("delete", kinds, "kaito", "--ignore-not-found")


def wanted() -> dict[str, object]:
    made = workspace(NAME, preset=MODEL, instance_type="Standard_NC24ads_A100_v4")
    made["inference"]["preset"]["presetOptions"] = {"modelAccessSecret": "hf"}
    return made


async def told(place: Cluster, words: str) -> None:
    """Waits until ResourceReady says these words."""

    async def probe() -> bool:
        message = await place.condition(NAME, "ResourceReady", "False", "ModelNotResolved")
        assert words in message, message
        return True

    await eventually(probe, timeout_s=30, message=f"the condition says {words}")


async def test_a_model_of_the_hub_is_told_of_until_it_is_known_and_then_served_whatever_becomes_of_the_hub(
    place: Cluster, tmp_path: Path
) -> None:
    hub = FakeHub()
    hub.says("/", answer(429, retry_after="1"))
    webhook = free_port()
    reached = ("--webhook-port", str(webhook), "--webhook-url", f"https://127.0.0.1:{webhook}")
    flags = ("--namespace", place.namespace, *reached)
    async with hub.serve() as url:
        environment = {"HF_ENDPOINT": url, "HF_TOKEN": ""}
        kubeconfig, log = place.plane.kubeconfig, tmp_path / "manager.log"
        async with ManagerProcess(kubeconfig, log, *flags, environment=environment) as manager:
            await manager.ready()
            await place.apply(wanted())
            await told(place, "there is no Secret hf")
            await place.kubectl("create", "secret", "generic", "hf", f"--from-literal=HF_TOKEN={TOKEN}")
            await place.kubectl("annotate", "workspace", NAME, "look=again")
            await told(place, "is asked too often (429) to tell what org/model is")
            assert await place.claims(NAME) == []
            hub.replies.clear()
            hub.has(MODEL)
            found = await place.ready(NAME)
            assert manager.failures() == []
            assert TOKEN not in log.read_text()
    assert {each.authorization for each in hub.asked} == {f"Bearer {TOKEN}"}
    (claim,) = await place.claims(NAME)
    model = recorded(found)
    assert model is not None
    assert (model.weights_gib, model.context_tokens) == (15.0, LLAMA["max_position_embeddings"])
    container = (await place.get(Deployment, NAME)).spec.template.spec.containers[0]
    assert {"name": "HF_ENDPOINT", "value": url} in [each.to_dict() for each in container.env]

    # The hub is gone; another process takes over.
    async with ManagerProcess(kubeconfig, tmp_path / "second.log", *flags, environment=environment) as second:
        await second.ready()
        await place.kubectl("annotate", "workspace", NAME, "looks=again")
        after = await place.ready(NAME)
        assert [each.metadata.uid for each in await place.claims(NAME)] == [claim.metadata.uid]
        assert recorded(after) == model
        await place.delete(NAME)
        assert second.failures() == []
