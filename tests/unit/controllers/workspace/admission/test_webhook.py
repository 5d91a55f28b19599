"""What the webhook says of Workspaces as a whole: everything at once, ratcheting, ConfigMaps, and never a 5xx."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kaito.controllers.workspace.admission.config_maps import LONGEST_TEXT
from kaito.testing.fake_api import Fault, Hang, Refuse
from tests.operating.bad_workspaces import BY_RULES, BY_WEBHOOK, good_workspaces, with_changes
from tests.operating.wild_workspaces import JSON, PLACES, spoiled
from tests.unit.controllers.workspace.admission.court import Court, Said, review

GOOD = good_workspaces(BY_RULES) | good_workspaces(BY_WEBHOOK)


def workspace(base: str = "inference", **changes: Any) -> dict[str, Any]:
    fields = {path.replace("__", "."): value for path, value in changes.items()}
    return with_changes({"apiVersion": "kaito.sh/v1beta1"} | GOOD[base], fields)


CONFIGURED = workspace(inference__config="settings")


async def test_every_kind_of_fault_is_told_in_one_refusal_in_the_order_of_the_fields() -> None:
    bad = workspace(
        metadata__annotations={"kaito.sh/runtime": "vlm"},
        resource__count="two",
        resource__instanceType="Standard_NC6s_v3",
        inference__preset={"name": "phi-4", "accessMode": "secret"},
        inference__config="nowhere",
        inference__adapters=[{"source": {"name": "a", "image": "example.com/a:1"}, "strength": "2"}],
    )
    said = await Court().judge(bad)
    assert list(said.causes) == [
        "inference.adapters[0].strength",
        "inference.config",
        "inference.preset.accessMode",
        "metadata.annotations[kaito.sh/runtime]",
        "resource.count",
        "resource.instanceType",
    ]
    assert said.message.startswith('Workspace.kaito.sh "bad-inference" is invalid: [inference.adapters[0].strength: ')


async def test_what_cannot_be_read_is_told_once_and_nothing_that_follows_from_it() -> None:
    said = await Court().judge(workspace(inference=5))
    assert list(said.causes) == ["inference"]
    said = await Court().judge(workspace("tuning", resource__instanceType=5))
    assert list(said.causes) == ["resource.instanceType"]
    assert "must be of type string" in said.causes["resource.instanceType"]


async def test_a_hundred_faults_are_not_all_listed() -> None:
    containers = [{"name": "", "image": ""} for _ in range(100)]
    said = await Court().judge(workspace("template", inference__template={"spec": {"containers": containers}}))
    assert len(said.causes) == 41
    assert list(said.causes.values())[-1] == "and 160 more faults from here on"
    indices = [int(field.split("[")[1].split("]")[0]) for field in said.causes]
    assert indices == sorted(indices)


async def test_a_fault_from_before_only_warns_and_a_new_one_refuses() -> None:
    court = Court()
    old = workspace(inference__preset={"name": "phi-2"})
    said = await court.judge(with_changes(old, {"metadata.annotations": {"a": "b"}}), old)
    assert said.allowed
    assert any("deprecated" in warning and "as before" in warning for warning in said.warnings)
    said = await court.judge(with_changes(old, {"metadata.annotations": {"kaito.sh/runtime": "x"}}), old)
    assert list(said.causes) == ["metadata.annotations[kaito.sh/runtime]"]


async def test_a_change_of_labels_finalizers_or_status_is_not_judged() -> None:
    old = workspace(inference__preset={"name": "phi-2"})
    new = with_changes(
        old, {"metadata.finalizers": ["a/b"], "metadata.labels": {"a": "b"}, "status": {"state": "Ready"}}
    )
    said = await Court().judge(new, old)
    assert (said.allowed, said.warnings) == (True, [])


async def test_the_managers_record_of_a_model_is_let_in_without_a_word_whatever_it_says() -> None:
    court = Court()
    for record in ('{"name": "model"}', "{", "x" * 10_000):
        new = workspace(metadata__annotations={"kaito.sh/resolved-model": record})
        assert await court.judge(new, workspace()) == (True, {}, [], "")
        # The rest is judged as ever.
        assert not (await court.judge(with_changes(new, {"resource.instanceType": "x"}))).allowed


async def test_what_another_webhook_put_in_after_the_first_time_is_refused_the_second_time() -> None:
    spoiled_later = workspace(inference__preset={"name": "phi-44"})
    said = await Court().phase("validate", spoiled_later)
    assert list(said.causes) == ["inference.preset.name"]
    said = await Court().phase(
        "validate", with_changes(workspace(), {"metadata.annotations": {"kaito.sh/runtime": "x"}})
    )
    assert list(said.causes) == ["metadata.annotations[kaito.sh/runtime]"]


async def test_an_object_that_is_being_deleted_is_not_judged() -> None:
    new = workspace(inference__preset={"name": "phi-2"}, metadata__deletionTimestamp="2026-01-01T00:00:00Z")
    assert (await Court().judge(new, workspace())).allowed


async def test_an_instance_type_may_be_cleared_where_nodes_are_brought() -> None:
    cleared = workspace(resource__instanceType=None)
    assert (await Court("byo").judge(cleared, workspace())).allowed
    assert not (await Court("machine").judge(cleared, workspace())).allowed


@pytest.mark.parametrize("given_type", ["standard_nc24ads_a100_v4", "STANDARD_NC24ADS_A100_V4"])
async def test_names_are_known_in_any_case_of_letters(given_type: str) -> None:
    said = await Court().judge(
        workspace(resource__instanceType=given_type, inference__preset={"name": "Microsoft/PHI-3-mini-4k-INSTRUCT"})
    )
    assert (said.allowed, said.warnings) == (True, [])


@pytest.mark.parametrize(
    ("changes", "warning"),
    [
        ({"resource__instanceType": "Standard_ND96asr_A100_v4"}, '"Standard_ND96asr_A100_v4" is another name of '),
        ({"resource__instanceType": "Standard_NC6s_v3"}, "was retired by azure on 2025-09-30"),
        ({"resource__instanceType": None}, "not given, so no node is made"),
        ({"resource__preferredNodes": ["a"]}, "has no effect"),
        ({"resource__labelSelector__matchLabels": {"kaito.sh/workspace": "a", "b": "c"}}, "left out of account"),
        ({"inference__preset": {"name": "org/model"}}, '"org/model" is not in the catalogue; it gets no node before'),
        ({"inference__preset": {"name": "microsoft/phi-44"}}, 'did you mean "microsoft/phi-4"?'),
        ({"metadata__annotations": {"kaito.sh/node-class-name": "x"}}, "has no effect here"),
        ({"metadata__annotations": {"kaito.sh/enable-lb": "True"}}, 'did you mean "kaito.sh/enablelb"?'),
        ({"resource__count": 3}, "3 were asked for"),
        (
            {"inference__preset": {"name": "llama-3.3-70b-instruct", "presetOptions": {"modelAccessSecret": "s"}}},
            "resource.count: llama-3.3-70b-instruct needs 3 nodes of Standard_NC24ads_A100_v4, and so many are made",
        ),
        ({"inference__preset__accessMode": "private"}, "inference.preset.accessMode: deprecated and without effect"),
        (
            {"inference__preset__presetOptions": {"image": "example.com/a:1"}},
            "inference.preset.presetOptions.image: deprecated and without effect",
        ),
        (
            {"inference__preset__presetOptions": {"imagePullSecrets": ["a"]}},
            "inference.preset.presetOptions.imagePullSecrets: deprecated and without effect",
        ),
    ],
)
async def test_what_is_odd_is_let_in_with_a_warning(changes: dict[str, Any], warning: str) -> None:
    said = await Court().judge(workspace(**changes))
    assert said.allowed, said
    assert any(warning in text for text in said.warnings), said.warnings
    assert all(len(text) <= 256 for text in said.warnings)


@pytest.mark.parametrize(
    ("changes", "field", "cause"),
    [
        (
            {"inference__preset__accessMode": "Private"},
            "inference.preset.accessMode",
            'Unsupported value: "Private": supported values: "public", "private"; did you mean "private"?',
        ),
        (
            {"inference__preset__accessMode": "x" * 300},
            "inference.preset.accessMode",
            'x…: supported values: "public", "private"',
        ),
        (
            {"resource__labelSelector": None},
            "resource.labelSelector",
            "Required value: the labels that tell the Workspace's nodes from others",
        ),
        (
            {"inference__adapters": [{"strength": "1"}]},
            "inference.adapters[0].source",
            "Required value: the image or volume that holds the adapter, and the adapter's name",
        ),
        (
            {"metadata__name": "3x", "inference__preset__name": "phi-44"},
            "metadata.name",
            """Invalid value: "3x": the name is that of a Service too: """
            """at most 63 lower case letters, digits and '-', a letter first""",
        ),
    ],
)
async def test_a_fault_of_schema_or_rules_says_what_was_given_what_is_allowed_and_what_was_meant(
    changes: dict[str, Any], field: str, cause: str
) -> None:
    said = await Court().judge(workspace(**changes))
    assert said.causes[field].endswith(cause)


async def test_an_update_of_what_cannot_change_says_what_it_was_and_would_be() -> None:
    new = workspace(resource__instanceType="Standard_NC6s_v3", metadata__annotations={"kaito.sh/runtime": "x"})
    said = await Court().judge(new, workspace())
    assert said.causes["resource.instanceType"].startswith(
        'Forbidden: "Standard_NC24ads_A100_v4" cannot become "Standard_NC6s_v3": instanceType cannot be changed'
    )


async def test_what_was_not_there_is_to_be_left_out_and_what_was_to_be_put_back() -> None:
    field = "metadata.annotations[kaito.sh/model-streaming]"
    streaming = workspace(metadata__annotations={"kaito.sh/model-streaming": "disabled"})
    said = await Court().judge(streaming, workspace())
    assert "it was not there and cannot be changed: leave it out" in said.causes[field]
    said = await Court().judge(workspace(), streaming)
    assert 'it was "disabled" and cannot be changed: put it back' in said.causes[field]


async def test_a_number_that_is_too_long_for_its_field_is_told_with_the_field() -> None:
    said = await Court().phase("mutate", workspace(resource__count=10**12))
    assert "must be of type integer with format int32" in said.causes["resource.count"]


async def test_a_configuration_with_too_many_values_is_let_in_unchecked() -> None:
    text = "\n".join(f"k{number}: 1" for number in range(6000))
    said = await Court(config_maps={"settings": {"inference_config.yaml": text}}).judge(CONFIGURED)
    assert said.allowed
    assert "has more than 10000 values" in said.warnings[0]


async def test_an_option_of_vllm_outside_of_vllm_is_told_where_it_belongs() -> None:
    text = "max_model_len: 2048"
    said = await Court(config_maps={"settings": {"inference_config.yaml": text}}).judge(CONFIGURED)
    assert "put it under vllm, as vllm.max-model-len" in said.warnings[0]


async def test_who_knows_better_may_bypass_the_sizing() -> None:
    changes: dict[str, Any] = {"resource__instanceType": "Standard_NC6s_v3", "inference__preset": {"name": "phi-4"}}
    assert not (await Court().judge(workspace(**changes))).allowed
    said = await Court().judge(workspace(**changes, metadata__annotations={"kaito.sh/bypass-resource-checks": ""}))
    assert said.allowed
    assert any("phi-4 needs" in text for text in said.warnings)


async def test_little_memory_for_tuning_is_the_users_own_risk() -> None:
    said = await Court().judge(workspace("tuning", resource__instanceType="Standard_NC6s_v3", tuning__method="lora"))
    assert said.allowed
    assert any("lora of phi-3-mini-128k-instruct takes about 72.0 GiB" in text for text in said.warnings)
    said = await Court().judge(workspace("tuning", resource__instanceType="Standard_NC6s_v3", tuning__method="qlora"))
    assert said.allowed
    assert not any("run out" in text for text in said.warnings)


async def test_a_generated_name_is_judged_by_the_length_that_it_will_have() -> None:
    generated = workspace(resource__count=2, metadata={"generateName": "a" * 48})
    assert list((await Court().judge(generated)).causes) == ["metadata.name"]
    assert (await Court().judge(workspace(metadata={"generateName": "phi-"}))).allowed


async def test_both_phases_share_one_read_of_a_configmap_and_the_next_request_reads_anew() -> None:
    court = Court(config_maps={"settings": {"inference_config.yaml": "vllm: {max-model-len: 2048}"}})
    assert (await court.judge(CONFIGURED)).allowed
    assert court.reads == 1
    await court.judge(CONFIGURED)
    assert court.reads == 2


@pytest.mark.parametrize("code", [403, 404, 429, 500, 503, 504])
async def test_a_configmap_that_cannot_be_read_is_warned_of(code: int) -> None:
    court = Court()
    reason = {403: "Forbidden", 404: "NotFound"}.get(code, "InternalError")
    court.api.faults.add(Fault(Refuse(code, reason), resource="configmaps", times=None))
    said = await court.judge(CONFIGURED)
    assert said.allowed == (code != 404)
    assert code == 404 or 'inference.config: ConfigMap "settings"' in said.warnings[0]


async def test_a_configmap_that_does_not_come_costs_a_second_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kaito.controllers.workspace.admission.config_maps.READ_S", 0.01)
    court = Court()
    court.api.faults.add(Fault(Hang(), resource="configmaps", times=None))
    said = await court.judge(CONFIGURED)
    assert said.allowed
    assert "was not read within 0.01 s" in said.warnings[0]


@pytest.mark.parametrize("name", ["../secrets/keys", "A", "a/b", "a?x=y", "é", "CONFIG_HERE"])
async def test_what_no_configmap_can_be_called_is_not_asked_for(name: str) -> None:
    court = Court()
    await court.judge(workspace(inference__config=name))
    assert court.reads == 0


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        "a: &a [x]\n" + "\n".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)),
        "{" * 1000 + "}" * 1000,
        "x: " + "y" * (LONGEST_TEXT + 1),
        "- a\n" * 30_000,
        "a: *b",
        "!!python/object:os.system x",
        "\ud7ff: 2024-99-99",
    ],
)
async def test_a_hostile_configmap_is_refused_or_left_unchecked(text: str) -> None:
    said = await Court(config_maps={"settings": {"inference_config.yaml": text}}).judge(CONFIGURED)
    assert list(said.causes) == ["inference.config"] or "it was not checked" in said.warnings[0]


async def test_v1alpha1_in_the_object_itself_makes_no_difference() -> None:
    bad = workspace(inference__preset={"name": "phi-3-mini-4k-instrct"})
    assert await Court().judge(bad) == await Court().judge(bad | {"apiVersion": "kaito.sh/v1alpha1"})


def whole(said: Said) -> bool:
    """Whether an answer is one that a user can do something with: let in, or refused with a reason."""
    return said.allowed or bool(said.message)


COURT = Court(config_maps={"settings": {"inference_config.yaml": "vllm: {}"}})


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(PLACES), JSON, st.booleans())
async def test_nothing_that_stands_at_a_place_of_a_workspace_makes_it_fail(
    place: tuple[str, tuple[Any, ...]], value: Any, update: bool
) -> None:
    name, path = place
    bad = spoiled(name, path, value)
    for new, old in ((bad, GOOD[name] if update else None), *(((GOOD[name], bad),) if update else ())):
        for role in ("mutate", "validate"):
            assert whole(Court.answer(await COURT.body(role, review(new, old))))


@settings(max_examples=60, deadline=None)
@given(JSON, JSON)
async def test_nothing_in_the_place_of_a_workspace_makes_it_fail(new: Any, old: Any) -> None:
    for role in ("mutate", "validate"):
        assert whole(Court.answer(await COURT.body(role, review(new, old))))


async def test_of_thousands_of_unknown_annotations_some_are_told() -> None:
    unknown = {f"kaito.sh/runtim{number}": "vllm" for number in range(3000)}
    said = await Court().judge(workspace(metadata__annotations=unknown))
    assert len(said.warnings) == 10


async def test_a_container_behind_more_than_a_node_runs_is_not_looked_at() -> None:
    containers = [{"name": f"c{number}", "image": "a"} for number in range(200)]
    template = {"spec": {"containers": [*containers, {}]}}
    assert (await Court().judge(workspace("template", inference__template=template))).allowed


async def test_a_large_object_leaves_the_event_loop_to_others_while_it_is_judged() -> None:
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(others())
    await Court().phase("mutate", workspace(resource__preferredNodes=["a" * 10] * 20_000))
    task.cancel()
    assert turns > 50


@pytest.mark.parametrize(
    "odd",
    [
        {"metadata": {"name": "a", "annotations": {"kaito.sh/" + "x" * 100_000: "y"}}},
        {"inference": {"template": json.loads("[" * 300 + "]" * 300)}},
        {"inference": {"template": {"spec": {"containers": json.loads('{"a":' * 150 + "1" + "}" * 150)}}}},
        {"resource": {"count": 10**300}},
        {"resource": {"count": 1e308, "instanceType": "😀" * 1000}},
        {"metadata": []},
        {"metadata": {"annotations": {"a": 1}, "name": 5}},
        {"inference": {"adapters": [[]] * 1000, "preset": {"name": "/" * 256}}},
    ],
)
async def test_what_is_deep_huge_or_odd_is_answered(odd: dict[str, Any]) -> None:
    for role in ("mutate", "validate"):
        said = Court.answer(await COURT.body(role, review(workspace() | odd)))
        assert len(said.message) < 20_000
