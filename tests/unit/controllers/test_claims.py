"""Claims: one abstraction, two wire kinds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kaito.api.karpenter_v1 import NodeClaim
from kaito.api.karpenter_v1alpha5 import Machine
from kaito.controllers.claims import (
    MACHINE,
    NODE_CLAIM,
    ClaimKind,
    ClaimRequest,
    MadeFor,
    first_unmet,
    instance_type_of,
    is_managed,
    lost_marks,
    made_for,
)

REQUEST = ClaimRequest("ws1", "Standard_NC6s_v3", 80, {"kaito.sh/workspace": "phi", "apps": "phi-3"})


@pytest.mark.parametrize("kind", [MACHINE, NODE_CLAIM], ids=["machine", "nodeclaim"])
def test_a_request_becomes_a_claim_of_either_kind(kind: ClaimKind) -> None:
    claim = kind.build(REQUEST)
    assert isinstance(claim, kind.kind)
    assert claim.metadata.name == "ws1"
    assert claim.metadata.labels.items() >= REQUEST.labels.items()
    assert instance_type_of(claim) == "Standard_NC6s_v3"
    assert claim.spec.resources.requests == {"storage": "80Gi"}
    assert [(taint.key, taint.value, taint.effect) for taint in claim.spec.taints] == [("sku", "gpu", "NoSchedule")]
    assert is_managed(claim)


def test_a_machine_has_what_the_first_design_wrote() -> None:
    machine = MACHINE.build(REQUEST).to_dict()
    assert machine["metadata"]["labels"]["karpenter.sh/provisioner-name"] == "default"
    assert machine["spec"]["machineTemplateRef"] == {"name": "ws1"}
    assert {each["key"]: each["values"] for each in machine["spec"]["requirements"]} == {
        "node.kubernetes.io/instance-type": ["Standard_NC6s_v3"],
        "karpenter.sh/provisioner-name": ["default"],
        "kaito.sh/machine-type": ["gpu"],
        "kubernetes.io/arch": ["amd64"],
        "kubernetes.io/os": ["linux"],
    }


def test_a_node_claim_is_never_expired_or_disrupted_by_karpenter() -> None:
    claim = NODE_CLAIM.build(REQUEST).to_dict()
    assert claim["spec"]["expireAfter"] == "Never"
    assert claim["metadata"]["annotations"] == {"karpenter.sh/do-not-disrupt": "true"}
    assert claim["metadata"]["labels"]["karpenter.sh/nodepool"] == "kaito"
    assert claim["spec"]["nodeClassRef"] == {"group": "kaito.sh", "kind": "KaitoNodeClass", "name": "default"}


@pytest.mark.parametrize(
    ("labels", "managed"),
    [({"kaito.sh/workspace": "w"}, True), ({"kaito.sh/ragengine": "r"}, True), ({"karpenter.sh/nodepool": "p"}, False)],
)
def test_a_claim_of_somebody_else_is_known_by_its_labels(
    machine: Callable[..., Machine], labels: dict[str, str], managed: bool
) -> None:
    assert is_managed(machine(metadata={"labels": labels})) == managed


@pytest.mark.parametrize(
    "metadata",
    [
        {"labels": {"kaito.sh/workspace-uid": "u"}},
        {"labels": {}, "annotations": {"kaito.sh/made-for": "default/phi/u"}},
        {"labels": {}, "finalizers": ["karpenter.sh/termination"]},
    ],
    ids=["the uid is left", "the annotation is left", "name and finalizer are left"],
)
def test_a_claim_of_ours_stays_ours_while_any_mark_is_left(
    machine: Callable[..., Machine], metadata: dict[str, Any]
) -> None:
    assert is_managed(machine(metadata=metadata))


@pytest.mark.parametrize(
    ("name", "finalizers"), [("general-x7k2p", ["karpenter.sh/termination"]), ("ws012345678", ["theirs"])]
)
def test_neither_a_finalizer_nor_a_name_alone_makes_a_claim_ours(
    machine: Callable[..., Machine], name: str, finalizers: list[str]
) -> None:
    assert not is_managed(machine(name, metadata={"labels": {}, "finalizers": finalizers}))


def test_marks_that_somebody_took_off_or_changed_are_put_back_from_the_annotation(
    machine: Callable[..., Machine],
) -> None:
    labels = MadeFor("default", "phi", "u").labels
    annotations = {"kaito.sh/made-for": "default/phi/u"}
    assert lost_marks(machine(metadata={"labels": labels, "annotations": annotations})) == {}
    for name in labels:
        others = {key: value for key, value in labels.items() if key != name}
        for changed in (others, {**others, name: "nonsense"}):
            claim = machine(metadata={"labels": changed, "annotations": annotations})
            assert made_for(claim) == MadeFor("default", "phi", "u")
            assert lost_marks(claim) == {"labels": {name: labels[name]}}
    assert lost_marks(machine(metadata={"labels": labels})) == {"annotations": annotations}


def test_claims_of_an_upstream_kaito_get_no_marks_of_ours(machine: Callable[..., Machine]) -> None:
    labels = {"kaito.sh/workspace": "phi", "kaito.sh/workspacenamespace": "default"}
    assert lost_marks(machine(metadata={"labels": labels})) == {}


@pytest.mark.parametrize(("group", "managed"), [("kaito.sh", True), ("karpenter.azure.com", False)])
def test_a_node_claim_without_our_labels_is_known_by_its_node_class(group: str, managed: bool) -> None:
    spec = {"nodeClassRef": {"group": group, "kind": "KaitoNodeClass", "name": "default"}, "requirements": []}
    assert is_managed(NodeClaim.model_validate({"metadata": {"name": "n"}, "spec": spec})) == managed


@pytest.mark.parametrize(
    ("conditions", "step", "why"),
    [
        ([], "MachineLaunched", "not looked at yet by the machine controller"),
        ([("MachineLaunched", "False", "quota is 0")], "MachineLaunched", "quota is 0"),
        (
            [("MachineLaunched", "True", ""), ("MachineRegistered", "Unknown", "node has not joined")],
            "MachineRegistered",
            "node has not joined",
        ),
    ],
)
def test_the_first_step_that_was_not_taken_is_told(
    machine: Callable[..., Machine], conditions: list[Any], step: str, why: str
) -> None:
    status = {"conditions": [{"type": kind, "status": value, "message": text} for kind, value, text in conditions]}
    assert first_unmet(MACHINE, machine(status=status)) == (step, why)
