"""Difference: what the API server makes of an intent is none, what somebody else made of it is one."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaito.runtime.difference import differs, without_strangers

Json = dict[str, Any]


def pod(*containers: Json, **more: Any) -> Json:
    return {"spec": {"containers": list(containers), **more}}


def container(**more: Any) -> Json:
    return {"name": "main", "image": "i", **more}


@pytest.mark.parametrize(
    ("wanted", "current"),
    [
        ({"spec": {"a": 1}}, {"spec": {"a": 1, "defaulted": 2}, "status": {"x": 1}}),
        (pod(container()), pod(container(imagePullPolicy="Always"), dnsPolicy="ClusterFirst")),
        (
            pod(container(resources={"limits": {"memory": "1024Mi", "cpu": 1}})),
            pod(container(resources={"limits": {"memory": "1Gi", "cpu": "1"}, "requests": {"cpu": "1"}})),
        ),
        (
            pod(container(), volumes=[{"name": "v", "emptyDir": {}}]),
            pod(container(), volumes=[{"name": "v", "emptyDir": {}}]),
        ),
        (
            pod(volumes=[{"name": "v", "emptyDir": {"sizeLimit": "0.5Gi"}}]),
            pod(volumes=[{"name": "v", "emptyDir": {"sizeLimit": "512Mi"}}]),
        ),
        (pod(container(env=[])), pod(container())),
        (pod(container(securityContext={})), pod(container())),
        (
            pod(container(ports=[{"containerPort": 80}, {"containerPort": 53, "protocol": "UDP"}])),
            pod(container(ports=[{"containerPort": 53, "protocol": "UDP"}, {"containerPort": 80, "protocol": "TCP"}])),
        ),
        ({"spec": {"ports": [{"port": 80}]}}, {"spec": {"ports": [{"port": 80, "targetPort": 80, "protocol": "TCP"}]}}),
        ({"metadata": {"finalizers": ["mine"]}}, {"metadata": {"finalizers": ["theirs", "mine"]}}),
        (
            {"metadata": {"ownerReferences": [{"uid": "1", "name": "a"}]}},
            {"metadata": {"ownerReferences": [{"uid": "0", "name": "z"}, {"uid": "1", "name": "a"}]}},
        ),
        ({"metadata": {"labels": {"a": "1"}}}, {"metadata": {"labels": {"a": "1", "theirs": "2"}}}),
        (
            pod(container(env=[{"name": "A", "value": ""}], tty=False), hostNetwork=False),
            pod(container(env=[{"name": "A"}])),
        ),
        (
            pod(container(resources={"requests": {"cpu": "1"}, "limits": {"cpu": "2", "memory": "1Gi"}})),
            pod(
                container(
                    resources={"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "2", "memory": "1Gi"}}
                )
            ),
        ),
    ],
)
def test_defaults_rewritten_amounts_order_and_others_metadata_are_no_difference(wanted: Json, current: Json) -> None:
    assert not differs(current, wanted)


@pytest.mark.parametrize(
    ("wanted", "current"),
    [
        ({"spec": {"a": 1}}, {"spec": {"a": 2}}),
        ({"spec": {"a": 1}}, {"spec": {}}),
        ({"spec": {"a": 1}}, {}),
        ({"spec": {"a": {"b": 1}}}, {"spec": {"a": "text"}}),
        (pod(container(env=[{"name": "A", "value": "1"}])), pod(container(env=[{"name": "A", "value": "2"}]))),
        (
            pod(container(env=[{"name": "A", "value": "1"}])),
            pod(container(env=[{"name": "A", "value": "1"}, {"name": "LD_PRELOAD", "value": "x"}])),
        ),
        (pod(container()), pod(container(), {"name": "sidecar", "image": "j"})),
        (pod(container(command=["a", "b"])), pod(container(command=["b", "a"]))),
        (pod(container(command=["a"])), pod(container(command=["a", "b"]))),
        (pod(container(env=[{"name": "A"}])), pod(container())),
        (
            pod(container(resources={"limits": {"memory": "1Gi"}})),
            pod(container(resources={"limits": {"memory": "2Gi"}})),
        ),
        (
            pod(container(ports=[{"containerPort": 53, "protocol": "UDP"}])),
            pod(container(ports=[{"containerPort": 53, "protocol": "TCP"}])),
        ),
        (
            pod(tolerations=[{"key": "sku", "value": "gpu"}]),
            pod(tolerations=[{"key": "sku", "value": "cpu"}]),
        ),
        ({"metadata": {"finalizers": ["mine"]}}, {"metadata": {"finalizers": ["theirs"]}}),
        (pod(automountServiceAccountToken=False), pod()),
        (pod(container(securityContext={"runAsUser": 0})), pod(container(securityContext={}))),
        (
            pod(container(resources={"requests": {"cpu": "1"}, "limits": {"memory": "1Gi"}})),
            pod(container(resources={"requests": {"cpu": "1", "memory": "7Gi"}, "limits": {"memory": "1Gi"}})),
        ),
        (pod(container(resources={"limits": {"a": 1}})), pod(container(resources={"limits": {"a": "1", "b": "1"}}))),
        (pod(nodeSelector={"a": "b"}), pod(nodeSelector={"a": "b", "c": "d"})),
        ({"metadata": {"ownerReferences": [{"uid": "1", "name": "a"}]}}, {"metadata": {}}),
        (
            {"metadata": {"ownerReferences": [{"uid": "1", "name": "a"}]}},
            {"metadata": {"ownerReferences": [{"uid": "2", "name": "a"}]}},
        ),
        ({"metadata": {"labels": {"a": "1"}}}, {"metadata": {"labels": {"a": "2"}}}),
        ({"spec": {"a": "1"}}, {"spec": {"a": 1}}),
        ({"spec": {"template": {"metadata": {"labels": {"a": "1"}}}}}, {"spec": {"template": {}}}),
    ],
)
def test_other_values_missing_fields_and_added_items_are_a_difference(wanted: Json, current: Json) -> None:
    assert differs(current, wanted)


def test_a_repair_takes_out_what_nobody_wants_and_leaves_the_rest() -> None:
    wanted = pod(container(env=[{"name": "A", "value": "1"}]))
    current = pod(
        container(env=[{"name": "X", "value": "9"}, {"name": "A", "value": "1"}], imagePullPolicy="Always"),
        {"name": "sidecar", "image": "j"},
        restartPolicy="Always",
    )
    assert without_strangers(current, wanted) == pod(
        container(env=[{"name": "A", "value": "1"}], imagePullPolicy="Always"), restartPolicy="Always"
    )


def test_a_repair_leaves_owners_and_finalizers_of_others() -> None:
    current = {"metadata": {"finalizers": ["theirs", "mine"], "ownerReferences": [{"uid": "0", "name": "z"}]}}
    wanted: Json = {"metadata": {"finalizers": ["mine"], "ownerReferences": []}}
    assert without_strangers(current, wanted) == current


SCALARS = st.one_of(st.booleans(), st.integers(1, 3), st.sampled_from(["a", "b"]))
NAMED = st.lists(st.sampled_from(["x", "y", "z"]), unique=True, max_size=3)
INTENTS = st.recursive(
    SCALARS,
    lambda children: st.one_of(
        st.dictionaries(st.sampled_from(["p", "q", "r"]), children, max_size=3),
        st.tuples(NAMED, children).map(lambda pair: [{"name": name, "v": pair[1]} for name in pair[0]]),
        st.lists(SCALARS, max_size=3),
    ),
    max_leaves=8,
)
DOCUMENTS = st.dictionaries(st.sampled_from(["p", "q", "r"]), INTENTS, max_size=3)


@given(DOCUMENTS)
def test_an_intent_does_not_differ_from_itself_nor_from_itself_with_defaults(intent: Json) -> None:
    assert not differs(intent, intent)
    assert not differs(defaulted(intent), intent)


def defaulted(value: Any) -> Any:
    """What a server does: fields are added to every object, lists stay as they are, empty things go."""
    if isinstance(value, dict):
        return {name: defaulted(item) for name, item in value.items() if item not in ({}, [])} | {"zz": 1}
    if isinstance(value, list):
        return [defaulted(item) for item in value]
    return value


@settings(max_examples=300)
@given(DOCUMENTS, DOCUMENTS)
def test_a_repair_never_adds_to_the_difference_and_only_takes_out(current: Json, wanted: Json) -> None:
    before = copy.deepcopy(current)
    repaired = without_strangers(current, wanted)
    assert current == before
    assert without_strangers(repaired, wanted) == repaired
    assert set(repaired) == set(current)
    if not differs(current, wanted):
        assert repaired == current
