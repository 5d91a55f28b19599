"""Webhook configurations: what is declared, and how it is kept as it should be."""

from __future__ import annotations

import asyncio
import base64
from datetime import timedelta
from typing import Any

import pytest

from kaito.kube.core_v1 import Namespace
from kaito.kube.meta_v1 import LabelSelector
from kaito.runtime.clocks import utc_now
from kaito.runtime.webhook import (
    AtUrl,
    Files,
    InService,
    Installed,
    Keeper,
    MatchCondition,
    Patched,
    Reach,
    Unmanaged,
    Webhook,
)
from kaito.runtime.webhook.certificates import new_authority
from kaito.runtime.webhook.configuration import UNATTENDED, CustomResourceDefinition
from kaito.runtime.webhook.declared import entries
from kaito.runtime.webhook.metrics import WebhookMetrics
from kaito.testing import eventually, virtual_clock
from kaito.testing.fake_api import Fault, Refuse
from tests.unit.runtime.webhook.reviews import Gadget
from tests.unit.runtime.webhook.serving import Host, authority, running, serving, write

BASE = "/apis/admissionregistration.k8s.io/v1"
VALIDATING = f"{BASE}/validatingwebhookconfigurations"
MUTATING = f"{BASE}/mutatingwebhookconfigurations"
CA = new_authority("tests", utc_now(), timedelta(days=1)).certificate
BUNDLE = base64.b64encode(CA).decode()


def nothing(_obj: Any, _request: Any) -> None:
    return None


BOTH = Webhook(Gadget, validate=nothing, default=nothing, operations=["CREATE", "DELETE"], subresources=["status"])


def test_every_field_is_declared() -> None:
    webhook = Webhook(
        Gadget,
        validate=nothing,
        operations=["CREATE", "DELETE"],
        subresources=["status"],
        match_conditions=[MatchCondition("big", "object.spec.size > 3")],
        failure_policy="Ignore",
        timeout_s=3,
        side_effects="NoneOnDryRun",
        object_selector=LabelSelector(match_labels={"a": "b"}),
    )

    (entry,) = entries(
        [webhook],
        "validate",
        reached=InService("demo", "gadgets", 8443),
        authorities=CA,
        own_user="system:serviceaccount:demo:manager",
    )

    assert entry == {
        "name": "validate.gadgets.v1.example.com",
        "clientConfig": {
            "service": {
                "namespace": "demo",
                "name": "gadgets",
                "port": 8443,
                "path": "/validate-example-com-v1-gadget",
            },
            "caBundle": BUNDLE,
        },
        "rules": [
            {
                "apiGroups": ["example.com"],
                "apiVersions": ["v1"],
                "operations": ["CREATE", "DELETE"],
                "resources": ["gadgets", "gadgets/status"],
                "scope": "Namespaced",
            }
        ],
        "failurePolicy": "Ignore",
        "matchPolicy": "Equivalent",
        "sideEffects": "NoneOnDryRun",
        "timeoutSeconds": 3,
        "admissionReviewVersions": ["v1"],
        "namespaceSelector": {},
        "objectSelector": {"matchLabels": {"a": "b"}},
        "matchConditions": [
            {"name": "big", "expression": "object.spec.size > 3"},
            {
                "name": "not-being-deleted",
                "expression": 'request.operation == "DELETE" ? !has(oldObject.metadata.deletionTimestamp) : '
                "!has(object.metadata.deletionTimestamp)",
            },
            {
                "name": "not-the-manager",
                "expression": 'request.userInfo.username != "system:serviceaccount:demo:manager"',
            },
        ],
    }


def test_defaulters_are_called_for_what_can_be_changed_and_cluster_scope_is_said() -> None:
    (entry,) = entries([BOTH], "mutate", reached=AtUrl("https://h"), authorities=b"", own_user="")
    assert entry["rules"][0]["operations"] == ["CREATE"]  # type: ignore[index]
    assert entry["clientConfig"] == {"url": "https://h/mutate-example-com-v1-gadget"}
    assert entry["reinvocationPolicy"] == "Never"

    (entry,) = entries(
        [Webhook(Namespace, validate=nothing, skip_deleting=False)],
        "validate",
        reached=AtUrl("https://h"),
        authorities=b"",
        own_user="",
    )
    assert entry["rules"][0]["scope"] == "Cluster"  # type: ignore[index]
    assert entry["name"] == "validate.namespaces.v1.core"
    assert "matchConditions" not in entry


HERE = AtUrl("https://10.0.0.1")


def kept(keeper: Keeper, host: Host, *webhooks: Webhook, reached: Reach = HERE) -> Keeper:
    keeper.bind(host.api_reader, host.name, reached, webhooks, WebhookMetrics(host.registry), virtual_clock.wall)
    keeper.own_user = ""
    return keeper


def writes(host: Host) -> float | None:
    return host.sample("controller_webhook_configuration_writes_total")


def test_both_configurations_are_installed_once() -> None:
    async def scene() -> None:
        host = Host()
        keeper = kept(Installed(), host, BOTH)
        assert await keeper.keep(CA)
        since = virtual_clock.wall()
        await asyncio.sleep(10)
        assert await keeper.keep(CA)

        for path in (VALIDATING, MUTATING):
            found = host.get(f"{path}/gadgets")
            assert found["metadata"]["labels"] == {"app.kubernetes.io/managed-by": "gadgets"}
            assert found["webhooks"][0]["clientConfig"]["caBundle"] == BUNDLE
        assert writes(host) == 2
        assert keeper.trusted_since(CA) == since

    virtual_clock.run(scene())


def change(found: dict[str, Any]) -> None:
    found["webhooks"][0]["failurePolicy"] = "Ignore"


def empty(found: dict[str, Any]) -> None:
    found["webhooks"] = []


def no_bundle(found: dict[str, Any]) -> None:
    found["webhooks"][0]["clientConfig"]["caBundle"] = ""


def condition(found: dict[str, Any]) -> None:
    found["webhooks"][0]["matchConditions"].append({"name": "never", "expression": "false"})


def another(found: dict[str, Any]) -> None:
    found["webhooks"].append({**found["webhooks"][0], "name": "a.b.c"})


@pytest.mark.parametrize(
    ("meddle", "repaired"), [(change, 1), (empty, 1), (no_bundle, 1), (condition, 1), (another, 0)]
)
def test_what_others_change_of_our_entries_is_put_right_and_their_own_are_left(meddle: Any, repaired: int) -> None:
    async def scene() -> None:
        host = Host()
        keeper = kept(Installed(), host, Webhook(Gadget, validate=nothing))
        await keeper.keep(CA)
        wanted = host.get(f"{VALIDATING}/gadgets")["webhooks"]
        await asyncio.sleep(300)
        found = host.get(f"{VALIDATING}/gadgets")
        meddle(found)
        host.api.call("PUT", f"{VALIDATING}/gadgets", found, manager="meddler")

        assert await keeper.keep(CA)

        assert host.get(f"{VALIDATING}/gadgets")["webhooks"][:1] == wanted
        assert writes(host) == 1 + repaired
        trusted = keeper.trusted_since(CA)
        assert trusted is not None
        assert (trusted == virtual_clock.wall()) == bool(repaired), "trust counts from the repair"

    virtual_clock.run(scene())


def test_a_role_that_nothing_has_any_more_is_taken_out_if_it_was_ours() -> None:
    async def scene() -> None:
        host = Host()
        await kept(Installed(), host, BOTH).keep(CA)
        later = Host(api=host.api)
        assert await kept(Installed(), later, Webhook(Gadget, validate=nothing)).keep(CA)
        assert host.api.call("GET", MUTATING)["items"] == []

        foreign = Host(api=host.api, name="others")
        host.api.call("POST", MUTATING, {"metadata": {"name": "others"}, "webhooks": []})
        assert await kept(Installed(), foreign, Webhook(Gadget, validate=nothing)).keep(CA)
        assert len(host.api.call("GET", MUTATING)["items"]) == 1

    virtual_clock.run(scene())


SECOND = Webhook(Namespace, validate=nothing)


@pytest.mark.parametrize("reached", [HERE, InService("demo", "gadgets")])
@pytest.mark.parametrize("shared", [False, True])
def test_an_entry_that_an_earlier_version_declared_goes_before_it_refuses_everything(
    reached: Reach, shared: bool
) -> None:
    async def scene() -> None:
        host = Host()
        await kept(Installed(), host, Webhook(Gadget, validate=nothing), SECOND, reached=reached).keep(CA)
        found = host.get(f"{VALIDATING}/gadgets")
        assert len(found["webhooks"]) == 2
        if shared:  # the field is owned by somebody else too, so that an apply leaves it
            found["webhooks"][1]["timeoutSeconds"] = 7
            host.api.call("PUT", f"{VALIDATING}/gadgets", found, manager="meddler")

        later = kept(Installed(), Host(api=host.api), Webhook(Gadget, validate=nothing), reached=reached)
        assert await later.keep(CA)

        (entry,) = host.get(f"{VALIDATING}/gadgets")["webhooks"]
        assert entry["name"] == "validate.gadgets.v1.example.com"

    virtual_clock.run(scene())


def test_fields_of_api_servers_that_are_newer_than_we_are_are_no_difference() -> None:
    async def scene() -> None:
        host = Host()
        keeper = kept(Installed(), host, Webhook(Gadget, validate=nothing))
        await keeper.keep(CA)
        found = host.get(f"{VALIDATING}/gadgets")
        found["webhooks"][0]["fromAVersionToCome"] = "Default"
        host.api.call("PUT", f"{VALIDATING}/gadgets", found, manager="apiserver")

        assert await keeper.keep(CA)

        assert writes(host) == 1

    virtual_clock.run(scene())


def test_two_managers_that_disagree_write_ever_more_rarely() -> None:
    async def scene() -> None:
        host = Host()
        other = Host(api=host.api)
        mine = kept(Installed(), host, Webhook(Gadget, validate=nothing))
        theirs = kept(Installed(), other, Webhook(Gadget, validate=nothing, timeout_s=3))

        async def insist(keeper: Keeper) -> None:
            while True:
                await keeper.keep(CA)
                await asyncio.sleep(min(1.0, max(keeper.due_s(), 0.01)))

        tasks = [asyncio.create_task(insist(keeper)) for keeper in (mine, theirs)]
        await asyncio.sleep(600)
        assert 5 <= (writes(host) or 0) <= 25
        assert any("was changed by somebody else again" in (keeper.fault or "") for keeper in (mine, theirs))
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

    virtual_clock.run(scene())


def test_missing_rights_are_a_fault_that_says_so_and_are_tried_again() -> None:
    async def scene() -> None:
        host = Host()
        host.api.faults.add(Fault(Refuse(403, "Forbidden", "no rights"), verb="apply", times=1))
        keeper = kept(Installed(), host, Webhook(Gadget, validate=nothing))

        assert not await keeper.keep(CA)
        assert (keeper.fault or "").endswith("gadgets: 403 Forbidden: no rights")
        assert keeper.trusted_since(CA) is None

        await asyncio.sleep(keeper.due_s())
        assert await keeper.keep(CA)
        assert keeper.fault is None

    virtual_clock.run(scene())


def test_an_api_server_that_does_not_answer_is_no_fault_of_what_was_in_place_and_rights_that_are_missing_are() -> None:
    async def scene() -> None:
        host = Host()
        keeper = kept(Installed(), host, Webhook(Gadget, validate=nothing))
        await keeper.keep(CA)
        host.api.faults.add(Fault(Refuse(503, "ServiceUnavailable"), verb="get", times=1))

        assert not await keeper.keep(CA)
        assert keeper.fault is None
        assert keeper.trusted_since(CA) is None, "who cannot look cannot say what is trusted"

        await asyncio.sleep(300)
        host.api.call("DELETE", f"{VALIDATING}/gadgets")
        host.api.faults.add(Fault(Refuse(403, "Forbidden", "no rights"), verb="apply", times=1))
        assert not await keeper.keep(CA)
        assert (keeper.fault or "").endswith("gadgets: 403 Forbidden: no rights")

    virtual_clock.run(scene())


SPEC = {"group": "example.com", "names": {"kind": "A", "plural": "as"}, "scope": "Cluster", "versions": []}


def test_of_somebody_elses_configurations_only_the_bundle_is_set() -> None:
    async def scene() -> None:
        host = Host()
        host.api.register(CustomResourceDefinition)
        client = {"service": {"namespace": "demo", "name": "w"}}
        hooks = [{"name": f"{each}.b.c", "sideEffects": "None", "clientConfig": client} for each in "ab"]
        host.api.call("POST", VALIDATING, {"metadata": {"name": "chart"}, "webhooks": hooks})
        crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        for name, conversion in (
            ("a.example.com", {"strategy": "Webhook", "webhook": {"clientConfig": client}}),
            ("b.example.com", {"strategy": "None"}),
        ):
            host.api.call("POST", crds, {"metadata": {"name": name}, "spec": {**SPEC, "conversion": conversion}})
        keeper = kept(Patched(validating=["chart"], conversion=["a.example.com", "b.example.com"]), host)

        assert await keeper.keep(CA)
        assert await keeper.keep(CA)

        found = host.get(f"{VALIDATING}/chart")["webhooks"]
        assert [hook["clientConfig"] for hook in found] == [{**client, "caBundle": BUNDLE}] * 2
        spec = host.get(f"{crds}/a.example.com")["spec"]
        assert spec["conversion"]["webhook"]["clientConfig"] == {**client, "caBundle": BUNDLE}
        assert host.get(f"{crds}/b.example.com")["spec"]["conversion"] == {"strategy": "None"}
        assert writes(host) == 2
        assert [access.kind.resource_type.kind for access in keeper.needs] == [
            "ValidatingWebhookConfiguration",
            "CustomResourceDefinition",
        ]
        missing = kept(Patched(validating=["gone"]), Host())
        assert not await missing.keep(CA)
        assert "gone" in (missing.fault or "")

    virtual_clock.run(scene())


def test_where_nobody_here_sees_what_is_trusted_others_have_an_hour() -> None:
    keeper = Unmanaged()
    since = keeper.trusted_since(new_authority("tests", utc_now(), timedelta(days=1)).certificate)

    assert since is not None
    assert UNATTENDED - timedelta(minutes=2) < since - utc_now() < UNATTENDED


async def test_a_configuration_that_is_deleted_comes_back_by_the_watch(tmp_path: Any) -> None:
    ca = authority()
    host = Host()
    files = Files(write(tmp_path, serving(ca), ca), poll_s=60)
    async with running(host, Webhook(Gadget, validate=nothing), certificates=files, keeper=Installed()) as server:
        assert server.fault() is None
        uid = host.get(f"{VALIDATING}/gadgets")["metadata"]["uid"]
        host.api.call("DELETE", f"{VALIDATING}/gadgets")

        async def back() -> bool:
            found = host.api.call("GET", VALIDATING)["items"]
            return bool(found) and found[0]["metadata"]["uid"] != uid

        await eventually(back)
