"""What a Workspace may say and what may change in it: the CRD's rules on a real API server, word for word."""

import copy
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio

from kaito.api import all_crds, keys
from kaito.cli.crds import CRDFormat, render
from kaito.devcluster.controlplane import ControlPlane
from kaito.devcluster.errors import RequestError

KAITO = "kaito.sh/v1beta1"
Change = Callable[[dict[str, Any]], object]


@pytest_asyncio.fixture(scope="module", loop_scope="session", autouse=True)
async def crds(control_plane: ControlPlane) -> AsyncIterator[None]:
    manifests = render(all_crds(), CRDFormat.YAML)
    await control_plane.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", input=manifests)
    await control_plane.kubectl("wait", "crd", "--all", "--for=condition=Established", "--timeout=20s")
    yield


def inference() -> dict[str, Any]:
    return {
        "apiVersion": KAITO,
        "kind": "Workspace",
        "metadata": {"name": "w"},
        "resource": {"instanceType": "Standard_NC6s_v3", "labelSelector": {"matchLabels": {"apps": "x"}}},
        "inference": {"preset": {"name": "phi-3-mini-4k-instruct"}},
    }


def adapter(name: str = "a", **changes: object) -> dict[str, Any]:
    return {"source": {"name": name, "image": "r.example.com/a:1"}} | changes


def tuning() -> dict[str, Any]:
    workspace = inference()
    del workspace["inference"]
    return workspace | {
        "tuning": {
            "preset": {"name": "phi-3-mini-4k-instruct"},
            "method": "qlora",
            "input": {"urls": ["https://example.com/data.parquet?download=true"]},
            "output": {"image": "r.example.com/out:1", "imagePushSecret": "push"},
        }
    }


def changed(value: dict[str, Any], change: Change) -> dict[str, Any]:
    value = copy.deepcopy(value)
    change(value)
    return value


def collection(version: str, namespace: str) -> str:
    return f"/apis/{version}/namespaces/{namespace}/workspaces"


def create(control_plane: ControlPlane, value: dict[str, Any], namespace: str) -> dict[str, Any]:
    path = f"{collection(value['apiVersion'], namespace)}?fieldValidation=Strict"
    answer: dict[str, Any] = control_plane.request("POST", path, value)
    return answer


def dry_run(control_plane: ControlPlane, value: dict[str, Any]) -> None:
    control_plane.request(
        "POST", f"{collection(value['apiVersion'], 'default')}?fieldValidation=Strict&dryRun=All", value
    )


def refusal(control_plane: ControlPlane, value: dict[str, Any]) -> str:
    """What kubectl would print."""
    with pytest.raises(RequestError) as caught:
        dry_run(control_plane, value)
    assert caught.value.status == 422, str(caught.value)
    answer = str(caught.value)
    message: str = json.loads(answer[answer.index("{") :])["message"]
    return message


@pytest.mark.parametrize(
    ("change", "field", "words"),
    [
        (lambda w: w.pop("inference"), "<nil>", "give exactly one of inference and tuning"),
        (lambda w: w.update(tuning=tuning()["tuning"]), "<nil>", "give exactly one of inference and tuning"),
        (lambda w: w.pop("resource"), "resource", "Required value"),
        (lambda w: w["metadata"].update(name="1abc"), "<nil>", "a letter first"),
        (lambda w: w["metadata"].update(name="a" * 64), "<nil>", "at most 63"),
        (lambda w: w["metadata"].update(name="a.b"), "<nil>", "lower case letters, digits and '-'"),
        (lambda w: w["resource"].pop("labelSelector"), "resource.labelSelector", "Required value"),
        (lambda w: w["resource"].update(labelSelector={}), "resource.labelSelector", "at least one label of your own"),
        (
            lambda w: w["resource"].update(labelSelector={"matchLabels": {keys.WORKSPACE_LABEL: "x"}}),
            "resource.labelSelector",
            "labels of kaito.sh and karpenter.kaito.sh are set by the controller",
        ),
        (lambda w: w["resource"].update(count=0), "resource.count", "greater than or equal to 1"),
        (
            lambda w: w["resource"].update(partition={"mode": "mig", "count": 1}),
            "resource.partition",
            "mode mig needs a profile and no count",
        ),
        (lambda w: w.update(inference={}), "inference", "give exactly one of preset and template"),
        (
            lambda w: w["inference"].update(template={"spec": {"containers": []}}),
            "inference",
            "give exactly one of preset and template",
        ),
        (
            lambda w: w.update(inference={"template": {"spec": {}}, "adapters": [adapter()]}),
            "inference",
            "adapters need a preset",
        ),
        (lambda w: w["inference"]["preset"].update(name=""), "inference.preset.name", "at least 1 chars"),
        (
            lambda w: w["inference"]["preset"].update(presetOptions={"modelAccessSecret": "HF_SECRET_HERE"}),
            "inference.preset.presetOptions.modelAccessSecret",
            "HF_SECRET_HERE is a placeholder",
        ),
        (
            lambda w: w["inference"].update(adapters=[adapter(str(i)) for i in range(11)]),
            "inference.adapters",
            "at most 10 items",
        ),
        (lambda w: w["inference"].update(adapters=[adapter(), adapter()]), "inference.adapters", "give each its own"),
        (
            lambda w: w["inference"].update(adapters=[{"source": {"image": "a/b"}}]),
            "inference.adapters[0]",
            "an adapter needs source.name",
        ),
        (lambda w: w["inference"].update(adapters=[adapter("a_b")]), "inference.adapters[0]", "needs source.name"),
        (
            lambda w: w["inference"].update(adapters=[{"source": {"name": "a", "urls": ["https://x/y"]}}]),
            "inference.adapters[0]",
            "exactly one of source.image and source.volumeSource",
        ),
        (
            lambda w: w["inference"].update(
                adapters=[{"source": {"name": "a", "image": "a/b", "volumeSource": {"emptyDir": {}}}}]
            ),
            "inference.adapters[0]",
            "exactly one of source.image and source.volumeSource",
        ),
        *(
            (
                lambda w, strength=strength: w["inference"].update(adapters=[adapter(strength=strength)]),
                "inference.adapters[0].strength",
                f'"{strength}" is not a strength: write a decimal from 0 to 1',
            )
            for strength in ("1.5", "-0.1", "0,5", "high", "", "1e-1", "2")
        ),
        *(
            (
                lambda w, image=image: w["inference"].update(
                    adapters=[{"source": {"name": "a", "image": image}}]
                ),
                "inference.adapters[0].source.image",
                "the repository in lower case",
            )
            for image in ("Reg/Image", "r.io/Image:1", "https://r.io/a", "a b", "r.io/a:", "r.io/a@sha256:12", "a//b")
        ),
    ],
)  # fmt: skip
def test_an_inference_workspace_is_refused_with_the_field_and_what_to_write(
    control_plane: ControlPlane, change: Change, field: str, words: str
) -> None:
    message = refusal(control_plane, changed(inference(), change))
    assert f"{field}: " in message
    assert words in message


@pytest.mark.parametrize(
    ("change", "field", "words"),
    [
        (lambda t: t.update(method="full"), "tuning.method", "choose lora or qlora"),
        (lambda t: t.pop("preset"), "tuning.preset", "Required value"),
        (lambda t: t.update(input={}), "tuning.input", "give exactly one source of data"),
        (lambda t: t.update(input={"urls": []}), "tuning.input.urls", "at least 1 items"),
        (lambda t: t["input"].update(image="a/b"), "tuning.input", "give exactly one source of data"),
        (lambda t: t["input"].update(urls=["ftp://h/d"]), "tuning.input.urls[0]", "https://HOST/PATH"),
        (lambda t: t["input"].update(urls=["https://h/d", "data"]), "tuning.input.urls[1]", "https://HOST/PATH"),
        (lambda t: t["input"].update(urls=["https:///d"]), "tuning.input.urls[0]", "https://HOST/PATH"),
        (lambda t: t.update(output={}), "tuning.output", "give exactly one destination"),
        (lambda t: t["output"].update(volumeSource={"emptyDir": {}}), "tuning.output", "give exactly one destination"),
        (lambda t: t["output"].pop("imagePushSecret"), "tuning.output", "an image needs imagePushSecret"),
        (
            lambda t: t["output"].update(imagePushSecret="A b"),
            "tuning.output.imagePushSecret",
            "not the name of a Secret",
        ),
        (lambda t: t.update(config="MyConfig"), "tuning.config", "not the name of a ConfigMap"),
    ],
)
def test_a_tuning_workspace_is_refused_with_the_field_and_what_to_write(
    control_plane: ControlPlane, change: Change, field: str, words: str
) -> None:
    message = refusal(control_plane, changed(tuning(), lambda w: change(w["tuning"])))
    assert f"{field}: " in message
    assert words in message


@pytest.mark.parametrize(
    "change",
    [
        lambda w: w["resource"].pop("instanceType"),
        lambda w: w["resource"].update(partition={"mode": "mig", "profile": "1g.10gb"}),
        lambda w: w.update(inference={"template": {"spec": {"containers": [{"name": "c", "image": "x"}]}}}),
        lambda w: w["inference"]["preset"].update(name="microsoft/Phi-3-mini-4k-instruct"),
        lambda w: w["inference"].update(adapters=[adapter(str(i), strength="0.5") for i in range(10)]),
        lambda w: w["inference"].update(
            adapters=[{"source": {"name": "a", "volumeSource": {"persistentVolumeClaim": {"claimName": "c"}}}}]
        ),
        *(
            lambda w, strength=strength: w["inference"].update(adapters=[adapter(strength=strength)])
            for strength in ("0", "1", "1.0", "0.25", ".5", "0.0")
        ),
        *(
            lambda w, image=image: w["inference"].update(adapters=[{"source": {"name": "a", "image": image}}])
            for image in (
                "busybox",
                "library/busybox:1.36",
                "localhost:5000/a/b__c--d.e:v1_2.3-4",
                f"My-Registry.azurecr.io/a/b:0.0.1@sha256:{'0' * 64}",
                "10.0.0.1:80/a",
            )
        ),
    ],
)
def test_a_valid_inference_workspace_goes_through(control_plane: ControlPlane, change: Change) -> None:
    dry_run(control_plane, changed(inference(), change))


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.update(method="QLoRA"),
        lambda t: t.update(method="lora"),
        lambda t: t.update(input={"name": "data", "image": "r.io/data:1", "imagePullSecrets": ["pull"]}),
        lambda t: t.update(input={"volumeSource": {"emptyDir": {}}}, output={"volumeSource": {"emptyDir": {}}}),
        lambda t: t["input"].update(urls=["http://10.0.0.1:8080/d", "https://[::1]/d"]),
    ],
)
def test_a_valid_tuning_workspace_goes_through(control_plane: ControlPlane, change: Change) -> None:
    dry_run(control_plane, changed(tuning(), lambda w: change(w["tuning"])))


@pytest.mark.parametrize(
    ("start", "change", "words"),
    [
        (inference, lambda w: w["resource"].update(instanceType="Standard_NC24s_v3"), "instanceType cannot be changed"),
        (inference, lambda w: w["resource"].pop("instanceType"), "instanceType cannot be changed"),
        (inference, lambda w: w["resource"].update(count=2), "count cannot be changed"),
        (
            inference,
            lambda w: w["resource"].update(labelSelector={"matchLabels": {"apps": "y"}}),
            "labelSelector cannot be changed",
        ),
        (
            inference,
            lambda w: w["resource"].update(partition={"mode": "mig", "profile": "1g.10gb"}),
            "partition can be neither added nor dropped",
        ),
        (inference, lambda w: w["inference"]["preset"].update(name="other"), "the preset cannot be changed"),
        (
            inference,
            lambda w: w.update(inference={"template": {"spec": {}}}),
            "preset can be neither added nor dropped",
        ),
        (
            inference,
            lambda w: (w.pop("inference"), w.update(tuning=tuning()["tuning"])),
            "inference can be neither added nor dropped",
        ),
        (inference, lambda w: w.update(tuning=tuning()["tuning"]), "tuning can be neither added nor dropped"),
        (tuning, lambda w: w["tuning"].update(method="lora"), "the method cannot be changed"),
        (tuning, lambda w: w["tuning"]["input"].update(name="x"), "name cannot be changed"),
        (tuning, lambda w: w["tuning"]["preset"].update(name="other"), "the preset cannot be changed"),
    ],
)
def test_what_cannot_change_says_so_and_what_to_do(
    control_plane: ControlPlane, namespace: str, start: Callable[[], dict[str, Any]], change: Change, words: str
) -> None:
    stored = create(control_plane, start(), namespace)
    with pytest.raises(RequestError, match=f"{words}: delete the Workspace and create it again"):
        control_plane.request("PUT", f"{collection(KAITO, namespace)}/w", changed(stored, change))


@pytest.mark.parametrize(
    ("start", "change"),
    [
        (inference, lambda w: w["inference"].update(adapters=[adapter()], config="mine")),
        (inference, lambda w: w["inference"]["preset"].update(presetOptions={"modelAccessSecret": "hf"})),
        (tuning, lambda w: w["tuning"]["input"].update(urls=["https://example.com/other"])),
        (tuning, lambda w: w["tuning"]["output"].update(image="r.example.com/out:2")),
    ],
)
def test_adapters_configuration_and_data_can_change(
    control_plane: ControlPlane, namespace: str, start: Callable[[], dict[str, Any]], change: Change
) -> None:
    stored = create(control_plane, start(), namespace)
    control_plane.request("PUT", f"{collection(KAITO, namespace)}/w", changed(stored, change))
