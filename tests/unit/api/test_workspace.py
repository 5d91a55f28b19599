"""kaito.api.workspace: the kind of both served versions."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from kaito.api import all_crds, kaito_v1alpha1, kaito_v1beta1
from kaito.api.workspace import WantedClaim, WorkspaceBase
from kaito.kube import ObjectMeta

EXAMPLES = Path(__file__).parents[3] / "examples"
MANIFESTS = sorted(EXAMPLES.glob("*/kaito_workspace_*.yaml"))
VERSIONS = (kaito_v1alpha1.Workspace, kaito_v1beta1.Workspace)


def manifest(name: str) -> dict[str, Any]:
    documents: list[dict[str, Any]] = [*yaml.safe_load_all((EXAMPLES / name).read_text(encoding="utf-8"))]
    return next(document for document in documents if document["kind"] == "Workspace")


def versions() -> dict[str, dict[str, Any]]:
    definition = next(crd for crd in all_crds() if crd["metadata"]["name"] == "workspaces.kaito.sh")
    return {version["name"]: version for version in definition["spec"]["versions"]}


def test_the_walk_through_is_shipped() -> None:
    assert {path.stem.removeprefix("kaito_workspace_") for path in MANIFESTS} >= {
        "phi_3",
        "phi_3_with_adapters",
        "tuning_phi_3_4k",
        "tuning_phi_3_128k",
    }


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_the_manifests_of_the_examples_are_read_and_written_back_whole(path: Path) -> None:
    wire = manifest(str(path.relative_to(EXAMPLES)))
    workspace = kaito_v1alpha1.Workspace.model_validate_json(json.dumps(wire))
    assert json.loads(json.dumps(workspace.to_dict())) == wire
    assert not workspace.model_extra


NULLS: dict[str, Any] = {"metadata": {"creationTimestamp": None}, "spec": {"containers": [{"env": None}]}, "a": None}


@pytest.mark.parametrize("given", [{}, NULLS, {"spec": 5}, {"spec": {"containers": "none"}}, {"_draft": 1, "": [{}]}])
def test_whatever_is_stored_as_a_pod_template_or_a_volume_is_read_and_written_back_whole(given: dict[str, Any]) -> None:
    wire: dict[str, Any] = manifest("tuning/kaito_workspace_tuning_phi_3_4k.yaml") | {"inference": {"template": given}}
    wire["tuning"]["output"] = {"volumeSource": given}
    workspace = kaito_v1beta1.Workspace.model_validate_json(json.dumps(wire))
    assert json.loads(json.dumps(workspace.to_dict())) == wire


def test_fields_are_where_the_controller_reads_them() -> None:
    workspace = kaito_v1alpha1.Workspace.model_validate(manifest("inference/kaito_workspace_phi_3_with_adapters.yaml"))
    assert workspace.resource.instance_type == "Standard_NC6s_v3"
    assert workspace.resource.count == 1
    assert workspace.resource.label_selector.match_labels == {"apps": "phi-3-adapter"}
    assert workspace.tuning is None
    assert workspace.inference is not None
    assert workspace.inference.preset is not None
    assert workspace.inference.preset.name == "phi-3-mini-128k-instruct"
    (adapter,) = workspace.inference.adapters
    assert (adapter.source.name, adapter.strength) == ("phi-3-adapter", "1.0")


def test_both_versions_have_one_shape_so_that_neither_prunes_what_the_other_wrote() -> None:
    alpha, beta = versions()["v1alpha1"], versions()["v1beta1"]
    assert alpha["schema"] == beta["schema"]
    assert alpha["additionalPrinterColumns"] == beta["additionalPrinterColumns"]


def test_both_versions_are_served_and_v1beta1_is_stored() -> None:
    assert {name: (version["served"], version["storage"]) for name, version in versions().items()} == {
        "v1alpha1": (True, False),
        "v1beta1": (True, True),
    }


def test_the_columns_are_those_of_the_walk_through() -> None:
    columns = [column for column in versions()["v1beta1"]["additionalPrinterColumns"] if not column.get("priority")]
    assert [column["name"].upper() for column in columns] == [
        "INSTANCE",
        "RESOURCEREADY",
        "INFERENCEREADY",
        "WORKSPACEREADY",
        "AGE",
    ]


def test_defaults_that_the_api_server_writes_are_few() -> None:
    schema = versions()["v1beta1"]["schema"]["openAPIV3Schema"]["properties"]
    assert schema["resource"]["properties"]["count"]["default"] == 1
    assert "default" not in schema["resource"]["properties"]["instanceType"]
    assert schema["inference"]["properties"]["preset"]["properties"]["accessMode"]["default"] == "public"


@pytest.mark.parametrize("workspace_class", VERSIONS)
def test_what_the_controller_persists_before_it_makes_claims_survives_the_wire(
    workspace_class: type[WorkspaceBase],
) -> None:
    workspace = workspace_class.model_validate(
        {"metadata": {"name": "w"}, "resource": {"labelSelector": {"matchLabels": {"apps": "x"}}}}
    )
    draft = workspace.edit()
    draft.status.node_claims = (WantedClaim(ordinal=0, incarnation=2, name="ws012345678"),)
    wire = json.loads(json.dumps(draft.to_dict()))
    assert wire["status"] == {"nodeClaims": [{"ordinal": 0, "incarnation": 2, "name": "ws012345678"}]}
    assert workspace_class.model_validate(wire).status.node_claims == draft.status.node_claims


def test_an_object_that_was_stored_under_laxer_rules_can_still_be_read() -> None:
    workspace = kaito_v1beta1.Workspace.model_validate(
        {
            "metadata": {"name": "w"},
            "resource": {"labelSelector": {}, "count": 5000},
            "inference": {"adapters": [{"source": {"image": "UPPER"}, "strength": "7"}] * 11},
            "tuning": {"preset": {"name": ""}, "method": "x" * 99, "input": {}, "output": {}},
        }
    )
    assert workspace.metadata == ObjectMeta(name="w")
