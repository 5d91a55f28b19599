"""install_crds: makes a test's API server serve kinds of one's own, from their classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kaito.client import Client
from kaito.kube.crd import custom_resource_definition
from kaito.kube.object_key import ObjectKey
from kaito.kube.resource import Resource
from kaito.kube.unstructured import Unstructured
from kaito.testing.eventually import eventually

CRD = Unstructured("apiextensions.k8s.io/v1", "CustomResourceDefinition", namespaced=False)


async def install_crds(client: Client, *kinds: type[Resource], timeout_s: float = 10.0) -> None:
    """Applies the CustomResourceDefinitions of kinds, and waits until the API server serves them; again does no harm.

    Args:
        client: whose user may do it, such as the fixture `client`.
        kinds: classes of one version each; a kind with several goes to `install_definitions`, as
            `kaito.kube.custom_resource_definition(V1, V2)`.
        timeout_s: seconds to wait.

    Raises:
        AssertionError: one is not served in time; says what the API server has against it.
        kaito.client.Invalid: the API server refuses a schema.
    """
    await install_definitions(client, *map(custom_resource_definition, kinds), timeout_s=timeout_s)


async def install_definitions(client: Client, *definitions: Mapping[str, Any], timeout_s: float = 10.0) -> None:
    """Does for CustomResourceDefinitions as they stand on the wire what `install_crds` does for classes."""
    applied = [(await client.apply(CRD.model_validate(each), force=True)).object for each in definitions]
    for crd in applied:
        await _established(client, crd.key, timeout_s)


async def _established(client: Client, key: ObjectKey, timeout_s: float) -> None:
    async def probe() -> bool:
        found = await client.get(CRD, key)
        conditions = found.get("status", {}).get("conditions") or ()
        assert _is_true(conditions, "Established"), [dict(each) for each in conditions]
        return True

    await eventually(probe, timeout_s=timeout_s, message=f"the API server serves {key}")


def _is_true(conditions: tuple[dict[str, str], ...], name: str) -> bool:
    return any(each["type"] == name and each["status"] == "True" for each in conditions)
