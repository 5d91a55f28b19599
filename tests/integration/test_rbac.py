"""kaito rbac against a real API server: what it prints is enough, and what is missing is named and heals."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from kaito.cli.app import app
from kaito.client import Client, Config, NotFound, load_config
from kaito.devcluster.controlplane import ControlPlane
from kaito.informers.options import InformerOptions
from kaito.kube import ConfigMap, FrozenDict, ObjectKey, ObjectMeta, Secret
from kaito.kube.events_v1 import Event
from kaito.kube.rbac_v1 import ClusterRole
from kaito.runtime import DONE, Access, Applier, Controller, Manager, Result, ensure_finalizer
from kaito.runtime.rbac import needs_of, rules_of
from kaito.runtime.roles import role_objects
from kaito.testing import eventually
from tests.operating.cluster import Cluster, install_crds, workspace
from tests.operating.manager_process import ManagerProcess

NAME = "modest"
PATCHING = ("gpu-provisioner", "machine", "nodeclaim")


class Account:
    """A ServiceAccount that may do what `kaito rbac` prints, and nothing else."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.cluster = cluster
        self.role = f"kaito-{cluster.namespace}"
        self.kubeconfig = folder / "account.kubeconfig"

    async def grant(self, *left_out: tuple[str, str]) -> None:
        """Applies the rules, but for these verbs of these resources."""
        arguments = ["rbac", "--service-account", f"{self.cluster.namespace}/kaito", "--name", self.role]
        printed = CliRunner().invoke(app, arguments)
        assert printed.exit_code == 0, printed.output
        objects = [_without(each, left_out) for each in yaml.safe_load_all(printed.output)]
        await self.cluster.apply(*objects)

    async def write_kubeconfig(self, client: Client) -> None:
        """Writes a kubeconfig with a token of the account."""
        token = (await client.create_token(ObjectKey("kaito", self.cluster.namespace))).token
        config = yaml.safe_load(self.cluster.plane.kubeconfig.read_text())
        config["users"][0]["user"] = {"token": token}
        self.kubeconfig.write_text(yaml.safe_dump(config))


def _without(obj: dict[str, Any], left_out: tuple[tuple[str, str], ...]) -> dict[str, Any]:
    for verb, resource in left_out:
        for rule in obj.get("rules", []):
            if resource in rule["resources"]:
                rule["verbs"] = [each for each in rule["verbs"] if each != verb]
    return obj


@pytest.fixture
async def account(
    control_plane: ControlPlane, client: Client, namespace: str, tmp_path: Path
) -> AsyncIterator[Account]:
    await install_crds(control_plane)
    made = Account(Cluster(control_plane, client, namespace), tmp_path)
    yield made
    await made.cluster.kubectl("delete", "clusterrole,clusterrolebinding", made.role, "--ignore-not-found")
    roles = ("delete", "role,rolebinding", made.role, "--ignore-not-found")
    await control_plane.kubectl("--namespace", "default", *roles)


async def test_the_operator_takes_a_workspace_to_its_end_with_what_is_printed_and_is_forbidden_nothing(
    account: Account, client: Client, tmp_path: Path
) -> None:
    cluster = account.cluster
    await account.grant()
    await account.write_kubeconfig(client)
    log = tmp_path / "manager.log"
    async with ManagerProcess(account.kubeconfig, log) as manager:
        await manager.ready()
        await cluster.apply(workspace(NAME))
        await cluster.ready(NAME)
        await cluster.delete(NAME)
        await cluster.gone(NAME)
        assert await manager.metric("rest_client_requests_total", code="403") == 0
        assert await manager.metric("rest_client_requests_total", code="201") > 0
        assert manager.failures() == []
    assert "forbidden" not in log.read_text().lower()


async def test_a_missing_permission_is_named_with_its_remedy_and_the_operator_heals_when_it_is_granted(
    account: Account, client: Client, tmp_path: Path
) -> None:
    cluster = account.cluster
    await account.grant(("patch", "nodes"), ("list", "services"))
    await account.write_kubeconfig(client)
    async with ManagerProcess(account.kubeconfig, tmp_path / "manager.log") as manager:
        await eventually(lambda: len(manager.logged("permission missing")) == 2, timeout_s=20)
        who = f"ServiceAccount {cluster.namespace}/kaito may not"
        remedy = "; grant it with: kaito rbac | kubectl apply -f -"
        assert {line["error"] for line in manager.logged("permission missing")} == {
            f"{who} patch nodes: needed by {', '.join(f'controller {name}' for name in PATCHING)}{remedy}",
            f"{who} list services: needed by controller workspace{remedy}",
        }
        status, text = await manager.get("/readyz?verbose")
        assert status != 200
        assert f"[-]permissions failed: {who} patch nodes: needed by" in text
        await cluster.apply(workspace(NAME))
        await account.grant()
        assert (await client.get(ClusterRole, ObjectKey(account.role))).rules
        await manager.ready()
        await cluster.ready(NAME)
        assert manager.logged("all permissions are granted now")
        assert len(manager.logged("permission missing")) == 2
        await cluster.delete(NAME)
        await cluster.gone(NAME)


async def test_a_real_api_server_takes_what_is_deployed(control_plane: ControlPlane) -> None:
    deploy = Path(__file__).parents[2] / "deploy"
    namespace = await control_plane.kubectl("create", "namespace", "kaito-system", "--dry-run=client", "-o", "yaml")
    await control_plane.kubectl("apply", "-f", "-", input=namespace)
    files = ("-f", str(deploy / "manager.yaml"), "-f", str(deploy / "rbac.yaml"))
    said = await control_plane.kubectl("apply", "--dry-run=server", "--warnings-as-errors", *files)
    assert "deployment.apps/kaito created (server dry run)" in said
    assert "poddisruptionbudget.policy/kaito created (server dry run)" in said


class Keeping:
    """Keeps a Secret beside each ConfigMap, a finalizer on it, and says so."""

    def __init__(self, manager: Manager) -> None:
        self._manager = manager
        self._applier = Applier(manager.client)

    async def reconcile(self, config: ConfigMap) -> Result:
        if "kept" not in config.metadata.labels:
            return DONE
        config = await ensure_finalizer(self._manager.client, config, "example.com/kept")
        metadata = ObjectMeta(name=config.metadata.name, namespace=config.metadata.namespace)
        await self._applier.apply(Secret(metadata=metadata), config)
        self._manager.events.event(config, "Normal", "Kept", "Keep", "a secret is kept beside it")
        return DONE


async def test_a_manager_of_one_namespace_works_with_a_role_in_it_alone(
    control_plane: ControlPlane, account: Account, client: Client, namespace: str
) -> None:
    def make(config: Config) -> Manager:
        made = Manager("narrow", config, metrics="0", health="0", cache=InformerOptions(namespaces={namespace}))
        made.add(Controller(ConfigMap, Keeping(made), owns=[Secret], needs=[Access(ConfigMap, "patch")]))
        return made

    rules = rules_of(needs_of(make(load_config(control_plane.kubeconfig))))
    assert rules.cluster == ()
    for each in role_objects(account.role, ObjectKey("kaito", namespace), rules):
        await client.apply(each)
    await account.write_kubeconfig(client)
    manager = make(load_config(account.kubeconfig))
    running = asyncio.create_task(manager.run())
    try:
        made = ConfigMap(metadata=ObjectMeta(name="a", namespace=namespace, labels=FrozenDict(kept="")))
        await client.create(made)

        async def kept() -> bool:
            said = [each.reason for each in await client.list(Event, namespace=namespace)]
            return "Kept" in said and (await client.get(Secret, made.key)).metadata.owner_references != ()

        await eventually(kept, timeout_s=20, retry_on=(NotFound,))
        assert manager.permissions.missing == {}
        samples = [sample for family in manager.registry.collect() for sample in family.samples]
        codes = {sample.labels["code"] for sample in samples if sample.name == "rest_client_requests_total"}
        assert "201" in codes
        assert "403" not in codes
    finally:
        manager.stop()
        await running
        await client.patch(ConfigMap, made.key, {"metadata": {"finalizers": []}})
