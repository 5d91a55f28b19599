"""Objects of every kind, made from its schema, through a real API server and our models: nothing of them is lost."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from itertools import count
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from kaito.api import kaito_v1alpha1, kaito_v1beta1
from kaito.api.karpenter_v1 import NodeClaim
from kaito.api.karpenter_v1alpha5 import Machine
from kaito.devcluster.controlplane import ControlPlane
from kaito.kube.crd import resource_schema
from kaito.kube.resource import Resource
from kaito.kube.validation_nodes import compiled, prepared
from tests.operating.cluster import install_crds
from tests.operating.schema_strategies import OPEN, TEXT, Narrowed, Objects, fields_in, fields_of, objects

Json = dict[str, Any]

NAMES = st.from_regex(r"[a-z]([-a-z0-9]{0,8}[a-z0-9])?", fullmatch=True, alphabet=st.characters(codec="ascii"))
LABELS = st.sampled_from(["", "a", "A.b_c-0", "x" * 63])
LABEL_KEYS = st.sampled_from(["apps", "example.com/a", "A.b_c-0"])
IMAGES = st.sampled_from(["a", "localhost:5000/a/b_c:1.0", f"r.example.com/a@sha256:{'0' * 64}", f"a:{'t' * 128}"])
PRESETS = st.sampled_from(["phi-3-mini-4k-instruct", "org/model_1.0", "a"])
URLS = st.sampled_from(
    [
        "https://example.com",
        "HTTP://u:p@a-b.example.com.:80/%20\u00e4?b=/",
        "http://[2606:4700::1111]/d",
        "http://8.8.8.8",
    ]
)
SOURCE = {"imagePullSecrets[]": NAMES, "image": IMAGES}


def _below(path: str, narrowed: Narrowed) -> Narrowed:
    return {f"{path}.{name}": each for name, each in narrowed.items()}


def _tidied_workspace(made: Json) -> Json:
    return made if "inference" in made else {**made, "resource": _without(made["resource"], "partition")}


def _tidied_resource(made: Json) -> Json:
    """A share of a GPU and terms of a selector are for existing nodes."""
    if "partition" in made:
        return _without(made, "count")
    if made["instanceType"]:
        return made | {"labelSelector": _without(made["labelSelector"], "matchExpressions")}
    return made


def _tidied_partition(made: Json) -> Json:
    return _without(made, "count" if made["mode"] == "mig" else "profile")


def _tidied_term(made: Json) -> Json:
    return made if made["operator"] in ("In", "NotIn") else _without(made, "values")


def _tidied_inference(made: Json) -> Json:
    return made if "preset" in made else _without(made, "adapters")


def _without(made: Json, *fields: str) -> Json:
    return {name: value for name, value in made.items() if name not in fields}


def _differently_named(adapters: list[Json]) -> list[Json]:
    names = [f"{adapter['source']['name']}{at}" for at, adapter in enumerate(adapters)]
    return [each | {"source": each["source"] | {"name": name}} for each, name in zip(adapters, names, strict=True)]


def _preset() -> Narrowed:
    options = {"image": IMAGES, "imagePullSecrets[]": NAMES, "modelAccessSecret": NAMES}
    return {"name": PRESETS} | {f"presetOptions.{name}": each for name, each in options.items()}


WORKSPACE: Narrowed = {
    "": Objects(one_of=("inference", "tuning"), never=("apiVersion", "kind", "metadata"), tidied=_tidied_workspace),
    "resource": Objects(one_of=("instanceType", "partition"), tidied=_tidied_resource),
    "resource.instanceType": st.sampled_from(["", "Standard_NC6s_v3", "p3.8xlarge"]),
    "resource.labelSelector": Objects(always=("matchLabels",)),
    "resource.labelSelector.matchLabels": st.dictionaries(LABEL_KEYS, LABELS, min_size=1, max_size=3),
    "resource.labelSelector.matchExpressions[]": Objects(always=("values",), tidied=_tidied_term),
    "resource.labelSelector.matchExpressions[].key": LABEL_KEYS,
    "resource.labelSelector.matchExpressions[].values": st.lists(LABELS, min_size=1, max_size=3),
    "resource.partition": Objects(always=("profile", "count"), tidied=_tidied_partition),
    "resource.partition.profile": st.sampled_from(["1g.10gb", "1c.3g.40gb+me"]),
    "inference": Objects(one_of=("preset", "template"), tidied=_tidied_inference),
    "inference.config": NAMES,
    "inference.adapters[].source": Objects(one_of=("image", "volumeSource"), always=("name",), never=("urls",)),
    "inference.adapters[].source.name": NAMES,
    "inference.adapters[].strength": st.sampled_from(["0", "1", "0.5", ".25", "1.000"]),
    "tuning.method": st.sampled_from(["lora", "QLoRA"]),
    "tuning.config": NAMES,
    "tuning.input": Objects(one_of=("urls", "image", "volumeSource")),
    "tuning.input.urls[]": URLS,
    "tuning.output": Objects(one_of=("image", "volumeSource"), always=("imagePushSecret",)),
    "tuning.output.image": IMAGES,
    "tuning.output.imagePushSecret": NAMES,
    **_below("inference.preset", _preset()),
    **_below("tuning.preset", _preset()),
    **_below("inference.adapters[].source", SOURCE),
    **_below("tuning.input", SOURCE),
}


@st.composite
def requirements(draw: st.DrawFn) -> Json:
    """What Karpenter takes of one."""
    operator = draw(st.sampled_from(["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"]))
    made: Json = {"key": draw(st.sampled_from(["a", "karpenter.sh/capacity-type", "kubernetes.io/os"]))}
    if operator in ("Gt", "Lt"):
        made["values"] = [draw(st.sampled_from(["0", "7", "9" * 18]))]
    elif operator == "In" or draw(st.booleans()):
        made["values"] = draw(st.lists(LABELS, min_size=1, max_size=3))
    if draw(st.booleans()):
        made["minValues"] = draw(st.integers(1, len(made.get("values", "x")) if operator == "In" else 50))
    return made | {"operator": operator}


NODE_CLAIM: Narrowed = {
    "": Objects(never=("apiVersion", "kind", "metadata")),
    "spec.requirements[]": requirements(),
    "spec.nodeClassRef.group": st.sampled_from(["kaito.sh", "\u00e4"]),
    "spec.nodeClassRef.kind": TEXT.filter(bool),
    "spec.nodeClassRef.name": TEXT.filter(bool),
}
MACHINE: Narrowed = {
    "": Objects(never=("apiVersion", "kind", "metadata")),
    # A Go program writes nothing else there, and a model keeps no more of it than a moment.
    "status.conditions[].lastTransitionTime": st.just("2026-01-02T03:04:05Z"),
}


@dataclass(frozen=True)
class Fuzzed:
    """A kind and what its rules allow.

    Attributes:
        kind: the class.
        narrowed: by path.
        schema: the kind's.
        unreachable: paths that its rules forbid, though its schema has them.
    """

    kind: type[Resource]
    narrowed: Narrowed
    unreachable: frozenset[str] = frozenset()

    @property
    def schema(self) -> Json:
        return resource_schema(self.kind)

    def objects(self) -> st.SearchStrategy[Json]:
        """Objects that the API server takes, without head."""
        return objects(self.schema, self.narrowed)

    def fields(self) -> set[str]:
        """What the schema knows and rules allow."""
        heads = ("apiVersion", "kind", "metadata")
        return {path for path in fields_of(self.schema) - self.unreachable if not path.startswith(heads)}


_UNREACHABLE = frozenset({"inference.adapters[].source.urls", "inference.adapters[].source.urls[]"})
KINDS = [
    Fuzzed(kaito_v1alpha1.Workspace, WORKSPACE, _UNREACHABLE),
    Fuzzed(kaito_v1beta1.Workspace, WORKSPACE, _UNREACHABLE),
    Fuzzed(NodeClaim, NODE_CLAIM),
    Fuzzed(Machine, MACHINE),
]
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
    return _without(answer, "apiVersion", "kind", "metadata")


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
        new = kind.model_validate({"metadata": metadata, **_without(made, "status")}).to_dict()
        assert differences(content(new), _without(made, "status")) == []
        stored: Json = control_plane.request("POST", f"{collection}?fieldValidation=Strict", new)
        assert differences(content(stored), prepared(_without(made, "status"), node)) == []
        if status := made.get("status"):
            path = f"{collection}/{name}/status?fieldValidation=Strict"
            with_status = kind.model_validate(stored | {"status": status}).to_dict()
            stored = control_plane.request("PUT", path, with_status)
        assert differences(content(stored), prepared(made if status else _without(made, "status"), node)) == []
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
        kept = prepared(_without(made, "status"), node)
        answer: Json = control_plane.request("POST", path, wire)
        assert differences(content(answer), content(kept)) == []
        drops += bool(differences(content(answer), content(_without(made, "status"))))

    check()
    assert drops >= 5
