"""The webhook of Workspaces on a real API server: both tables of bad Workspaces, both versions, what users read."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kaito.catalog import Runtime
from kaito.client import Client, Invalid, NotFound, load_config
from kaito.controllers.workspace.admission.case import NodeProvisioner
from kaito.devcluster.controlplane import ControlPlane
from kaito.devcluster.errors import KubectlError, RequestError
from kaito.kube import ObjectKey
from kaito.kube.core_v1 import ConfigMap
from kaito.kube.frozen import FrozenDict
from kaito.kube.meta_v1 import LabelSelector
from kaito.kube.unstructured import Unstructured, UnstructuredObject
from kaito.testing import eventually
from kaito.testing.fake_api import Fault, Hang
from kaito.testing.fault_proxy import FaultProxy
from tests.operating.bad_workspaces import (
    BY_RULES,
    BY_WEBHOOK,
    VERSIONS,
    BadWorkspace,
    bad_workspaces,
    good_workspaces,
)
from tests.operating.cluster import PHI_3, filled_in, install_crds
from tests.operating.judged_namespace import CONFIGURATIONS, judged_namespace
from tests.operating.wild_workspaces import JSON, PLACES, spoiled

NAMESPACES: dict[str, tuple[NodeProvisioner, Runtime | None]] = {
    "admission-machine": ("machine", None),
    "admission-byo": ("byo", None),
    "admission-transformers": ("machine", "transformers"),
}


@pytest_asyncio.fixture(scope="module", loop_scope="session", autouse=True)
async def operators(control_plane: ControlPlane) -> AsyncIterator[None]:
    """One namespace for each way in which an operator may run."""
    await install_crds(control_plane)
    async with Client.from_config(load_config(control_plane.kubeconfig)) as client, AsyncExitStack() as stack:
        for name, (provisioner, runtime) in NAMESPACES.items():
            await stack.enter_async_context(judged_namespace(client, name, provisioner, runtime))
        yield


def namespace_of(given: Mapping[str, Any]) -> str:
    wanted = (given.get("node_provisioner", "machine"), given.get("runtime"))
    return next(name for name, operator in NAMESPACES.items() if operator == wanted)


def placed(manifest: Mapping[str, Any], namespace: str) -> UnstructuredObject:
    kind = Unstructured(manifest["apiVersion"], "Workspace")
    return kind.model_validate({**manifest, "metadata": {**manifest["metadata"], "namespace": namespace}})


async def put(client: Client, namespace: str, name: str, data: Mapping[str, str]) -> None:
    key = ObjectKey(name, namespace)
    with suppress(NotFound):
        await client.delete(ConfigMap, key)
    await client.create(ConfigMap.model_validate({"metadata": {"name": name, "namespace": namespace}, "data": data}))


async def create(client: Client, namespace: str, row: BadWorkspace) -> None:
    await client.create(placed(row.bad, namespace), dry_run=True)


async def update(client: Client, namespace: str, row: BadWorkspace) -> None:
    stored = await client.create(placed(row.good, namespace))
    try:
        changed = placed(row.bad, namespace).edit()
        changed.metadata.resource_version = stored.metadata.resource_version
        await client.update(changed, dry_run=True)
    finally:
        await client.delete(type(stored), stored.key)


def is_possible(row: BadWorkspace) -> bool:
    """Whether its defect is the one that is told: with the webhook no partition is there to be changed."""
    if row.verb == "update" and "partition" in row.good["resource"]:
        return False
    return row.name != "preset and template at once"  # of which the preset does not fit either


ROWS = [*bad_workspaces(BY_WEBHOOK), *filter(is_possible, bad_workspaces(BY_RULES))]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
async def test_a_bad_workspace_is_refused_for_its_one_defect(client: Client, row: BadWorkspace) -> None:
    namespace = namespace_of(row.given)
    for name, data in row.given.get("config_maps", {}).items():
        await put(client, namespace, name, data)

    with pytest.raises(Invalid) as refused:
        await (create if row.verb == "create" else update)(client, namespace, row)

    said = [cause.message for cause in refused.value.causes if cause.field == row.field]
    assert any(row.says in message for message in said), refused.value


@pytest.mark.parametrize(("name", "good"), good_workspaces(BY_RULES).items())
async def test_what_the_rows_are_made_of_is_accepted(client: Client, name: str, good: dict[str, Any]) -> None:
    for version in VERSIONS:
        admitted = await client.create(placed({"apiVersion": version} | good, "admission-machine"), dry_run=True)
        assert admitted.metadata.uid, "the API server would have stored it"


async def refusal(control_plane: ControlPlane, manifest: str, *options: str) -> str:
    with pytest.raises(KubectlError) as error:
        await control_plane.kubectl("create", *options, "-n", "admission-machine", "-f", "-", input=manifest)
    return error.value.stderr


PAGE = (Path(__file__).parents[2] / "docs" / "admission.md").read_text(encoding="utf-8")
SIX: dict[str, Any] = yaml.safe_load(PAGE.partition("```yaml\n")[2].partition("```")[0])


async def test_the_defects_of_all_kinds_in_the_manifest_of_the_guide_are_told_at_once_in_both_versions_as_it_says(
    client: Client, control_plane: ControlPlane
) -> None:
    said = []
    for version in VERSIONS:
        manifest = SIX | {"apiVersion": version}
        with pytest.raises(Invalid) as refused:
            await client.create(placed(manifest, "admission-machine"), dry_run=True)
        said.append(refused.value.causes)
    assert said[0] == said[1]
    assert [cause.field for cause in said[0]] == [
        "inference.adapters[0].strength",
        "inference.config",
        "inference.preset.accessMode",
        "metadata.annotations[kaito.sh/runtime]",
        "resource.count",
        "resource.instanceType",
    ]
    printed = await refusal(control_plane, json.dumps(SIX))
    assert printed.replace("namespace admission-machine", "namespace demo") in PAGE


async def test_an_old_object_that_breaks_a_rule_can_be_annotated_lose_its_finalizer_and_be_deleted(
    client: Client, control_plane: ControlPlane
) -> None:
    manifest = {"apiVersion": VERSIONS[0], "kind": "Workspace", **good_workspaces(BY_RULES)["inference"]}
    manifest["inference"] = {"preset": {"name": "phi-2"}}
    manifest["metadata"] = {"name": "old", "finalizers": ["example.com/held"]}
    old = await before_there_was_a_webhook(client, control_plane, manifest)

    async def kubectl(*arguments: str) -> str:
        return await control_plane.kubectl("-n", "admission-machine", *arguments)

    await kubectl("annotate", "workspace", "old", "example.com/a=b")
    await kubectl("label", "workspace", "old", "a=b")
    with pytest.raises(KubectlError, match="supported values"):
        await kubectl("annotate", "workspace", "old", "kaito.sh/runtime=vlm")
    await kubectl("delete", "workspace", "old", "--wait=false")
    await kubectl("patch", "workspace", "old", "--type=merge", "-p", '{"metadata":{"finalizers":null}}')
    with pytest.raises(NotFound):
        await client.get(type(old), old.key)


async def before_there_was_a_webhook(
    client: Client, control_plane: ControlPlane, manifest: dict[str, Any]
) -> UnstructuredObject:
    """Made while the webhook's selector led elsewhere for a moment."""
    namespace = "admission-machine"
    here = {"kubernetes.io/metadata.name": "nowhere"}
    kept = {kind: await client.get(kind, ObjectKey(namespace)) for kind in CONFIGURATIONS}

    async def made() -> UnstructuredObject | None:
        for kind, configuration in kept.items():
            draft = (await client.get(kind, configuration.key)).edit()
            assert isinstance(draft, CONFIGURATIONS)
            draft.webhooks[0].namespace_selector = LabelSelector(match_labels=FrozenDict(here))
            await client.update(draft, field_owner="tests")
        try:
            return await client.create(placed(manifest, namespace))
        except Invalid:
            return None

    made_object: list[UnstructuredObject] = []

    async def probe() -> bool:
        if (one := await made()) is not None:
            made_object.append(one)
        return bool(made_object)

    await eventually(probe, timeout_s=20)
    bad = {**manifest, "metadata": {"name": "probe"}}

    async def back() -> bool:
        try:
            await client.create(placed(bad, namespace), dry_run=True)
        except Invalid:
            return True
        return False

    await eventually(back, timeout_s=20)
    return made_object[0]


async def test_both_versions_are_warned_alike(control_plane: ControlPlane) -> None:
    said = set()
    for version in VERSIONS:
        manifest = yaml.safe_load(filled_in(PHI_3)) | {"apiVersion": version}
        manifest["metadata"]["annotations"] = {"kaito.sh/enablelb": "true", "kaito.sh/runtme": "vllm"}
        text = await refusal(control_plane, json.dumps(manifest), "--warnings-as-errors", "--dry-run=server")
        said.add("\n".join(line for line in text.splitlines() if line.startswith("Warning: ")))
    assert len(said) == 1
    (text,) = said
    print(text)
    assert 'metadata.annotations[kaito.sh/enablelb]: "true" has no effect: only "True" asks for a load balancer' in text
    assert 'did you mean "kaito.sh/runtime"?' in text


@settings(max_examples=40, deadline=None, derandomize=True, database=None, suppress_health_check=[*HealthCheck])
@given(st.sampled_from(PLACES), JSON, st.sampled_from(VERSIONS))
async def test_whatever_stands_in_a_workspace_the_answer_of_the_api_server_is_no_failure(
    control_plane: ControlPlane, place: tuple[str, Any], value: Any, version: str
) -> None:
    manifest = {"apiVersion": version} | spoiled(*place, value)
    path = f"/apis/{version}/namespaces/admission-machine/workspaces?dryRun=All&fieldValidation=Ignore"
    status = 201
    try:
        await asyncio.to_thread(control_plane.request, "POST", path, manifest)
    except RequestError as refused:
        status = refused.status
    assert status in (201, 400, 422)


async def test_a_configmap_that_the_api_server_is_slow_to_tell_costs_a_second_and_a_warning(
    control_plane: ControlPlane,
) -> None:
    manifest = {"apiVersion": VERSIONS[1]} | good_workspaces(BY_RULES)["inference"]
    manifest["inference"] = manifest["inference"] | {"config": "settings"}
    async with FaultProxy(control_plane.kubeconfig) as proxy, Client.from_config(proxy.config) as slow:
        proxy.faults.add(Fault(Hang(), verb="get", resource="configmaps", times=None))
        async with judged_namespace(slow, "admission-slow"):
            create = ("create", "--dry-run=server", "-n", "admission-slow", "-f", "-")
            text = json.dumps(manifest)
            assert "created" in await control_plane.kubectl(*create, input=text)
            with pytest.raises(KubectlError, match='ConfigMap "settings" was not read within 1 s: it was not checked'):
                await control_plane.kubectl(*create, "--warnings-as-errors", input=text)
