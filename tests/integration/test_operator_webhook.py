"""The webhook of `kaito manager`, as a process that the API server reaches by its Service: what users read."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import yaml

from kaito.api.kaito_v1beta1 import Workspace
from kaito.devcluster.controlplane import ControlPlane
from kaito.devcluster.errors import KubectlError
from kaito.devcluster.ports import free_port
from kaito.kube.admissionregistration_v1 import ValidatingWebhookConfiguration
from kaito.kube.object_key import ObjectKey
from kaito.testing import eventually
from tests.operating.cluster import PHI_3, Cluster, filled_in, install_crds, workspace
from tests.operating.manager_process import ManagerProcess

TYPO = "phi-3-mini-4k-instrukt"
HOME = "webhook-home"
"""The manager's own namespace, in which there is a Workspace from before the webhook, which refuses it."""
PORT = free_port()


@pytest.fixture(scope="module")
async def manager_arguments(control_plane: ControlPlane) -> AsyncIterator[tuple[str, ...]]:
    """By its Service; in the end the configurations go, or nobody could write Workspaces again."""
    await install_crds(control_plane)
    await control_plane.kubectl("create", "namespace", HOME)
    # A Service that is another name for this machine: there is no network of a cluster here.
    service = ("--external-name", "localhost", "--tcp", str(PORT))
    await control_plane.kubectl("--namespace", HOME, "create", "service", "externalname", "kaito-webhook", *service)
    await control_plane.kubectl(
        "--namespace", HOME, "apply", "-f", "-", input=yaml.safe_dump(workspace("old", preset=TYPO))
    )
    yield ("--namespace", HOME, "--webhook-port", str(PORT), "--webhook-service", f"kaito-webhook:{PORT}")
    kinds = "validatingwebhookconfiguration,mutatingwebhookconfiguration"
    await control_plane.kubectl("delete", kinds, "kaito", "--ignore-not-found")
    await control_plane.kubectl("delete", "namespace", HOME, "--wait=false")


async def test_kubectl_prints_what_is_wrong_and_warnings_and_the_managers_own_writes_pass(
    cluster: Cluster, manager: ManagerProcess
) -> None:
    said = await refused(cluster, "bad")
    assert 'The Workspace "bad" is invalid: inference.preset.name: ' in said
    assert 'did you mean "phi-3-mini-4k-instruct"?' in said
    with pytest.raises(KubectlError) as error:
        await cluster.kubectl("create", "--dry-run=server", "--warnings-as-errors", "-f", "-", text=filled_in(PHI_3))
    assert "Warning: " in error.value.stderr
    assert "Standard_NC6s_v3" in error.value.stderr
    await cluster.apply(workspace("good"))
    await cluster.ready("good")
    await cluster.delete("good")
    await cluster.gone("good")
    assert manager.failures() == []


async def refused(cluster: Cluster, name: str) -> str:
    with pytest.raises(KubectlError) as error:
        await cluster.apply(workspace(name, preset=TYPO))
    return error.value.stderr


async def test_an_object_that_newer_rules_refuse_still_gets_finalizers_and_a_status_and_goes(cluster: Cluster) -> None:
    home = Cluster(cluster.plane, cluster.client, HOME)
    await home.condition("old", "ResourceReady", "False")
    await home.patch("workspace", "old", {"metadata": {"finalizers": ["example.com/held"], "labels": {"a": "b"}}})
    with pytest.raises(KubectlError, match=r"inference\.preset"):
        await home.patch("workspace", "old", {"inference": {"preset": {"name": f"{TYPO}s"}}})
    await home.kubectl("delete", "workspace", "old", "--wait=false")
    await home.patch("workspace", "old", {"metadata": {"finalizers": None}})

    async def is_gone() -> bool:
        return await home.find(Workspace, "old") is None

    await eventually(is_gone)


async def test_the_api_server_finds_it_by_its_service(cluster: Cluster) -> None:
    assert "inference.preset.name" in await refused(cluster, "bad")
    found = await cluster.client.get(ValidatingWebhookConfiguration, ObjectKey("kaito"))
    reached = found.webhooks[0].client_config.service
    assert reached is not None
    assert (reached.namespace, reached.name, reached.port) == (HOME, "kaito-webhook", PORT)
