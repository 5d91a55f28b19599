"""kaito.api.all_crds and `kaito crds`: what is generated is what is committed."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.testing import CliRunner

from kaito.api import all_crds, kaito_v1alpha1, kaito_v1beta1
from kaito.api.karpenter_v1 import NodeClaim
from kaito.api.karpenter_v1alpha5 import Machine
from kaito.cli.crds import CRDFormat, crd_files, crds, render
from kaito.kube.crd import resource_schema

OWN = (".apiVersion", ".kind", ".metadata")
COMMITTED = Path(__file__).parents[3] / "deploy" / "crds"


def run(*arguments: str) -> str:
    app = typer.Typer()
    app.command()(crds)
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_committed_files_are_what_the_models_say() -> None:
    committed = {path.name: path.read_text(encoding="utf-8") for path in COMMITTED.iterdir()}
    generated = crd_files()
    stale = sorted(name for name in committed.keys() | generated if committed.get(name) != generated.get(name))
    assert not stale, f"deploy/crds: {', '.join(stale)} differ from the models of kaito.api; run make crds"


def test_standard_output_is_every_definition_as_yaml_documents() -> None:
    documents = list(yaml.safe_load_all(run()))
    assert documents == all_crds()
    names = [document["metadata"]["name"] for document in documents]
    assert names == ["machines.karpenter.sh", "nodeclaims.karpenter.sh", "workspaces.kaito.sh"]


def test_json_is_one_list_that_kubectl_takes() -> None:
    document = json.loads(run("--format", "json"))
    assert (document["kind"], document["items"]) == ("List", all_crds())


@pytest.mark.parametrize("output_format", list(CRDFormat))
def test_output_writes_one_file_for_each_definition(tmp_path: Path, output_format: CRDFormat) -> None:
    folder = tmp_path / "not" / "there"
    printed = run("--output", str(folder), "--format", output_format)
    files = sorted(folder.iterdir())
    assert sorted(printed.split()) == [str(path) for path in files]
    definitions = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in files]
    assert sorted(definitions, key=lambda each: str(each["metadata"]["name"])) == all_crds()


def test_the_text_is_the_same_each_time_and_has_no_anchors() -> None:
    text = render(all_crds(), CRDFormat.YAML)
    assert text == render(all_crds(), CRDFormat.YAML)
    assert not re.search(r"[&*]id\d", text)


def schemas() -> Iterator[dict[str, Any]]:
    for definition in all_crds():
        for version in definition["spec"]["versions"]:
            yield version["schema"]["openAPIV3Schema"]


def nodes(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield schema
    children = [*schema.get("properties", {}).values()]
    children += [schema[key] for key in ("items", "additionalProperties") if key in schema]
    for child in children:
        yield from nodes(child)


def test_every_node_of_a_schema_has_a_type_and_none_is_open_by_accident() -> None:
    for schema in schemas():
        assert "x-kubernetes-preserve-unknown-fields" not in schema
        for node in nodes(schema):
            assert "type" in node or node.get("x-kubernetes-int-or-string"), node
            assert not {"$ref", "title", "allOf", "oneOf", "nullable"} & node.keys(), node


def test_every_rule_says_what_is_wrong() -> None:
    rules = [
        rule for schema in schemas() for node in nodes(schema) for rule in node.get("x-kubernetes-validations", [])
    ]
    assert rules
    assert all(rule["message"] and "\n" not in rule["message"] for rule in rules)


def test_every_rule_can_be_told_in_python_too() -> None:
    kinds = (kaito_v1alpha1.Workspace, kaito_v1beta1.Workspace, Machine, NodeClaim)
    rules = [
        rule
        for kind in kinds
        for node in nodes(resource_schema(kind))
        for rule in node.get("x-kubernetes-validations", [])
    ]
    assert len(rules) > 60
    assert [rule.rule for rule in rules if rule.holds is None] == []


def described(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, str]]:
    for name, child in schema.get("properties", {}).items():
        yield f"{path}.{name}", child.get("description", "")
        yield from described(child, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from described(schema[key], f"{path}[]")


def test_kubectl_explain_has_a_useful_text_for_every_field() -> None:
    # The API server has its own texts for these.
    texts = [entry for schema in schemas() for entry in described(schema) if not entry[0].startswith(OWN)]
    assert len(texts) > 150
    assert [path for path, text in texts if len(text) < 25] == []
    assert [path for path, text in texts if not (text[0].isupper() and text.endswith("."))] == []


def test_each_definition_is_small_enough_for_kubectl_apply() -> None:
    # Which keeps the whole of it in an annotation.
    assert max(len(json.dumps(definition)) for definition in all_crds()) < 200_000


def test_definitions_tell_themselves_from_a_karpenter_that_was_there_before() -> None:
    assert all(crd["metadata"]["labels"] == {"app.kubernetes.io/part-of": "kaito"} for crd in all_crds())
