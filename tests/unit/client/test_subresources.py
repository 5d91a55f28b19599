"""Subresources on the wire: scale, eviction, tokens, and any other."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from kaito.client import AiohttpTransport, Client, Config, TooManyRequests
from kaito.kube import ConfigMap, Deployment, ObjectKey, Pod, Scale, Unstructured
from kaito.kube.authentication_v1 import TokenRequest

KEY = ObjectKey("web", "ns")
DEPLOYMENT = "/apis/apps/v1/namespaces/ns/deployments/web"
POD = "/api/v1/namespaces/ns/pods/web"
WRITE = {"fieldManager": "tests", "fieldValidation": "Strict"}
SCALE = {
    "apiVersion": "autoscaling/v1",
    "kind": "Scale",
    "metadata": {"name": "web", "namespace": "ns", "resourceVersion": "7"},
    "spec": {"replicas": 2},
    "status": {"replicas": 1, "selector": "app=web"},
}
STATUS = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}


@pytest.fixture
async def client(server: Any) -> AsyncIterator[Client]:
    async with Client(AiohttpTransport(Config(server.url)), field_owner="tests") as opened:
        yield opened


async def test_scale_is_read_replaced_and_patched(server: Any, client: Client) -> None:
    server.default = (200, {}, SCALE)
    scale = await client.scale.get(Deployment, KEY)
    assert isinstance(scale, Scale)
    assert (scale.spec.replicas, scale.status.replicas, scale.status.selector) == (2, 1, "app=web")
    await client.scale.update(Deployment, scale)
    await client.scale.patch(Deployment, KEY, {"spec": {"replicas": 3}}, resource_version="7")
    await client.scale.set(Deployment, KEY, 4, dry_run=True)
    assert [(asked.method, asked.path) for asked in server.asked] == [
        (method, f"{DEPLOYMENT}/scale") for method in ("GET", "PUT", "PATCH", "PATCH")
    ]
    assert server.asked[1].json == SCALE
    assert server.asked[2].json == {"spec": {"replicas": 3}, "metadata": {"resourceVersion": "7"}}
    assert (server.asked[3].json, server.asked[3].query["dryRun"]) == ({"spec": {"replicas": 4}}, "All")


async def test_an_eviction_names_its_pod_and_says_how(server: Any, client: Client) -> None:
    server.default = (201, {}, STATUS)
    await client.evict(KEY)
    await client.evict(KEY, uid="u", grace_period_s=0, dry_run=True)
    plain, full = server.asked
    assert (plain.method, plain.path, plain.query) == ("POST", f"{POD}/eviction", WRITE)
    metadata = {"name": "web", "namespace": "ns"}
    assert plain.json == {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": metadata}
    assert full.json["deleteOptions"] == {"preconditions": {"uid": "u"}, "gracePeriodSeconds": 0}
    assert full.query == WRITE | {"dryRun": "All"}


async def test_an_eviction_that_a_budget_forbids_names_the_budget(server: Any, client: Client) -> None:
    message = "The disruption budget web-pdb needs 2 healthy pods and has 2 currently"
    body = {
        "kind": "Status",
        "code": 429,
        "reason": "TooManyRequests",
        "message": "Cannot evict pod as it would violate the pod's disruption budget.",
        "details": {"causes": [{"reason": "DisruptionBudget", "message": message}]},
    }
    server.default = (429, {}, body)
    with pytest.raises(TooManyRequests) as raised:
        await client.evict(KEY)
    assert str(raised.value) == (
        "create pods/eviction ns/web: 429 TooManyRequests: Cannot evict pod as it would violate the pod's disruption "
        f"budget. {message}"
    )


async def test_a_token_is_asked_for_and_shows_nowhere(server: Any, client: Client) -> None:
    answer = {
        "kind": "TokenRequest",
        "metadata": {},
        "status": {"token": "s3cret", "expirationTimestamp": "2026-01-02T03:04:05Z"},
    }
    server.default = (201, {}, answer)
    pod = Pod.model_validate({"metadata": {"name": "p", "namespace": "ns", "uid": "u"}, "spec": {"containers": []}})
    status = await client.create_token(ObjectKey("robot", "ns"), audiences=["vault"], expiration_s=600, bound_to=pod)
    assert status.token == "s3cret"
    assert status.expiration_timestamp is not None
    (asked,) = server.asked
    assert (asked.method, asked.path) == ("POST", "/api/v1/namespaces/ns/serviceaccounts/robot/token")
    assert asked.json["spec"] == {
        "audiences": ["vault"],
        "expirationSeconds": 600,
        "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u"},
    }
    whole = TokenRequest.model_validate(answer)
    for shown in (repr(status), str(status), repr(whole), str(whole)):
        assert "s3cret" not in shown


async def test_a_token_that_cannot_be_read_does_not_show_itself_in_the_error(server: Any, client: Client) -> None:
    server.default = (201, {}, {"metadata": {}, "status": {"token": ["s3cret"]}})
    with pytest.raises(ValueError, match="token") as raised:
        await client.create_token(ObjectKey("robot", "ns"))
    assert "s3cret" not in str(raised.value)


async def test_any_subresource_has_the_verbs(server: Any, client: Client) -> None:
    server.default = (200, {}, {"metadata": {"name": "web", "namespace": "ns"}, "spec": {"containers": []}})
    resize = client.subresource("resize")
    pod = await resize.get(Pod, KEY)
    await resize.update(pod)
    await resize.patch(Pod, KEY, {"spec": {}}, type="strategic")
    binding = Unstructured("v1", "Binding").model_validate({"metadata": {"name": "web"}, "target": {"name": "n1"}})
    answered = await client.subresource("binding").create(Pod, KEY, binding, result=Unstructured("v1", "Status"))
    assert answered.kind == "Status"
    assert [(asked.method, asked.path) for asked in server.asked] == [
        ("GET", f"{POD}/resize"),
        ("PUT", f"{POD}/resize"),
        ("PATCH", f"{POD}/resize"),
        ("POST", f"{POD}/binding"),
    ]
    assert server.asked[3].json["target"] == {"name": "n1"}


async def test_a_status_is_read_where_it_is_written(server: Any, client: Client) -> None:
    server.default = (200, {}, {"metadata": {"name": "web", "namespace": "ns"}})
    await client.status.get(ConfigMap, KEY)
    assert server.asked[0].path == "/api/v1/namespaces/ns/configmaps/web/status"
