"""docs/workspace.md: every field, condition and annotation is there as it is, and its manifests are accepted."""

from __future__ import annotations

import copy
import itertools
import json
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml

from kaito.api import kaito_v1beta1, keys
from kaito.api.workspace import WORKSPACE_COLUMNS
from kaito.client import Client, load_config
from kaito.client.observed import warnings
from kaito.client.transport import Request
from kaito.controllers.workspace.admission.annotations import CHOICES, ONLY
from kaito.devcluster.controlplane import ControlPlane
from kaito.kube.crd import resource_schema
from kaito.kube.validation import faults
from tests.operating.bad_workspaces import VERSIONS
from tests.operating.cluster import install_crds
from tests.operating.judged_namespace import judged_namespace

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "workspace.md").read_text(encoding="utf-8")
NAMESPACE = "docs-workspace"
SCHEMA = resource_schema(kaito_v1beta1.Workspace)
ANNOTATIONS = {
    value
    for name, value in vars(keys).items()
    if name.endswith("_ANNOTATION") and value.startswith("kaito.sh/") and value != keys.MADE_FOR_ANNOTATION
}
KEYS = (ROOT / "kaito" / "api" / "keys.py").read_text(encoding="utf-8")
SOURCE = "\n".join(path.read_text() for path in (ROOT / "kaito" / "controllers" / "workspace").glob("*.py"))


def rows(heading: str) -> Iterator[list[str]]:
    """The cells of the tables whose first heading is this one."""
    for table in re.findall(rf"^\| {heading} \|.*\n\|[-|]+\n((?:\|.*\n)+)", PAGE, re.MULTILINE):
        for line in table.splitlines():
            yield [cell.strip() for cell in line.strip("|").split(" | ")]


def code(cell: str) -> list[str]:
    return re.findall(r"`([^`]*)`", cell)


def fields(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any], bool]]:
    """Path, schema and necessity of each field below one."""
    for name, child in schema.get("properties", {}).items():
        here = f"{path}.{name}" if path else name
        if here in ("apiVersion", "kind", "metadata"):
            continue
        yield here, child, name in schema.get("required", ())
        yield from fields(child, here)
        yield from fields(child.get("items", {}), f"{here}[]")
        yield from fields(child.get("additionalProperties", {}), f"{here}.*")


def type_of(schema: dict[str, Any]) -> str:
    if schema.get("x-kubernetes-preserve-unknown-fields"):
        return "open"
    if "additionalProperties" in schema:
        return "map"
    kind: str = schema["type"]
    return "list" if kind == "array" else kind


def default_of(schema: dict[str, Any], *, required: bool) -> str:
    return "required" if required else str(schema.get("default", "none"))


def test_every_field_stands_there_once_with_its_type_and_default_and_no_other() -> None:
    told = [(path, *row[1:3]) for row in rows("field") for path in code(row[0])]
    expected = [
        (path, type_of(schema), default_of(schema, required=required)) for path, schema, required in fields(SCHEMA)
    ]
    asked = [(path, kind, default.strip("`")) for path, kind, default in told if not path.startswith("status")]
    assert sorted(asked) == sorted(entry for entry in expected if not entry[0].startswith("status"))
    given = [(path, kind) for path, kind, _text in told if path.startswith("status")]
    assert sorted(given) == sorted(entry[:2] for entry in expected if entry[0].startswith("status"))


NODES = {"count": 1, "labelSelector": {"matchLabels": {"a": "b"}}}
PRESET = {
    "name": "m",
    "accessMode": "public",
    "presetOptions": {"image": "i", "imagePullSecrets": ["s"], "modelAccessSecret": "s"},
}
FILES = {"name": "n", "image": "i", "imagePullSecrets": ["s"]}
SERVED = {"preset": PRESET, "config": "c", "adapters": [{"strength": "0", "source": FILES}]}
WHOLE: tuple[dict[str, Any], ...] = (
    {"resource": NODES | {"instanceType": "t", "preferredNodes": ["n"]}, "inference": SERVED},
    {"resource": NODES | {"partition": {"mode": "mig", "profile": "1g.5gb", "count": 1}}, "inference": SERVED},
    {
        "resource": {
            "labelSelector": {
                "matchLabels": {"a": "b"},
                "matchExpressions": [{"key": "k", "operator": "In", "values": ["v"]}],
            }
        },
        "inference": {"template": {"spec": {}}, "adapters": [{"source": {"volumeSource": {}, "urls": ["u"]}}]},
    },
    {
        "resource": NODES,
        "tuning": {
            "preset": PRESET,
            "method": "lora",
            "config": "c",
            "input": FILES | {"urls": ["u"], "volumeSource": {}},
            "output": {"image": "i", "imagePushSecret": "s", "volumeSource": {}},
        },
    },
)
"""Workspaces in which, taken together, each field has a value; no good ones, since only changes are looked at."""


def changed(whole: dict[str, Any], path: str) -> dict[str, Any] | None:
    """A copy in which the field has another value; None: it has not the field, or one with fields of its own."""
    copied = copy.deepcopy(whole)
    node: Any = copied
    *way, last = path.replace("[]", ".0").split(".")
    for step in way:
        node = node[int(step)] if step.isdigit() and node else node.get(step) if isinstance(node, dict) else None
        if not node:
            return None
    if not isinstance(node, dict) or last not in node:
        return None
    match node[last]:
        case str() as text:
            node[last] = {"mig": "accelerator", "public": "private", "In": "NotIn"}.get(text, f"{text}1")
        case int() as number:
            node[last] = number + 1
        case list() as items if all(isinstance(item, str) for item in items):
            node[last] = [*items, "other"]
        case dict() as labels if path.endswith(("matchLabels", "volumeSource", "template")):
            node[last] = labels | {"other": "value"}
        case _:
            return None
    return copied


def test_what_the_tables_say_may_change_may_and_what_may_not_is_refused() -> None:
    told = {path: row[3] == "yes" for row in rows("field") if len(row) > 4 for path in code(row[0])}
    found = {}
    for path, whole in itertools.product(told, WHOLE):
        new = changed(whole, path)
        if new is not None:
            refused = faults(kaito_v1beta1.Workspace, new, whole)
            found[path] = not any("cannot be changed" in fault.message for fault in refused)
    assert len(found) > 35
    assert found == {path: told[path] for path in found}


def test_every_annotation_of_users_stands_there_with_the_values_that_it_may_have() -> None:
    told = {code(row[0])[0]: code(row[1]) for row in rows("annotation")}
    assert told.keys() == ANNOTATIONS
    allowed = {**CHOICES, **{name: (only,) for name, (only, _effect) in ONLY.items()}}
    assert {name: told[name] for name in allowed} == {name: list(values) for name, values in allowed.items()}


def test_every_column_stands_there() -> None:
    told = [name for row in rows("column") for name in re.findall(r"[A-Z]{4,}", row[0])]
    assert told == [column.name.upper() for column in WORKSPACE_COLUMNS if column.name != "Age"]


def test_every_condition_that_the_controller_writes_stands_there_and_of_the_others_that_it_does_not() -> None:
    own = KEYS.partition("# Condition types of a Workspace.")[2].partition("# Condition types")[0]
    names = re.findall(r"^([A-Z_]+): Final", own, re.MULTILINE)
    written = {name for name in names if re.search(rf"keys\.{name}\b", SOURCE)}
    assert {name for row in rows("type") for name in code(row[0])} == {getattr(keys, name) for name in written}
    [others] = re.findall(r"^(.*) are KAITO's, and not written yet", PAGE, re.MULTILINE)
    assert set(code(others)) == {getattr(keys, name) for name in set(names) - written}


def test_every_reason_that_the_controller_gives_stands_there() -> None:
    called = r"(?:PlanError|Supply)\(\s*(?:False, )?|report\.(?:true|false)\([\w.]+, |_refuse\(key, "
    given = set(re.findall(rf'(?:{called})"(\w+)"', SOURCE))
    assert len(given) > 12
    assert given - set(code("".join(row[0] for row in rows("reason")))) == set()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def judged(control_plane: ControlPlane) -> AsyncIterator[Client]:
    await install_crds(control_plane)
    async with Client.from_config(load_config(control_plane.kubeconfig)) as client, judged_namespace(client, NAMESPACE):
        yield client


@pytest.mark.parametrize("api_version", VERSIONS)
async def test_its_manifests_are_accepted_without_a_warning(judged: Client, api_version: str) -> None:
    documents = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)]
    manifests = [document | {"apiVersion": api_version} for document in documents if "kind" in document]
    assert manifests
    for manifest in manifests:
        path = f"/apis/{api_version}/namespaces/{NAMESPACE}/workspaces"
        query = (("dryRun", "All"), ("fieldValidation", "Strict"))
        answer = await judged.request(Request("POST", path, "create", query, json.dumps(manifest).encode()))
        assert list(warnings(answer.headers.get("warning", ""))) == []
