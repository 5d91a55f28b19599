"""What deploy/ has and docs/operator.md says: flags that exist, names that agree."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml

from kaito.cli.app import COMMANDS, load
from kaito.cli.catalog_flags import CatalogFlags
from kaito.cli.leader_election import ElectionFlags
from kaito.cli.operator_flags import OperatorFlags
from kaito.cli.place import Place
from kaito.cli.serving import LogFlags, ServingFlags
from kaito.cli.webhook import PORT, WebhookFlags

ROOT = Path(__file__).parents[3]
GROUPS = (Place, OperatorFlags, CatalogFlags, WebhookFlags, ServingFlags, ElectionFlags, LogFlags)


def deployed(name: str) -> dict[str, dict[str, Any]]:
    return {each["kind"]: each for each in yaml.safe_load_all((ROOT / "deploy" / name).read_text()) if each}


def test_the_table_of_flags_has_all_of_them_with_their_defaults() -> None:
    rows = re.findall(r"^\| `--([a-z-]+)` \|([^|]*)\|", (ROOT / "docs" / "operator.md").read_text(), re.MULTILINE)
    said = {name: default.strip(" `") for name, default in rows}
    real = {each.name.replace("_", "-"): str(each.default) for group in GROUPS for each in fields(group)}
    assert said == {name: {"None": "", "False": "no"}.get(value, value) for name, value in real.items()}


def test_the_flags_of_the_deployment_are_parsed() -> None:
    (container,) = deployed("manager.yaml")["Deployment"]["spec"]["template"]["spec"]["containers"]
    command, *arguments = container["args"]
    context = load(command, COMMANDS[command]).make_context(command, arguments)
    given = {each.name: context.params[each.name] for each in fields(OperatorFlags)}
    assert OperatorFlags(**given).options().node_provisioner == "byo"
    assert {each["containerPort"] for each in container["ports"]} == {8080, 8081, PORT}


def test_the_deployment_and_its_rights_agree_on_names() -> None:
    made, rights = deployed("manager.yaml"), deployed("rbac.yaml")
    assert made["ServiceAccount"] == rights["ServiceAccount"]
    assert (
        made["Deployment"]["spec"]["template"]["spec"]["serviceAccountName"]
        == made["ServiceAccount"]["metadata"]["name"]
    )
    namespaces = {each["metadata"].get("namespace") for each in made.values() if each["kind"] != "Namespace"}
    assert namespaces == {made["Namespace"]["metadata"]["name"]} == {rights["Role"]["metadata"]["namespace"]}
    labels = made["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert (
        made["Service"]["spec"]["selector"] == made["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    )
