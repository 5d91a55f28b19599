"""kaito.api.karpenter_v1alpha5 and karpenter_v1: the claims of nodes, as the kinds that Karpenter's users know."""

from typing import Any

import pytest

from kaito.api import all_crds, keys
from kaito.api.karpenter_v1 import NodeClaim
from kaito.api.karpenter_v1alpha5 import Machine


def definition(name: str) -> dict[str, Any]:
    return next(crd for crd in all_crds() if crd["metadata"]["name"] == name)


def columns(name: str) -> list[tuple[str, int]]:
    (version,) = definition(name)["spec"]["versions"]
    return [(column["name"], column.get("priority", 0)) for column in version["additionalPrinterColumns"]]


def rules(node: Any) -> int:
    if isinstance(node, dict):
        return len(node.get("x-kubernetes-validations", [])) + sum(rules(value) for value in node.values())
    return sum(rules(value) for value in node) if isinstance(node, list) else 0


def test_machines_columns_are_karpenter_cores() -> None:
    assert columns("machines.karpenter.sh") == [
        ("Type", 0),
        ("Zone", 0),
        ("Node", 0),
        ("Ready", 0),
        ("Age", 0),
        ("Capacity", 1),
        ("Provisioner", 1),
        ("Template", 1),
    ]


def test_node_claims_columns_are_karpenters() -> None:
    assert columns("nodeclaims.karpenter.sh") == [
        ("Type", 0),
        ("Capacity", 0),
        ("Zone", 0),
        ("Node", 0),
        ("Ready", 0),
        ("Age", 0),
        ("ImageID", 1),
        ("ID", 1),
        ("NodePool", 1),
        ("NodeClass", 1),
        ("Drifted", 1),
    ]


@pytest.mark.parametrize("name", ["machines.karpenter.sh", "nodeclaims.karpenter.sh"])
def test_claims_are_cluster_scoped_in_the_category_karpenter(name: str) -> None:
    spec = definition(name)["spec"]
    assert (spec["scope"], spec["names"]["categories"]) == ("Cluster", ["karpenter"])


def test_a_machine_needs_nothing_and_has_no_rules() -> None:
    machine = definition("machines.karpenter.sh")
    assert "required" not in machine["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    assert rules(machine) == 0


def test_a_node_claim_needs_a_spec() -> None:
    schema = definition("nodeclaims.karpenter.sh")["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    assert schema["required"] == ["spec"]
    assert schema["properties"]["spec"]["required"] == ["nodeClassRef", "requirements"]
    assert schema["properties"]["spec"]["properties"]["expireAfter"]["default"] == "720h"


def test_claims_live_where_karpenter_has_them() -> None:
    assert Machine.resource_type.path(None, "m") == "/apis/karpenter.sh/v1alpha5/machines/m"
    assert NodeClaim.resource_type.path(None, "n", "status") == "/apis/karpenter.sh/v1/nodeclaims/n/status"


def test_no_two_keys_say_the_same() -> None:
    labels = {
        name: value for name, value in vars(keys).items() if name.endswith(("_LABEL", "_ANNOTATION", "_FINALIZER"))
    }
    assert len(set(labels.values())) == len(labels)


def test_the_keys_of_our_own_are_reserved() -> None:
    assert {keys.WORKSPACE_LABEL, keys.WORKSPACE_NAMESPACE_LABEL, keys.WORKSPACE_UID_LABEL} <= set(keys.RESERVED_LABELS)
