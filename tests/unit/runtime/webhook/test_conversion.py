"""Conversion: there and back, all or nothing, and failures that name the object."""

from __future__ import annotations

import json
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from kaito.kube.frozen import FrozenDict
from kaito.kube.model import KubeModel
from kaito.kube.resource import Resource
from kaito.runtime.webhook import Conversion, ConversionFailed
from kaito.runtime.webhook.conversion import ConversionEndpoint
from kaito.runtime.webhook.endpoint import Answer
from kaito.runtime.webhook.metrics import WebhookMetrics
from tests.unit.runtime.webhook.reviews import Gadget, GadgetSpec, gadget


class OldSpec(KubeModel):
    """Sizes were words."""

    size: str = "none"


class OldGadget(Resource, group="example.com", version="v1beta1", kind="Gadget"):
    """The version before."""

    spec: OldSpec = OldSpec()


SIZES = ["none", "one", "two"]


def up(old: OldGadget) -> Gadget:
    if old.spec.size == "bug":
        raise KeyError("secret")
    if old.spec.size not in SIZES:
        raise ConversionFailed(f"spec.size: {old.spec.size}: expected one of {', '.join(SIZES)}")
    metadata = old.metadata.edit()
    metadata.annotations = FrozenDict({**old.metadata.annotations, "was": "v1beta1"})
    metadata.finalizers = ("lost",)
    return Gadget(metadata=metadata, spec=GadgetSpec(size=SIZES.index(old.spec.size)))


def down(new: Gadget) -> OldGadget:
    return OldGadget(metadata=new.metadata, spec=OldSpec(size=SIZES[new.spec.size]))


CONVERSION = Conversion(Gadget).version(OldGadget, to_hub=up, from_hub=down)


def old(name: str = "a", size: str = "one", **metadata: Any) -> dict[str, Any]:
    made = gadget(name, metadata=metadata, size=size)
    return made | {"apiVersion": "example.com/v1beta1"}


def body(*objects: dict[str, Any], to: str = "example.com/v1", version: str = "v1") -> bytes:
    request = {"uid": "u1", "desiredAPIVersion": to, "objects": objects}
    document = {"apiVersion": f"apiextensions.k8s.io/{version}", "kind": "ConversionReview", "request": request}
    return json.dumps(document).encode()


def endpoint() -> tuple[ConversionEndpoint, CollectorRegistry]:
    registry = CollectorRegistry()
    return ConversionEndpoint([CONVERSION], WebhookMetrics(registry)), registry


def response(answer: Answer) -> dict[str, Any]:
    assert answer.code == 200, answer
    made: dict[str, Any] = json.loads(answer.body)["response"]
    assert made["uid"] == "u1"
    return made


@pytest.mark.parametrize("version", ["v1", "v1beta1"])
async def test_objects_become_those_of_the_other_version_with_the_metadata_that_may_not_change(version: str) -> None:
    answer = await endpoint()[0].answer(body(old(labels={"a": "b"}, generation=3), version=version))

    assert json.loads(answer.body)["apiVersion"] == f"apiextensions.k8s.io/{version}"
    made = response(answer)
    assert made["result"] == {"status": "Success"}
    metadata = {"name": "a", "namespace": "demo", "uid": "u", "generation": 3, "labels": {"a": "b"}}
    assert made["convertedObjects"] == [
        {
            "apiVersion": "example.com/v1",
            "kind": "Gadget",
            "metadata": metadata | {"annotations": {"was": "v1beta1"}},
            "spec": {"size": 1},
        }
    ]


async def test_there_and_back_is_where_it_was_and_what_has_the_version_already_is_left() -> None:
    there = response(await endpoint()[0].answer(body(old(size="two"))))["convertedObjects"]
    back = response(await endpoint()[0].answer(body(*there, to="example.com/v1beta1")))["convertedObjects"]
    same = response(await endpoint()[0].answer(body(*there)))["convertedObjects"]

    assert back[0]["spec"] == {"size": "two"}
    assert same == there


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (old("b", "many"), "Gadget demo/b: to example.com/v1: spec.size: many: expected one of none, one, two"),
        (old("b") | {"spec": {"size": 3}}, "Gadget demo/b: to example.com/v1: spec.size: Invalid value"),
        (
            old("b") | {"apiVersion": "example.com/v7"},
            "version example.com/v7 is not known; known are",
        ),
        (old("b") | {"kind": "Widget"}, "Widget demo/b: this kind is not converted here"),
        (old("b") | {"metadata": "b"}, "Gadget without a name: to example.com/v1: metadata: Invalid value"),
    ],
)
async def test_t84_one_object_that_cannot_be_converted_fails_all_and_is_named(bad: dict[str, Any], why: str) -> None:
    made = response(await endpoint()[0].answer(body(old("a"), bad, old("c"))))

    assert made["result"]["status"] == "Failure"
    assert why in made["result"]["message"]
    assert "convertedObjects" not in made


async def test_code_that_raises_is_counted_and_named_without_its_text(caplog: pytest.LogCaptureFixture) -> None:
    it, registry = endpoint()

    made = response(await it.answer(body(old("b", "bug"))))

    assert made["result"]["message"] == "Gadget demo/b: to example.com/v1: failed with KeyError"
    assert registry.get_sample_value("controller_runtime_conversion_webhook_panics_total") == 1
    assert caplog.records[0].exc_info is not None


@pytest.mark.parametrize("content", [b"", b"{}", body().replace(b"ConversionReview", b"Other"), body(version="v9")])
async def test_what_is_no_review_is_a_bad_request(content: bytes) -> None:
    assert (await endpoint()[0].answer(content)).code == 400


def test_versions_that_cannot_be_are_refused() -> None:
    class Widget(Resource, group="example.com", version="v1"):
        """Another kind."""

    def never(_obj: Any) -> Any:
        raise AssertionError

    with pytest.raises(ValueError, match=r"Widget.example.com is another kind"):
        Conversion(Gadget).version(Widget, to_hub=never, from_hub=never)
    with pytest.raises(ValueError, match="version v1 is there already"):
        Conversion(Gadget).version(Gadget, to_hub=never, from_hub=never)
