"""The kinds of the product and what their rules narrow: Hypothesis makes objects of each that the API server takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from kaito.api import kaito_v1alpha1, kaito_v1beta1
from kaito.api.karpenter_v1 import NodeClaim
from kaito.api.karpenter_v1alpha5 import Machine
from kaito.kube.crd import resource_schema
from kaito.kube.resource import Resource
from tests.operating.schema_strategies import TEXT, Narrowed, Objects, fields_of, objects

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
    return made if "inference" in made else {**made, "resource": without(made["resource"], "partition")}


def _tidied_resource(made: Json) -> Json:
    """A share of a GPU and terms of a selector are for existing nodes."""
    if "partition" in made:
        return without(made, "count")
    if made["instanceType"]:
        return made | {"labelSelector": without(made["labelSelector"], "matchExpressions")}
    return made


def _tidied_partition(made: Json) -> Json:
    return without(made, "count" if made["mode"] == "mig" else "profile")


def _tidied_term(made: Json) -> Json:
    return made if made["operator"] in ("In", "NotIn") else without(made, "values")


def _tidied_inference(made: Json) -> Json:
    if "preset" not in made:
        return without(made, "adapters")
    return made | {"adapters": _differently_named(made["adapters"])} if "adapters" in made else made


def without(made: Json, *fields: str) -> Json:
    """Returns an object without some fields."""
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
    # With a template there is little else: adapters need a preset.
    "inference": Objects(one_of=("preset", "preset", "preset", "template"), tidied=_tidied_inference),
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
