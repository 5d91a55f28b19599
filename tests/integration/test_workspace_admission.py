"""What a Workspace may say and what may change in it, on a real API server; for what it may not: bad_by_rules.yaml."""

import copy
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio

from kaito.api import all_crds
from kaito.cli.crds import CRDFormat, render
from kaito.devcluster.controlplane import ControlPlane

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


def dry_run(control_plane: ControlPlane, value: dict[str, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = control_plane.request(
        "POST", f"{collection(value['apiVersion'], 'default')}?fieldValidation=Strict&dryRun=All", value
    )
    return answer


def asked(value: dict[str, Any]) -> dict[str, Any]:
    """What a Workspace asks for, with the defaults of the schema."""
    value = {name: copy.deepcopy(value[name]) for name in ("resource", "inference", "tuning") if name in value}
    value["resource"].setdefault("count", 1)
    for purpose in ("inference", "tuning"):
        if "preset" in value.get(purpose, {}):
            value[purpose]["preset"].setdefault("accessMode", "public")
    return value


@pytest.mark.parametrize(
    "change",
    [
        lambda w: w["resource"].pop("instanceType"),
        lambda w: w["resource"].update(instanceType="", partition={"mode": "mig", "profile": "1g.10gb"}),
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
    sent = changed(inference(), change)
    assert asked(dry_run(control_plane, sent)) == asked(sent)


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.update(method="QLoRA"),
        lambda t: t.update(method="lora"),
        lambda t: t.update(input={"name": "data", "image": "r.io/data:1", "imagePullSecrets": ["pull"]}),
        lambda t: t.update(input={"volumeSource": {"emptyDir": {}}}, output={"volumeSource": {"emptyDir": {}}}),
        *(
            lambda t, url=url: t["input"].update(urls=[url])
            for url in (
                "http://203.0.113.7:8080/d",
                "HTTPS://me:secret@data.example.com.:65535/a%20b/c?d=e&f#g",
                "https://[2001:4860:4860::8888]/d",
                "http://data.default.svc.cluster.local/d",
                "http://localhost.example.com/d",
                "http://10.example.com/d",
                "https://example.com?d",
                "https://example.com",
                "https://example.com/http://localhost/",
            )
        ),
    ],
)
def test_a_valid_tuning_workspace_goes_through(control_plane: ControlPlane, change: Change) -> None:
    sent = changed(tuning(), lambda w: change(w["tuning"]))
    assert asked(dry_run(control_plane, sent)) == asked(sent)


@pytest.mark.parametrize(
    ("start", "change"),
    [
        (inference, lambda w: w["inference"].update(adapters=[adapter()], config="mine")),
        (inference, lambda w: w["resource"].update(count=3)),
        (inference, lambda w: w["resource"].pop("instanceType")),
        (tuning, lambda w: w["tuning"].update(method="QLoRA")),
        (tuning, lambda w: w["tuning"]["input"].update(urls=["https://example.com/other"])),
        (tuning, lambda w: w["tuning"]["output"].update(image="r.example.com/out:2")),
    ],
)
def test_adapters_configuration_and_data_can_change(
    control_plane: ControlPlane, namespace: str, start: Callable[[], dict[str, Any]], change: Change
) -> None:
    stored = create(control_plane, start(), namespace)
    sent = changed(stored, change)
    answer: dict[str, Any] = control_plane.request("PUT", f"{collection(KAITO, namespace)}/w", sent)
    assert (answer["metadata"]["generation"], asked(answer)) == (2, asked(sent))
