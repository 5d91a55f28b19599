"""The planner: what a Workspace needs, and refusals that name field, given value and choices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kaito.api.kaito_v1beta1 import Workspace
from kaito.catalog import CurrentCatalog
from kaito.controllers.workspace.plan import PlanError, Planner

Make = Callable[..., Workspace]


@pytest.fixture
def planner() -> Planner:
    return Planner(CurrentCatalog())


def test_a_model_that_fits_gets_a_node_with_all_its_gpus(planner: Planner, workspace: Make) -> None:
    plan = planner.plan(workspace())
    assert (plan.nodes, plan.gpus_per_node, plan.runtime) == (1, 1, "transformers")
    assert plan.makes_nodes
    assert plan.node_labels == {"apps": "phi-3"}


def test_a_big_model_spreads_over_as_many_nodes_as_it_needs(planner: Planner, workspace: Make) -> None:
    plan = planner.plan(workspace("llama-3.3-70b-instruct", "Standard_NC24ads_A100_v4"))
    assert plan.nodes > 1
    assert plan.runtime == "vllm"


def test_labels_that_the_controller_sets_are_not_taken_from_the_selector(planner: Planner, workspace: Make) -> None:
    labels = {"apps": "phi-3", "kaito.sh/workspace": "another"}
    assert planner.plan(workspace(labels=labels)).node_labels == {"apps": "phi-3"}


@pytest.mark.parametrize("existing_only", [True, False])
def test_without_an_instance_type_or_with_byo_existing_nodes_are_used(workspace: Make, existing_only: bool) -> None:
    planner = Planner(CurrentCatalog(), use_existing_nodes=existing_only)
    plan = planner.plan(workspace(instance_type="Standard_NC6s_v3" if existing_only else "", count=2))
    assert not plan.makes_nodes
    assert plan.nodes == 2


def test_with_byo_an_instance_type_that_nobody_knows_does_no_harm(workspace: Make) -> None:
    planner = Planner(CurrentCatalog(), use_existing_nodes=True)
    assert not planner.plan(workspace(instance_type="my-own-machine")).makes_nodes


def test_the_annotation_chooses_the_runtime_over_the_managers_default(workspace: Make) -> None:
    planner = Planner(CurrentCatalog(), "vllm")
    asked = workspace(instance_type="Standard_NC24ads_A100_v4", annotations={"kaito.sh/runtime": "transformers"})
    assert planner.plan(asked).runtime == "transformers"
    assert planner.plan(workspace(instance_type="Standard_NC24ads_A100_v4")).runtime == "vllm"


REFUSALS: dict[str, tuple[dict[str, Any], str, str, tuple[str, ...]]] = {
    "preset": (
        {"preset": "phi-3-mini-4k-instrukt"},
        "UnknownPreset",
        "inference.preset.name",
        ("phi-3-mini-4k-instrukt", "phi-3-mini-4k-instruct"),
    ),
    "instance type": (
        {"instance_type": "Standard_NC6s_v33"},
        "UnknownInstanceType",
        "resource.instanceType",
        ("Standard_NC6s_v33", "Standard_NC6s_v3"),
    ),
    "too small": (
        {"preset": "llama-3.3-70b-instruct"},
        "DoesNotFit",
        "resource.instanceType",
        ("Standard_NC6s_v3", "choose Standard_"),
    ),
    "runtime of the GPU": (
        {"annotations": {"kaito.sh/runtime": "vllm"}},
        "DoesNotFit",
        "resource.instanceType",
        ("vllm", "CUDA 8.0", "CUDA 7.0"),
    ),
    "runtime": (
        {"annotations": {"kaito.sh/runtime": "vlm"}},
        "UnknownRuntime",
        "metadata.annotations[kaito.sh/runtime]",
        ('"vlm"', "vllm or transformers"),
    ),
    "template": (
        {"inference": {"template": {"spec": {"containers": [{"name": "a", "image": "b"}]}}}},
        "TemplateNotSupported",
        "inference.template",
        ("name a preset",),
    ),
    "tuning": (
        {
            "inference": None,
            "tuning": {
                "preset": {"name": "phi-3-mini-4k-instruct"},
                "method": "qlora",
                "input": {"urls": ["https://example.com/data"]},
                "output": {"image": "registry.example.com/out:1", "imagePushSecret": "push"},
            },
        },
        "TuningNotSupported",
        "tuning",
        ("use inference",),
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_a_refusal_names_field_given_value_and_choices(planner: Planner, workspace: Make, case: str) -> None:
    changes, reason, field, words = REFUSALS[case]
    with pytest.raises(PlanError) as refusal:
        planner.plan(workspace(**changes))
    error = refusal.value
    assert (error.reason, error.field) == (reason, field)
    assert error.message.startswith(f"{field}: ")
    assert [word for word in words if word not in error.message] == []


def test_who_knows_better_gets_as_many_nodes_as_they_say(planner: Planner, workspace: Make) -> None:
    bypass = {"kaito.sh/bypass-resource-checks": ""}
    plan = planner.plan(workspace("llama-3.3-70b-instruct", "Standard_NC6s_v3", count=2, annotations=bypass))
    assert (plan.nodes, plan.gpus_per_node, plan.makes_nodes) == (2, 1, True)


@pytest.mark.parametrize(
    ("name", "count", "said"),
    [
        ("a" * 53, 2, "has 53 characters; for a model on 2 nodes at most 52 are allowed"),
        ("a" * 60, 2, "at most 52 are allowed"),
        ("a" * 64, 1, "has 64 characters; for its Service at most 63 are allowed"),
        ("phi.3", 1, "beginning with a letter"),
        ("3-phi", 1, "beginning with a letter"),
    ],
)
def test_a_name_that_what_is_made_cannot_bear_is_refused(workspace: Make, name: str, count: int, said: str) -> None:
    made = workspace(count=count)
    renamed = made.model_copy(update={"metadata": made.metadata.model_copy(update={"name": name})})
    with pytest.raises(PlanError) as refused:
        Planner(CurrentCatalog()).plan(renamed)
    assert refused.value.reason == "InvalidName"
    assert refused.value.message.startswith(f'metadata.name: "{name}"')
    assert said in refused.value.message


@pytest.mark.parametrize(("name", "count"), [("a" * 52, 2), ("a" * 63, 1), ("phi-3", 1)])
def test_a_name_at_the_limit_is_taken(workspace: Make, name: str, count: int) -> None:
    made = workspace(count=count)
    renamed = made.model_copy(update={"metadata": made.metadata.model_copy(update={"name": name})})
    assert Planner(CurrentCatalog()).plan(renamed).nodes == count
