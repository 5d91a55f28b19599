"""install_crds: makes a test's API server serve kinds of one's own, from their classes."""

from __future__ import annotations

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
        kinds: classes of one version each; of a kind with several versions, apply
            `kaito.kube.custom_resource_definition(V1, V2)` yourself.
        timeout_s: seconds to wait.

    Raises:
        AssertionError: one is not served in time; says what the API server has against it.
        kaito.client.Invalid: the API server refuses a schema.
    """
    for kind in kinds:
        crd = CRD.model_validate(custom_resource_definition(kind))
        await client.apply(crd, force=True)
    for kind in kinds:
        place = kind.resource_type
        await _established(client, ObjectKey(f"{place.plural}.{place.group}"), timeout_s)


async def _established(client: Client, key: ObjectKey, timeout_s: float) -> None:
    async def probe() -> bool:
        found = await client.get(CRD, key)
        conditions = found.get("status", {}).get("conditions") or ()
        assert _is_true(conditions, "Established"), [dict(each) for each in conditions]
        return True

    await eventually(probe, timeout_s=timeout_s, message=f"the API server serves {key}")


def _is_true(conditions: tuple[dict[str, str], ...], name: str) -> bool:
    return any(each["type"] == name and each["status"] == "True" for each in conditions)
