"""kaito rbac: what it prints follows the flags, and is the same each time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from kaito.cli.app import app

RUNNER = CliRunner()
DEPLOYED = Path(__file__).parents[3] / "deploy" / "rbac.yaml"


def printed(*arguments: str) -> list[dict[str, Any]]:
    said = RUNNER.invoke(app, ["rbac", *arguments])
    assert said.exit_code == 0, said.output
    return [*yaml.safe_load_all(said.output)]


def verbs(objects: list[dict[str, Any]], resource: str) -> list[str]:
    rules = [rule for each in objects for rule in each.get("rules", [])]
    return [verb for rule in rules if resource in rule["resources"] for verb in rule["verbs"]]


def test_it_prints_an_account_its_role_and_the_binding() -> None:
    made = printed()
    assert [each["kind"] for each in made[:3]] == ["ServiceAccount", "ClusterRole", "ClusterRoleBinding"]
    assert made[0]["metadata"]["namespace"] == "kaito-system"
    assert made[2]["subjects"] == [{"kind": "ServiceAccount", "name": "kaito", "namespace": "kaito-system"}]
    assert all("*" not in rule["verbs"] + rule["resources"] + rule["apiGroups"] for rule in made[1]["rules"])


def test_it_prints_the_same_each_time() -> None:
    assert printed() == printed()


def test_the_file_in_deploy_is_what_it_prints() -> None:
    assert RUNNER.invoke(app, ["rbac"]).output == DEPLOYED.read_text(encoding="utf-8"), "run make rbac"


def test_account_and_name_can_be_chosen() -> None:
    made = printed("--service-account", "ml/runner", "--name", "gpus")
    assert (made[0]["metadata"]["name"], made[0]["metadata"]["namespace"]) == ("runner", "ml")
    assert {each["metadata"]["name"] for each in made[1:3]} == {"gpus"}


def test_a_part_of_the_operator_gets_a_part_of_the_rights() -> None:
    assert "patch" in verbs(printed(), "nodes")
    alone = printed("--controllers", "workspace")
    assert verbs(alone, "nodes") == ["get", "list", "watch"]
    assert verbs(alone, "pods/eviction") == []
    assert verbs(printed("--controllers", "machine"), "deployments") == []


def test_an_operator_that_makes_no_nodes_may_not_touch_any() -> None:
    assert verbs(printed("--node-provisioner", "byo"), "nodes") == ["get", "list", "watch"]
    assert "create" in verbs(printed("--node-provisioner", "byo", "--cloud", "kwok"), "nodes")


def test_leases_are_allowed_where_the_manager_has_them() -> None:
    def of_leases(*arguments: str) -> list[str]:
        return [
            each["metadata"]["namespace"]
            for each in printed(*arguments)
            if any("leases" in rule["resources"] for rule in each.get("rules", []))
        ]

    assert of_leases() == ["kaito-system"]
    assert of_leases("--service-account", "ml/runner") == ["ml"]
    assert of_leases("--leader-election-namespace", "elections") == ["elections"]
    assert of_leases("--no-leader-elect") == []


def test_the_webhook_and_the_catalogue_get_rights_to_their_own_objects_alone() -> None:
    def named(objects: list[dict[str, Any]], resource: str) -> list[tuple[list[str], list[str]]]:
        rules = [rule for each in objects for rule in each.get("rules", []) if resource in rule["resources"]]
        return [(rule.get("resourceNames", []), rule["verbs"]) for rule in rules]

    # Of other Secrets it may read those whose names Workspaces tell it, and find none by itself.
    a_models_token: tuple[list[str], list[str]] = ([], ["get"])
    assert named(printed(), "secrets") == [a_models_token, ([], ["create"]), (["kaito-webhook"], ["update"])]
    assert named(printed(), "configmaps") == [([], ["get"]), (["kaito-catalog"], ["list", "watch"])]
    assert named(printed(), "validatingwebhookconfigurations")[1][0] == ["kaito"]
    assert named(printed("--webhook-cert-dir", "/certs"), "secrets") == [a_models_token]
    without = printed("--webhook-port", "0", "--catalog-config-map", "")
    for resource in ("configmaps", "validatingwebhookconfigurations"):
        assert named(without, resource) == []
    assert named(without, "secrets") == [a_models_token]
    elsewhere = printed("--catalog-config-map", "data/models")
    assert [each["metadata"].get("namespace") for each in elsewhere if named([each], "configmaps")] == [None, "data"]
    assert named(printed("--controllers", "machine"), "secrets") == []


def test_json_is_one_list() -> None:
    said = RUNNER.invoke(app, ["rbac", "--format", "json"])
    assert [each["kind"] for each in json.loads(said.output)["items"]] == [each["kind"] for each in printed()]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--service-account", "kaito"], "--service-account is 'kaito'; give NAMESPACE/NAME"),
        (["--controllers", "wrong"], "--controllers: wrong; choose from workspace, machine, gpu-provisioner"),
    ],
)
def test_a_mistake_in_the_flags_is_one_line(arguments: list[str], text: str) -> None:
    said = RUNNER.invoke(app, ["rbac", *arguments])
    assert said.exit_code == 1
    assert text in said.output
