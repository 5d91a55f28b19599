"""`kaito manager --metrics-secure` on a real API server: whose token reads /metrics, and whose does not."""

from __future__ import annotations

import aiohttp
import pytest

from kaito.client import Client
from kaito.kube.core_v1 import ServiceAccount
from kaito.kube.meta_v1 import ObjectMeta
from kaito.kube.object_key import ObjectKey
from kaito.kube.rbac_v1 import ClusterRole, ClusterRoleBinding
from kaito.testing import eventually
from tests.operating.manager_process import ManagerProcess


@pytest.fixture(scope="module")
def manager_arguments() -> tuple[str, ...]:
    return ("--metrics-secure",)


async def token_of(client: Client, name: str, namespace: str) -> str:
    await client.create(ServiceAccount(metadata=ObjectMeta(name=name, namespace=namespace)))
    return (await client.create_token(ObjectKey(name, namespace))).token


async def let_scrape(client: Client, name: str, namespace: str) -> None:
    role = {"metadata": {"name": f"scrape-{namespace}"}, "rules": [{"nonResourceURLs": ["/metrics"], "verbs": ["get"]}]}
    await client.create(ClusterRole.model_validate(role))
    binding = {
        "metadata": {"name": f"scrape-{namespace}"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": f"scrape-{namespace}"},
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": namespace}],
    }
    await client.create(ClusterRoleBinding.model_validate(binding))


async def scrape(manager: ManagerProcess, token: str | None) -> tuple[int, str]:
    started = manager.logged("manager started")[0]
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"https://{started['metrics']}/metrics", headers=headers, ssl=False) as response,
    ):
        return response.status, await response.text()


async def test_metrics_are_for_tokens_that_may_get_them(
    manager: ManagerProcess, client: Client, namespace: str
) -> None:
    allowed = await token_of(client, "prometheus", namespace)
    await let_scrape(client, "prometheus", namespace)
    other = await token_of(client, "nobody", namespace)

    async def lets_in() -> bool:
        status, text = await scrape(manager, allowed)
        return status == 200 and "controller_runtime_reconcile_total" in text

    await eventually(lets_in, timeout_s=40.0, message="the binding counts")
    status, text = await scrape(manager, other)
    assert status == 403
    assert text.startswith(f"system:serviceaccount:{namespace}:nobody may not get /metrics; bind a ClusterRole")
    assert (await scrape(manager, "nonsense"))[0] == 401
    assert (await scrape(manager, None))[0] == 401
    assert (await manager.get("/readyz"))[0] == 200
    assert "[+]secure-metrics ok" in (await manager.get("/readyz?verbose"))[1]
