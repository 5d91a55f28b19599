"""Every manifest under examples/ on a real API server with the webhook on: let in as it is meant to be, or refused."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
import pytest_asyncio
import yaml

from kaito.api.kaito_v1beta1 import Workspace
from kaito.api.text_rules import PLACEHOLDER
from kaito.catalog import Catalog, CurrentCatalog
from kaito.client import Client, load_config
from kaito.client.errors import Invalid
from kaito.client.observed import warnings
from kaito.client.transport import Request
from kaito.controllers.workspace.plan import PlanError, Planner
from kaito.devcluster.controlplane import ControlPlane
from kaito.kube.core_v1 import ConfigMap
from tests.operating.bad_workspaces import VERSIONS
from tests.operating.cluster import EXAMPLES, filled_in, install_crds, manifest
from tests.operating.judged_namespace import judged_namespace

MANIFESTS = sorted(str(path.relative_to(EXAMPLES)) for path in EXAMPLES.glob("*/*.yaml"))
ORIGINAL = {
    "inference/kaito_workspace_phi_3.yaml",
    "inference/kaito_workspace_phi_3_with_adapters.yaml",
    "tuning/kaito_workspace_tuning_phi_3_128k.yaml",
    "tuning/kaito_workspace_tuning_phi_3_4k.yaml",
}
ASKED_OF_THE_HUB = "inference/kaito_workspace_hugging_face.yaml"
WARNED = {
    "inference/kaito_workspace_existing_nodes.yaml": ["resource.instanceType: not given, so no node is made"],
    ASKED_OF_THE_HUB: ["inference.preset.name: .* is not in the catalogue"],
}
PAGE = (EXAMPLES / "README.md").read_text(encoding="utf-8")
NAMESPACE = "examples-machine"
EXISTING_NODES = "examples-byo"


@pytest_asyncio.fixture(scope="module", loop_scope="session", autouse=True)
async def operators(control_plane: ControlPlane) -> AsyncIterator[None]:
    """A namespace where nodes are made and the example's catalogue counts, and one where nodes are brought."""
    await install_crds(control_plane)
    async with Client.from_config(load_config(control_plane.kubeconfig)) as client, AsyncExitStack() as stack:
        await stack.enter_async_context(judged_namespace(client, NAMESPACE, current=CurrentCatalog(example_catalog())))
        await stack.enter_async_context(judged_namespace(client, EXISTING_NODES, "byo"))
        yield


def example_catalog() -> Catalog:
    """The catalogue with what the example adds to it."""
    config_map, _workspace = documents("catalog/kaito_catalog.yaml")
    return Catalog.load(overlays=list(config_map["data"].items()))


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(filled_in(name)))


async def tried(client: Client, workspace: dict[str, Any], namespace: str = NAMESPACE) -> list[str]:
    """Has the API server judge a Workspace; returns what it warned of."""
    path = f"/apis/{workspace['apiVersion']}/namespaces/{namespace}/workspaces"
    query = (("dryRun", "All"), ("fieldValidation", "Strict"))
    answer = await client.request(Request("POST", path, "create", query, json.dumps(workspace).encode()))
    return list(warnings(answer.headers.get("warning", "")))


def placeholders(node: Any, path: str = "") -> Iterator[str]:
    """The paths of the fields in which a placeholder stands."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from placeholders(value, f"{path}.{key}" if path else key)
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from placeholders(value, f"{path}[{index}]")
    elif isinstance(node, str) and re.search(PLACEHOLDER, node):
        yield path


@pytest.mark.parametrize("api_version", VERSIONS)
@pytest.mark.parametrize("name", MANIFESTS)
async def test_every_example_is_accepted_under_both_versions_with_no_other_warnings_than_are_meant(
    client: Client, name: str, api_version: str
) -> None:
    *config_maps, workspace = documents(name)
    for each in config_maps:
        if "namespace" not in each["metadata"]:
            await client.apply(
                ConfigMap.model_validate(each | {"metadata": each["metadata"] | {"namespace": NAMESPACE}})
            )
    said = await tried(client, workspace | {"apiVersion": api_version})
    if name in ORIGINAL:
        # Of a V100 there is more to say than of the GPUs that came after it.
        assert any("Standard_NC6s_v3 was retired by azure on 2025-09-30" in text for text in said)
    else:
        expected = WARNED.get(name, [])
        assert [bool(re.match(*pair)) for pair in zip(expected, said, strict=True)] == [True] * len(expected), said


async def test_the_example_of_existing_nodes_is_accepted_without_a_word_where_nodes_are_brought(client: Client) -> None:
    [workspace] = documents("inference/kaito_workspace_existing_nodes.yaml")
    assert await tried(client, workspace, EXISTING_NODES) == []


@pytest.mark.parametrize("name", [name for name in MANIFESTS if "_HERE" in manifest(name)])
async def test_an_example_with_its_placeholders_is_refused_for_each_field_that_has_one(
    client: Client, name: str
) -> None:
    *_, workspace = yaml.safe_load_all(manifest(name))
    with pytest.raises(Invalid) as refused:
        await tried(client, workspace)
    blamed = {cause.field for cause in refused.value.causes if "is a placeholder of the example" in cause.message}
    assert blamed == set(placeholders(workspace))


@pytest.mark.parametrize("name", [name for name in MANIFESTS if name != ASKED_OF_THE_HUB])
def test_an_example_that_the_page_calls_refused_is_refused_by_the_operator_for_that_reason_and_no_other(
    name: str,
) -> None:
    [row] = [line for line in PAGE.splitlines() if f"]({name})" in line]
    expected = next(iter(re.findall(r"refused \(`(\w+)`\)", row)), "TuningNotSupported" if "tuning/" in name else None)
    assert refused_for(name) == expected


def refused_for(name: str) -> str | None:
    """Why the operator makes nothing of an example; None: it does."""
    *_, workspace = documents(name)
    try:
        Planner(CurrentCatalog(example_catalog())).plan(
            Workspace.model_validate(workspace | {"apiVersion": VERSIONS[1]})
        )
    except PlanError as error:
        return error.reason
    return None


def test_the_builtin_catalogue_has_nothing_of_the_catalogue_example() -> None:
    ours, builtin = example_catalog(), Catalog.load()
    assert ours.models.keys() - builtin.models.keys() == {"our-model"}
    assert ours.skus.keys() - builtin.skus.keys() == {"rack-b"}


def test_the_page_on_examples_lists_every_manifest_and_no_other() -> None:
    listed = re.findall(r"\]\(((?:inference|tuning|catalog)/[^)]*)\)", PAGE)
    assert sorted(listed) == MANIFESTS


@pytest.mark.parametrize("name", sorted(set(MANIFESTS) - ORIGINAL))
def test_an_example_says_at_its_top_what_it_shows_and_what_to_replace(name: str) -> None:
    comment = "".join(line for line in manifest(name).splitlines(keepends=True) if line.startswith("#"))
    assert manifest(name).startswith(comment)
    assert "# Replace: " in comment
