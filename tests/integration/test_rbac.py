"""kaito rbac against a real API server: what it prints is enough, and what is missing is named and heals."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from kaito.catalog import Catalog
from kaito.cli.app import app
from kaito.client import Client, Config, NotFound, load_config
from kaito.devcluster.controlplane import ControlPlane
from kaito.devcluster.errors import KubectlError
from kaito.devcluster.ports import free_port
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
OLD = "old"
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

    def as_in_a_cluster(self) -> list[str]:
        """The flags that make the manager do what it does in a pod by itself."""
        namespace = self.cluster.namespace
        url = f"https://127.0.0.1:{(port := free_port())}"
        webhook = ["--webhook-port", str(port), "--webhook-url", url]
        # A lease counts only once it has lasted: a short one.
        times = ("lease-duration=2", "renew-deadline=1.5", "retry-period=0.3")
        election = ["--leader-elect", *(f"--leader-election-{each}" for each in times)]
        return ["--namespace", namespace, *webhook, "--catalog-config-map", "kaito-catalog", *election]

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
    configurations = "validatingwebhookconfiguration,mutatingwebhookconfiguration"
    await made.cluster.kubectl("delete", configurations, "kaito", "--ignore-not-found")
    roles = ("delete", "role,rolebinding", made.role, "--ignore-not-found")
    await control_plane.kubectl("--namespace", "default", *roles)


async def test_the_operator_takes_a_workspace_to_its_end_with_what_is_printed_and_is_forbidden_nothing(
    account: Account, client: Client, tmp_path: Path
) -> None:
    cluster = account.cluster
    await account.grant()
    await account.write_kubeconfig(client)
    # From before the webhook, which would refuse it: it is to get finalizers, nodes and a status, and to go.
    old = workspace(OLD)
    old["metadata"]["annotations"] = {"kaito.sh/performance-mode": "ludicrous"}
    await cluster.apply(old)
    log = tmp_path / "manager.log"
    async with ManagerProcess(account.kubeconfig, log, *account.as_in_a_cluster()) as manager:
        await manager.ready()
        with pytest.raises(KubectlError, match="performance-mode"):
            await cluster.apply(old | {"metadata": old["metadata"] | {"name": f"{OLD}-again"}})
        await cluster.apply(settings("vllm: {max-model-len: many}"), catalogue("our-model"))
        await eventually(lambda: _told(cluster, "CatalogLoaded"))
        with pytest.raises(KubectlError, match=r'max-model-len is "many"'):
            await cluster.apply(configured(NAME, "our-model"))
        await cluster.apply(settings("vllm: {max-model-len: 1024}"))
        await cluster.apply(configured(NAME, "our-model"))
        for name in (NAME, OLD):
            assert (await cluster.ready(name)).metadata.finalizers
            await cluster.delete(name)
            await cluster.gone(name)
        assert await manager.metric("rest_client_requests_total", code="403") == 0
        assert await manager.metric("rest_client_requests_total", code="201") > 0
        assert await manager.metric("controller_runtime_webhook_requests_total", code="200") > 0
        assert manager.failures() == []
    assert "forbidden" not in log.read_text().lower()


def settings(text: str) -> dict[str, Any]:
    return _config_map("settings", "inference_config.yaml", text)


def catalogue(model: str) -> dict[str, Any]:
    """The catalogue of the manager's namespace, with a model of ours."""
    builtin = Catalog.load().model("phi-3-mini-4k-instruct")
    figures = builtin.model_dump(mode="json", exclude={"name", "aliases"}) | {"huggingface_id": f"ours/{model}"}
    return _config_map("kaito-catalog", "ours.yaml", yaml.safe_dump({"models": {model: figures}}))


def configured(name: str, model: str) -> dict[str, Any]:
    """A Workspace that names the ConfigMap with settings."""
    made = workspace(name, preset=model)
    made["inference"]["config"] = "settings"
    return made


def _config_map(name: str, key: str, text: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {key: text}}


async def _told(cluster: Cluster, reason: str) -> bool:
    return reason in await cluster.kubectl("get", "events", "--field-selector", f"reason={reason}")


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
