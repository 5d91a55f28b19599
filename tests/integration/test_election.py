"""Leader election on a real API server: what other clients see in the Lease, and the fence in the server itself."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from typing import Any

import pytest
import yaml

from kaito.client import Client, Config, Forbidden, NotFound
from kaito.client.credentials import StaticCredentials
from kaito.devcluster.controlplane import ControlPlane
from kaito.informers.options import InformerOptions
from kaito.kube.coordination_v1 import Lease
from kaito.kube.core_v1 import ConfigMap, Pod, ServiceAccount
from kaito.kube.object_key import ObjectKey
from kaito.kube.rbac_v1 import ClusterRole, ClusterRoleBinding, Role, RoleBinding
from kaito.runtime import DONE, Controller, LeaderElection, Manager, Result
from kaito.runtime.access import Access
from kaito.runtime.election import admission_fence
from kaito.runtime.election.admission_fence import (
    NotInPod,
    ValidatingAdmissionPolicy,
    ValidatingAdmissionPolicyBinding,
    identity_of_pod,
    install,
    keeper,
    policy,
    policy_name,
    written,
)
from kaito.runtime.rbac import Need, rules_of
from kaito.testing import eventually

RULES = [
    {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["*"]},
    {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["*"]},
]


class Fenced:
    """A namespace with a ServiceAccount, two pods of it, a Lease, and the policy over ConfigMaps."""

    def __init__(self, client: Client, config: Config, namespace: str, stack: AsyncExitStack) -> None:
        self.client = client
        self.namespace = namespace
        self.lease = ObjectKey("widgets", namespace)
        self._config = config
        self._stack = stack

    async def pod(self, name: str) -> Client:
        """A client with the token that Kubernetes would mount into a pod."""
        return await self._stack.enter_async_context(Client.from_config(await self.pod_config(name), name=name))

    async def pod_config(self, name: str) -> Config:
        """What such a client is made of."""
        spec = {"containers": [{"name": "c", "image": "i"}], "schedulerName": "nobody", "serviceAccountName": "robot"}
        made = await self.client.create(Pod.model_validate({"metadata": self._metadata(name), "spec": spec}))
        token = await self.client.create_token(ObjectKey("robot", self.namespace), bound_to=made)
        proof = StaticCredentials({"Authorization": f"Bearer {token.token}"})
        return dataclasses.replace(self._config, credentials=proof)

    async def allow_policies(self) -> None:
        """The ServiceAccount may install policies."""
        name = f"{self.namespace}-policies"
        rules = rules_of([Need(access, "test") for access in admission_fence.needs()]).cluster
        await self.client.create(ClusterRole.model_validate({"metadata": {"name": name}, "rules": rules}))
        binding = {
            "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": "robot", "namespace": self.namespace}],
        }
        await self.client.create(ClusterRoleBinding.model_validate(binding))
        for kind in (ClusterRoleBinding, ClusterRole):
            self._stack.push_async_callback(self.client.delete, kind, ObjectKey(name))

    async def prepare(self) -> None:
        await self.client.create(ServiceAccount.model_validate({"metadata": self._metadata("robot")}))
        await self.client.create(Role.model_validate({"metadata": self._metadata("robot"), "rules": RULES}))
        binding = {
            "metadata": self._metadata("robot"),
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "robot"},
            "subjects": [{"kind": "ServiceAccount", "name": "robot", "namespace": self.namespace}],
        }
        await self.client.create(RoleBinding.model_validate(binding))
        await self.client.create(ConfigMap.model_validate({"metadata": self._metadata("target"), "data": {}}))

    async def hold(self, holder: str) -> int:
        """The Lease names this holder from now on; returns its resourceVersion."""
        body = {"metadata": self._metadata("widgets"), "spec": {"holderIdentity": holder, "leaseDurationSeconds": 15}}
        applied = await self.client.apply(Lease.model_validate(body), force=True)
        return int(applied.object.metadata.resource_version)

    async def fence(self) -> None:
        """Installs the policy for the ServiceAccount, as its administrator."""
        what = written([Access(ConfigMap, "create", "update", "patch", "delete")])
        for each in policy(self.lease, f"system:serviceaccount:{self.namespace}:robot", what):
            await self.client.apply(each, force=True)

    async def unfence(self) -> None:
        await delete_policy(self.client, self.lease)

    async def write(self, by: Client, value: str) -> int:
        """A write that names no version; returns the one that it made."""
        change = {"data": {"by": value}}
        made = await by.patch(ConfigMap, ObjectKey("target", self.namespace), change)
        return int(made.metadata.resource_version)

    async def refused(self, by: Client) -> bool:
        try:
            await self.write(by, "probe")
        except Forbidden:
            return True
        return False

    def _metadata(self, name: str) -> dict[str, Any]:
        return {"name": name, "namespace": self.namespace}


async def delete_policy(client: Client, lease: ObjectKey) -> None:
    """What it refuses would be refused to the tests that follow."""
    for kind in (ValidatingAdmissionPolicyBinding, ValidatingAdmissionPolicy):
        with suppress(NotFound):
            await client.delete(kind, ObjectKey(policy_name(lease)))


@pytest.fixture
async def fenced(control_plane: ControlPlane, client: Client, namespace: str) -> AsyncIterator[Fenced]:
    async with AsyncExitStack() as stack:
        # Without the administrator's certificate, which would speak louder than a token.
        (cluster,) = yaml.safe_load(control_plane.kubeconfig.read_text())["clusters"]
        authority = base64.b64decode(cluster["cluster"]["certificate-authority-data"]).decode()
        config = Config(cluster["cluster"]["server"], ssl=ssl.create_default_context(cadata=authority))
        made = Fenced(client, config, namespace, stack)
        for each in keeper():
            await client.apply(each, force=True)
        await made.prepare()
        await made.fence()
        yield made
        await made.unfence()


async def test_the_api_server_refuses_what_a_former_holder_sends_however_late(fenced: Fenced) -> None:
    old, new = await fenced.pod("old"), await fenced.pod("new")
    await fenced.hold(await identity_of_pod(old, "1"))
    await eventually(lambda: fenced.refused(new), timeout_s=30.0, message="the policy holds")
    await eventually(lambda: _lets(fenced, old), message="the holder may write")
    versions: list[int] = []

    async def hammer() -> None:
        refusals = 0
        while refusals < 20:
            try:
                versions.append(await fenced.write(old, "old"))
                assert not refusals, "once refused, it was let through again"
            except Forbidden:
                refusals += 1

    hammers = [asyncio.create_task(hammer()) for _ in range(4)]
    await eventually(lambda: len(versions) > 100)
    flipped = await fenced.hold(await identity_of_pod(new, "2"))
    await asyncio.gather(*hammers)
    await eventually(lambda: _lets(fenced, new), message="the next one may write")
    late = [version for version in versions if version > flipped]
    print(f"{len(versions)} writes of the old holder, {len(late)} of them after the flip")
    # The server's own view of the Lease is a watch away: milliseconds, while others wait for seconds.
    assert len(late) <= 40
    with pytest.raises(Forbidden, match=r"widgets is held by new_.*, and not by old_"):
        await fenced.write(old, "old")


async def _lets(fenced: Fenced, by: Client) -> bool:
    return not await fenced.refused(by)


async def test_others_are_let_through_with_a_lease_and_without_one(fenced: Fenced, client: Client) -> None:
    old, new = await fenced.pod("old"), await fenced.pod("new")
    await fenced.hold(await identity_of_pod(new, "1"))
    await eventually(lambda: fenced.refused(old), timeout_s=30.0)
    await fenced.write(client, "administrator")
    await client.delete(Lease, fenced.lease)
    # Without its parameter a policy is asked nothing, not even whom it is for.
    await eventually(lambda: _lets(fenced, old), message="nobody is fenced without a Lease")
    await fenced.write(client, "administrator")


async def test_a_fence_that_comes_after_the_last_one_was_deleted_sees_leases_as_they_are(
    fenced: Fenced, client: Client
) -> None:
    old, new = await fenced.pod("old"), await fenced.pod("new")
    await fenced.hold(await identity_of_pod(new, "1"))
    await eventually(lambda: fenced.refused(old), timeout_s=30.0)
    await fenced.unfence()
    # Once the server lets it through, it has drawn its conclusions from what policies there are, keeper included.
    await eventually(lambda: _lets(fenced, old), timeout_s=30.0)
    await fenced.hold(await identity_of_pod(old, "2"))
    await fenced.fence()
    await eventually(lambda: fenced.refused(new), timeout_s=30.0, message="the fence knows the holder of now")
    await fenced.write(old, "old")


async def test_credentials_of_no_pod_are_told_so(fenced: Fenced, client: Client) -> None:
    with pytest.raises(NotInPod, match="knows this process as kaito-admin, of no pod"):
        await identity_of_pod(client, "1")


async def test_it_installs_itself_as_whoever_it_is_and_again_without_a_change(fenced: Fenced, client: Client) -> None:
    lease = ObjectKey("installed", fenced.namespace)
    key = ObjectKey(policy_name(lease))
    what = written([Access(ConfigMap, "patch"), Access(ConfigMap, "delete")])
    try:
        await install(client, lease, what)
        first = await client.get(ValidatingAdmissionPolicy, key)
        await install(client, lease, what)
        again = await client.get(ValidatingAdmissionPolicy, key)
        assert again.metadata.generation == first.metadata.generation
        spec = again.to_dict()["spec"]
        assert spec["matchConditions"][0]["expression"] == "request.userInfo.username == 'kaito-admin'"
        assert spec["matchConstraints"]["resourceRules"][0]["operations"] == ["DELETE", "UPDATE"]
        assert spec["failurePolicy"] == "Fail"
    finally:
        await delete_policy(client, lease)


async def test_a_manager_in_a_pod_installs_its_fence_leads_under_its_pods_name_and_writes(
    fenced: Fenced, client: Client
) -> None:
    class Stamping:
        async def reconcile(self, obj: ConfigMap) -> Result:
            if obj.data.get("stamp") != "yes":
                await manager.client.patch(ConfigMap, obj.key, {"data": {"stamp": "yes"}})
            return DONE

    await fenced.allow_policies()
    manager = Manager(
        "fenced",
        await fenced.pod_config("only"),
        metrics="0",
        health="0",
        cache=InformerOptions(namespaces=frozenset({fenced.namespace})),
        leader_election=LeaderElection(namespace=fenced.namespace, trusts_absence=True, admission_fence=True),
        check_permissions=False,
    )
    manager.add(Controller(ConfigMap, Stamping(), needs=[Access(ConfigMap, "patch")]))
    await fenced.unfence()
    running = asyncio.create_task(manager.run())
    lease = ObjectKey("fenced-configmap", fenced.namespace)
    try:

        async def stamped() -> bool:
            return (await client.get(ConfigMap, ObjectKey("target", fenced.namespace))).data.get("stamp") == "yes"

        await eventually(stamped, timeout_s=20.0)
        assert ((await client.get(Lease, lease)).spec.holder_identity or "").startswith("only_")
        other = await fenced.pod("other")
        await eventually(lambda: fenced.refused(other), timeout_s=30.0, message="other pods are refused")
    finally:
        manager.stop()
        await running
        await delete_policy(client, lease)
        await fenced.fence()
