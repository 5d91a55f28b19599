"""Webhooks that a real API server calls: what users see, and what keeps on working while certificates change."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import json
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from kaito.client import ApiError, Client, Config, Invalid, NotFound, load_config
from kaito.client.credentials import StaticCredentials
from kaito.devcluster.controlplane import ControlPlane
from kaito.devcluster.errors import KubectlError
from kaito.kube import KubeModel, ObjectKey, Resource, custom_resource_definition
from kaito.kube.admissionregistration_v1 import ValidatingWebhookConfiguration
from kaito.kube.core_v1 import Secret
from kaito.kube.frozen import FrozenDict, FrozenMap
from kaito.kube.meta_v1 import LabelSelector, ObjectMeta
from kaito.runtime import Manager
from kaito.runtime.clocks import utc_now
from kaito.runtime.rbac import needs_of, rules_of
from kaito.runtime.roles import role_objects
from kaito.runtime.webhook import (
    AdmissionRequest,
    AtUrl,
    Conversion,
    ConversionFailed,
    Denied,
    Installed,
    OwnAuthority,
    Patched,
    Policy,
    Validator,
    Webhook,
    WebhookServer,
    forbidden,
    invalid,
)
from kaito.runtime.webhook.certificates import parse
from kaito.testing import eventually
from tests.operating.handshaking import Handshaking


class GizmoSpec(KubeModel):
    """What a gizmo wants."""

    size: int | None = None
    color: str | None = None


class Gizmo(Resource, group="webhooks.example.com", version="v1"):
    """A custom resource of this test; its spec may have fields that the class does not know."""

    spec: GizmoSpec = GizmoSpec()


class Rules(Validator[Gizmo]):
    """At most ten, never smaller, and locked ones stay."""

    def validate_create(self, obj: Gizmo, request: AdmissionRequest, /) -> list[str]:
        if (obj.spec.size or 0) > 10:
            raise Denied(invalid("spec.size", obj.spec.size, "at most 10"))
        return ["seven is a lot"] if obj.spec.size == 7 else []

    async def validate_update(self, old: Gizmo, new: Gizmo, request: AdmissionRequest, /) -> None:
        if (new.spec.size or 0) < (old.spec.size or 0):
            raise Denied(forbidden("spec.size", "it may only grow"))

    def validate_delete(self, old: Gizmo, request: AdmissionRequest, /) -> None:
        if "locked" in old.metadata.labels:
            raise Denied(message="locked: take the label off first")


def sized(draft: Gizmo, request: AdmissionRequest) -> None:
    if draft.spec.size is None:
        draft.spec.size = 3


class Clock:
    """The time of day, some days ago."""

    def __init__(self, days: float = 0) -> None:
        self.days = days

    def __call__(self) -> datetime:
        return utc_now() - timedelta(days=self.days)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Replica:
    """A manager with webhooks for the Gizmos of one namespace."""

    def __init__(
        self,
        config: Config,
        namespace: str,
        port: int,
        *,
        reached: int = 0,
        clock: Clock | None = None,
        policy: Policy = Policy(timedelta(days=90), timedelta(days=80)),
        **options: Any,
    ) -> None:
        self.clock = clock or Clock()
        self.manager = Manager(f"gizmos-{namespace}", config, metrics="0", health="127.0.0.1:0", grace_s=1.0)
        here = LabelSelector(match_labels=FrozenDict({"kubernetes.io/metadata.name": namespace}))
        webhook = Webhook(Gizmo, validate=Rules(), default=sized, namespace_selector=here)
        self.server = Handshaking(
            self.manager,
            webhook,
            reached=AtUrl(f"https://127.0.0.1:{reached or port}"),
            certificates=OwnAuthority(
                self.manager.api_reader, ObjectKey("keys", namespace), policy=policy, poll_s=0.1, clock=self.clock
            ),
            address=f"127.0.0.1:{port}",
            linger_s=0.0,
            clock=self.clock,
            **options,
        )
        self.manager.add(self.server)

    @property
    def configuration(self) -> ObjectKey:
        return ObjectKey(self.manager.name)


@asynccontextmanager
async def running(it: Replica, *, ready: bool = True) -> AsyncIterator[Replica]:
    task = asyncio.create_task(it.manager.run())
    try:
        if ready:
            await eventually(lambda: it.server.fault() is None, message="ready", timeout_s=20)
        yield it
    finally:
        it.manager.stop()
        await task


@pytest_asyncio.fixture(scope="module", loop_scope="session", autouse=True)
async def crd(control_plane: ControlPlane) -> None:
    manifest = custom_resource_definition(Gizmo)
    (version,) = manifest["spec"]["versions"]
    version["schema"]["openAPIV3Schema"]["properties"]["spec"]["x-kubernetes-preserve-unknown-fields"] = True
    await control_plane.kubectl("apply", "-f", "-", input=json.dumps(manifest))
    await control_plane.kubectl("wait", "crd", "gizmos.webhooks.example.com", "--for=condition=Established")


@pytest.fixture
def config(control_plane: ControlPlane) -> Config:
    return load_config(control_plane.kubeconfig)


@pytest.fixture
async def uninstalled(client: Client, namespace: str) -> AsyncIterator[None]:
    """Takes the configurations away in the end, or nobody could write Gizmos of that namespace again."""
    yield
    for kind in ("validating", "mutating"):
        path = f"{kind}webhookconfigurations"
        with suppress(NotFound):
            await client.delete(_kind(path), ObjectKey(f"gizmos-{namespace}"))


def _kind(plural: str) -> type[Resource]:
    from kaito.kube.admissionregistration_v1 import MutatingWebhookConfiguration

    return ValidatingWebhookConfiguration if plural.startswith("validating") else MutatingWebhookConfiguration


@pytest.fixture
async def replica(config: Config, namespace: str, uninstalled: None) -> AsyncIterator[Replica]:
    async with running(Replica(config, namespace, free_port())) as it:
        yield it


def gizmo(namespace: str, name: str = "a", labels: dict[str, str] | None = None, **spec: Any) -> Gizmo:
    return Gizmo.model_validate(
        {"metadata": {"name": name, "namespace": namespace, "labels": labels or {}}, "spec": spec}
    )


async def refusal(control_plane: ControlPlane, *arguments: str, input: str | None = None) -> str:
    with pytest.raises(KubectlError) as error:
        await control_plane.kubectl(*arguments, input=input)
    return error.value.stderr


async def test_users_read_which_field_is_wrong_what_they_gave_and_what_is_allowed(
    replica: Replica, control_plane: ControlPlane, client: Client, namespace: str
) -> None:
    manifest = json.dumps(gizmo(namespace, size=11).to_dict())

    said = await refusal(control_plane, "create", "-f", "-", input=manifest)
    print(said)
    assert 'The Gizmo "a" is invalid: spec.size: Invalid value: 11: at most 10' in said

    with pytest.raises(Invalid, match=r"admission webhook .*validate.gizmos.v1.webhooks.example.com.* denied") as error:
        await client.create(gizmo(namespace, size=11))
    assert [tuple(cause) for cause in error.value.causes] == [
        ("spec.size", "FieldValueInvalid", "Invalid value: 11: at most 10")
    ]
    with pytest.raises(Invalid, match="at most 10"):
        await client.create(gizmo(namespace, size=11), dry_run=True)


async def test_defaults_come_and_what_the_class_does_not_know_stays(
    replica: Replica, client: Client, namespace: str
) -> None:
    made = await client.create(gizmo(namespace, zeta={"deep": [1, 2.5, None]}, alpha=1), field_validation="Ignore")
    assert made.to_dict()["spec"] == {"zeta": {"deep": [1, 2.5, None]}, "alpha": 1, "size": 3}

    tried = await client.create(gizmo(namespace, "b"), dry_run=True)
    assert tried.spec.size == 3
    with pytest.raises(NotFound):
        await client.get(Gizmo, ObjectKey("b", namespace))


async def test_updates_deletions_and_what_is_being_deleted(
    replica: Replica, control_plane: ControlPlane, client: Client, namespace: str
) -> None:
    it = gizmo(namespace, labels={"locked": "yes"}, size=5).edit()
    it.metadata.finalizers = ("example.com/a",)
    await client.create(it)
    key = it.key

    with pytest.raises(Invalid, match=r"spec.size: Forbidden: it may only grow"):
        await client.patch(Gizmo, key, {"spec": {"size": 4}})
    assert (await client.patch(Gizmo, key, {"spec": {"size": 6}})).spec.size == 6
    said = await refusal(control_plane, "delete", "gizmo", "a", "-n", namespace, "--wait=false")
    print(said)
    assert "denied the request: locked: take the label off first" in said

    await client.patch(Gizmo, key, {"metadata": {"labels": {"locked": None}}})
    await client.delete(Gizmo, key)
    shrunk = await client.patch(Gizmo, key, {"spec": {"size": 1}})
    assert shrunk.metadata.deletion_timestamp is not None, "an object that is being deleted is not judged"
    await client.patch(Gizmo, key, {"metadata": {"finalizers": None}})
    with pytest.raises(NotFound):
        await client.get(Gizmo, key)


async def test_warnings_are_printed_by_kubectl(replica: Replica, control_plane: ControlPlane, namespace: str) -> None:
    manifest = json.dumps(gizmo(namespace, size=7).to_dict())

    said = await refusal(control_plane, "create", "--warnings-as-errors", "-f", "-", input=manifest)

    assert "Warning: seven is a lot" in said


async def test_a_configuration_that_is_deleted_emptied_or_changed_comes_back(
    replica: Replica, client: Client, namespace: str
) -> None:
    key = replica.configuration

    async def refused() -> bool:
        try:
            await client.create(gizmo(namespace, size=11), dry_run=True)
        except Invalid:
            return True
        return False

    before = (await client.get(ValidatingWebhookConfiguration, key)).webhooks
    await client.delete(ValidatingWebhookConfiguration, key)
    await eventually(refused, message="refused after deletion")
    patches: list[dict[str, Any]] = [{"webhooks": []}, {"metadata": {"labels": {"a": "b"}}, "webhooks": None}]
    for patch in patches:
        await client.patch(ValidatingWebhookConfiguration, key, patch)
        await eventually(refused, message="refused after it was emptied")

    found = (await client.get(ValidatingWebhookConfiguration, key)).edit()
    entry = found.webhooks[0]
    entry.failure_policy = "Ignore"
    entry.match_conditions = (
        *entry.match_conditions,
        entry.match_conditions[0].model_copy(update={"name": "never", "expression": "false"}),
    )
    await client.update(found, field_owner="meddler")
    await eventually(refused, message="refused after it was changed")

    async def as_before() -> bool:
        return (await client.get(ValidatingWebhookConfiguration, key)).webhooks == before

    await eventually(as_before)


async def test_t83_an_authority_is_replaced_under_continuous_creates_without_one_failure(
    config: Config, client: Client, namespace: str, uninstalled: None
) -> None:
    # What is made 62 days ago is still valid today, and due for renewal today: the API server knows the real time.
    clock = Clock(62)
    done = asyncio.Event()
    created = 0

    async def create() -> None:
        nonlocal created
        while not done.is_set():
            await client.create(gizmo(namespace, "x"), dry_run=True)
            created += 1

    async with running(Replica(config, namespace, free_port(), clock=clock)) as it, asyncio.TaskGroup() as load:
        for _ in range(4):
            load.create_task(create())
        await eventually(lambda: created > 20)
        first = it.server._serving
        assert first is not None
        clock.days = 0

        def replaced() -> bool:
            clock.days -= 1 / 1440  # a minute on, until it was trusted for long enough
            serving = it.server._serving
            return serving is not None and serving.parsed.issuer != first.parsed.issuer

        await eventually(replaced)
        seen = created
        await eventually(lambda: created > seen + 20)
        done.set()

    secret = await client.get(Secret, ObjectKey("keys", namespace))
    bundle = parse(base64.b64decode(secret.data["ca.crt"]))
    configuration = await client.get(ValidatingWebhookConfiguration, it.configuration)
    assert len(bundle) == 2
    assert parse(base64.b64decode(configuration.webhooks[0].client_config.ca_bundle or "")) == bundle


async def certificate(port: int, trust: ssl.SSLContext) -> bytes:
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trust)
    der: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    await writer.wait_closed()
    return der


async def test_two_replicas_share_one_secret_and_one_takes_over_when_the_other_goes(
    config: Config, client: Client, namespace: str, uninstalled: None
) -> None:
    port, other = free_port(), free_port()
    async with running(Replica(config, namespace, other, reached=port)) as second:
        async with running(Replica(config, namespace, port)) as first:
            await client.create(gizmo(namespace, "a"))
            secret = await client.get(Secret, ObjectKey("keys", namespace))
            trust = ssl.create_default_context(cadata=base64.b64decode(secret.data["ca.crt"]).decode())
            assert await certificate(port, trust) == await certificate(other, trust)
            assert first.server.fault() is second.server.fault() is None
            written = (await client.get(ValidatingWebhookConfiguration, first.configuration)).metadata.generation
        # A new process in the place of the first: the same keys, and nothing to write.
        async with running(Replica(config, namespace, port)):
            await client.create(gizmo(namespace, "b"))
            assert await certificate(port, trust) == await certificate(other, trust)
            found = await client.get(ValidatingWebhookConfiguration, first.configuration)
            assert found.metadata.generation == written


async def test_a_service_account_gets_along_with_what_is_declared_waits_without_and_is_not_judged_itself(
    config: Config, client: Client, namespace: str, uninstalled: None
) -> None:
    account = ObjectKey("gizmos", namespace)
    plain = Replica(config, namespace, 9443)
    roles = role_objects(f"gizmos-{namespace}", account, rules_of(needs_of(plain.manager)))
    await plain.manager.api_reader.aclose()
    await client.create(roles[0])
    token = (await client.create_token(account)).token
    credentials = StaticCredentials({"Authorization": f"Bearer {token}"})
    own = dataclasses.replace(config, credentials=credentials, ssl=_anonymous(config))
    async with running(Replica(own, namespace, free_port()), ready=False) as it:
        await eventually(lambda: "Forbidden" in (it.server.fault() or ""))
        assert f"secrets {namespace}/keys: 403 Forbidden" in (it.server.fault() or "")
        for role in roles[1:]:
            await client.create(role)
        await eventually(lambda: it.server.fault() is None, timeout_s=30, message="ready once it has its rights")
        configuration = await client.get(ValidatingWebhookConfiguration, it.configuration)
        conditions = [each.expression for each in configuration.webhooks[0].match_conditions]
        assert f'request.userInfo.username != "system:serviceaccount:{namespace}:gizmos"' in conditions
    for role in roles[1:]:
        await client.delete(type(role), role.key)


def _anonymous(config: Config) -> ssl.SSLContext:
    """Trusts the API server, and has no client certificate."""
    context = ssl.create_default_context()
    assert config.ssl is not None
    for der in config.ssl.get_ca_certs(binary_form=True):
        context.load_verify_locations(cadata=der)
    return context


async def test_somebody_elses_configuration_only_gets_our_authority(
    config: Config, client: Client, namespace: str, uninstalled: None
) -> None:
    port = free_port()
    here = {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
    rule = {
        "apiGroups": ["webhooks.example.com"],
        "apiVersions": ["v1"],
        "operations": ["CREATE"],
        "resources": ["gizmos"],
    }
    entry = {
        "name": "chart.gizmos.example.com",
        "clientConfig": {"url": f"https://127.0.0.1:{port}/validate-webhooks-example-com-v1-gizmo"},
        "rules": [rule],
        "namespaceSelector": here,
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
    }
    name = f"gizmos-{namespace}"
    made = ValidatingWebhookConfiguration.model_validate({"metadata": {"name": name}, "webhooks": [entry]})
    await client.create(made)
    async with running(Replica(config, namespace, port, configuration=Patched(validating=[name]))):
        with pytest.raises(Invalid, match=r"chart.gizmos.example.com.* denied"):
            await client.create(gizmo(namespace, size=11))
        assert len((await client.get(ValidatingWebhookConfiguration, ObjectKey(name))).webhooks) == 1


class OldDoodad(Resource, group="conversion.example.com", version="v1beta1", kind="Doodad", plural="doodads"):
    """The version before, which called the size something else."""

    spec: FrozenMap[str, int] = FrozenDict()


class Doodad(Resource, group="conversion.example.com", version="v1"):
    """A kind with two versions."""

    spec: GizmoSpec = GizmoSpec()


def up(old: OldDoodad) -> Doodad:
    return Doodad(metadata=old.metadata, spec=GizmoSpec(size=old.spec.get("length")))


def down(new: Doodad) -> OldDoodad:
    if new.spec.size == 13:
        raise ConversionFailed("spec.size: 13 has no length")
    return OldDoodad(metadata=new.metadata, spec=FrozenDict({"length": new.spec.size or 0}))


def two_versions(url: str) -> dict[str, Any]:
    schema = {"type": "object", "properties": {"spec": {"type": "object", "additionalProperties": {"type": "integer"}}}}
    versions = [
        {"name": name, "served": True, "storage": name == "v1", "schema": {"openAPIV3Schema": schema}}
        for name in ("v1", "v1beta1")
    ]
    webhook = {"clientConfig": {"url": f"{url}/convert"}, "conversionReviewVersions": ["v1"]}
    spec = {
        "group": "conversion.example.com",
        "scope": "Namespaced",
        "names": {"kind": "Doodad", "listKind": "DoodadList", "plural": "doodads", "singular": "doodad"},
        "versions": versions,
        "conversion": {"strategy": "Webhook", "webhook": webhook},
    }
    crd = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "spec": spec}
    return crd | {"metadata": {"name": "doodads.conversion.example.com"}}


async def test_t84_versions_are_converted_and_a_list_that_cannot_be_names_the_object(
    config: Config, control_plane: ControlPlane, client: Client, namespace: str, uninstalled: None
) -> None:
    port = free_port()
    crd = two_versions(f"https://127.0.0.1:{port}")
    await control_plane.kubectl("apply", "-f", "-", input=json.dumps(crd))
    await control_plane.kubectl("wait", "crd", crd["metadata"]["name"], "--for=condition=Established")
    converting = Conversion(Doodad).version(OldDoodad, to_hub=up, from_hub=down)
    keeper = Installed(conversion=[crd["metadata"]["name"]])
    try:
        async with running(Replica(config, namespace, port, configuration=keeper, conversions=[converting])):
            metadata = ObjectMeta(name="a", namespace=namespace)
            await client.create(OldDoodad(metadata=metadata, spec=FrozenDict({"length": 5})))
            assert (await client.get(Doodad, ObjectKey("a", namespace))).spec.size == 5
            await client.create(Doodad(metadata=ObjectMeta(name="b", namespace=namespace), spec=GizmoSpec(size=13)))
            with pytest.raises(ApiError, match=f"Doodad {namespace}/b: .*13 has no length"):
                await client.list(OldDoodad, namespace=namespace)
            assert len(await client.list(Doodad, namespace=namespace)) == 2
            # While there is something that converts: later nobody could list them, nor end the namespace.
            await control_plane.kubectl("delete", "doodads", "--all", "-n", namespace)
    finally:
        await control_plane.kubectl("delete", "crd", crd["metadata"]["name"])


async def test_the_example_of_the_guide_stands_as_it_is(
    control_plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(control_plane.kubeconfig))
    guide = (Path(__file__).parents[2] / "docs" / "webhooks.md").read_text()
    example = guide.split("```python\n")[1].split("```")[0]
    names: dict[str, Any] = {"__name__": "guide"}

    exec(compile(example, "docs/webhooks.md", "exec"), names)

    manager: Manager = names["manager"]
    (server,) = [each for each in manager.services if isinstance(each, WebhookServer)]
    assert server.fault() == "not listening yet"
    await manager.api_reader.aclose()
