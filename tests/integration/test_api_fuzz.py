"""Objects of every kind, made from its schema, through a real API server and our models: nothing of them is lost."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from itertools import count
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from kaito.devcluster.controlplane import ControlPlane
from kaito.kube.validation_nodes import compiled, prepared
from tests.operating.cluster import install_crds
from tests.operating.fuzzed_kinds import KINDS, Fuzzed, without
from tests.operating.schema_strategies import OPEN, fields_in

Json = dict[str, Any]

FUZZED = settings(
    max_examples=30,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],  # to make a failing example smaller takes minutes here
    suppress_health_check=[*HealthCheck],
)
FEW = settings(FUZZED, max_examples=10)
FUZZ_LABEL = "example.com/fuzz"


@pytest_asyncio.fixture(scope="module", loop_scope="session", autouse=True)
async def crds(control_plane: ControlPlane) -> AsyncIterator[None]:
    await install_crds(control_plane)
    yield


def differences(one: Any, other: Any, path: str = "") -> list[str]:
    """Returns where two JSON values differ, and how; true is not 1."""
    if isinstance(one, dict) and isinstance(other, dict):
        only = [f"{path}.{name}: only in one of both" for name in one.keys() ^ other.keys()]
        return only + [
            each for name in one.keys() & other.keys() for each in differences(one[name], other[name], f"{path}.{name}")
        ]
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return [each for at, item in enumerate(one) for each in differences(item, other[at], f"{path}[{at}]")]
    is_same = one == other and isinstance(one, bool) == isinstance(other, bool)
    return [] if is_same else [f"{path}: {one!r} and {other!r}"]


def content(answer: Json) -> Json:
    return without(answer, "apiVersion", "kind", "metadata")


@pytest.mark.parametrize("fuzzed", KINDS, ids=lambda fuzzed: fuzzed.kind.resource_type.api_version)
def test_what_a_model_writes_the_api_server_keeps_and_a_model_reads(
    control_plane: ControlPlane, namespace: str, fuzzed: Fuzzed
) -> None:
    kind, numbers, seen = fuzzed.kind, count(), set[str]()
    collection = kind.resource_type.path(namespace if kind.resource_type.namespaced else None)
    node = compiled(fuzzed.schema)

    @FUZZED
    @given(fuzzed.objects())
    def check(made: Json) -> None:
        name = f"fuzz{next(numbers)}"
        metadata = {"name": name, "labels": {FUZZ_LABEL: ""}}
        new = kind.model_validate({"metadata": metadata, **without(made, "status")}).to_dict()
        assert differences(content(new), without(made, "status")) == []
        stored: Json = control_plane.request("POST", f"{collection}?fieldValidation=Strict", new)
        assert differences(content(stored), prepared(without(made, "status"), node)) == []
        if status := made.get("status"):
            path = f"{collection}/{name}/status?fieldValidation=Strict"
            with_status = kind.model_validate(stored | {"status": status}).to_dict()
            stored = control_plane.request("PUT", path, with_status)
        assert differences(content(stored), prepared(made if status else without(made, "status"), node)) == []
        read = kind.model_validate_json(json.dumps(stored))
        assert differences(read.to_dict(), stored) == []
        assert control_plane.request("PUT", f"{collection}/{name}", read.to_dict()) == stored
        seen.update(fields_in(stored, fuzzed.schema))

    try:
        check()
    finally:
        control_plane.request("DELETE", f"{collection}?labelSelector={FUZZ_LABEL}")
    assert next(numbers) >= 30
    # Chance leaves out some; a strategy that has nothing to say leaves out many.
    assert len(fuzzed.fields() - seen) <= len(fuzzed.fields()) // 10, fuzzed.fields() - seen


@st.composite
def with_strangers(draw: st.DrawFn, fuzzed: Fuzzed) -> Json:
    """An object with fields of tomorrow in each of its own; nulls are none, since no API server writes them there."""
    strangers = st.dictionaries(
        st.sampled_from(["ofTomorrow", "x-y", "\u00e4", ""]), OPEN.filter(lambda x: x is not None)
    )

    def with_some(value: Any, schema: Json) -> Any:
        if isinstance(value, dict):
            below = schema.get("properties", {})
            others = schema.get("additionalProperties")
            made = {
                name: with_some(item, below.get(name) or (others if isinstance(others, dict) else {}))
                for name, item in value.items()
            }
            return draw(strangers) | made if below else made
        return [with_some(item, schema.get("items", {})) for item in value] if isinstance(value, list) else value

    whole: Json = with_some(draw(fuzzed.objects()), fuzzed.schema)
    return {"apiVersion": fuzzed.kind.resource_type.api_version, "kind": fuzzed.kind.resource_type.kind} | whole


@pytest.mark.parametrize("fuzzed", KINDS[1:], ids=lambda fuzzed: fuzzed.kind.resource_type.api_version)
def test_a_model_keeps_what_it_does_not_know_and_the_api_server_drops_just_that(
    control_plane: ControlPlane, fuzzed: Fuzzed
) -> None:
    kind, drops = fuzzed.kind, 0
    collection = kind.resource_type.path("default" if kind.resource_type.namespaced else None)
    node = compiled(fuzzed.schema)

    @FEW
    @given(with_strangers(fuzzed))
    def check(made: Json) -> None:
        nonlocal drops
        wire = {"metadata": {"name": "stranger", "ofTomorrow": [{}]}, **made}
        assert differences(kind.model_validate_json(json.dumps(wire)).to_dict(), wire) == []
        path = f"{collection}?dryRun=All&fieldValidation=Ignore"
        kept = prepared(without(made, "status"), node)
        answer: Json = control_plane.request("POST", path, wire)
        assert differences(content(answer), content(kept)) == []
        drops += bool(differences(content(answer), content(without(made, "status"))))

    check()
    assert drops >= 5
