"""Every defect of the table is refused by the schema and the CEL rules alone: a real API server, and no webhook."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from kaito.devcluster.controlplane import ControlPlane
from kaito.devcluster.errors import RequestError
from tests.operating.bad_workspaces import BY_RULES, BadWorkspace, bad_workspaces, good_workspaces
from tests.operating.cluster import install_crds

ROWS = bad_workspaces(BY_RULES)


@pytest_asyncio.fixture(scope="module", loop_scope="session", autouse=True)
async def crds(control_plane: ControlPlane) -> AsyncIterator[None]:
    await install_crds(control_plane)
    yield


def collection(manifest: dict[str, Any], namespace: str) -> str:
    return f"/apis/{manifest['apiVersion']}/namespaces/{namespace}/workspaces"


def refusal(plane: ControlPlane, method: str, path: str, manifest: dict[str, Any]) -> dict[str, str]:
    """What the API server says of each field; empty when it takes the manifest."""
    try:
        plane.request(method, f"{path}?dryRun=All&fieldValidation=Strict", manifest)
    except RequestError as error:
        answer = str(error)
        status = json.loads(answer[answer.index("{") :])
        causes = status.get("details", {}).get("causes", [{"field": "", "message": answer}])
        fields = {str(cause["field"]) for cause in causes}
        return {
            field: "; ".join(str(cause["message"]) for cause in causes if cause["field"] == field) for field in fields
        }
    return {}


def missed(row: BadWorkspace, said: dict[str, str]) -> str:
    """What is not as the row wants it; empty when all is."""
    if row.says in said.get(row.field, ""):
        return ""
    return f"{row.name}: wanted {row.field}: …{row.says}…, got {said or 'no refusal'}"


@pytest.mark.parametrize("version", ["v1alpha1", "v1beta1"])
@pytest.mark.parametrize(("name", "good"), good_workspaces(BY_RULES).items())
def test_what_the_table_spoils_is_good(
    control_plane: ControlPlane, name: str, good: dict[str, Any], version: str
) -> None:
    manifest = good | {"apiVersion": f"kaito.sh/{version}"}
    assert refusal(control_plane, "POST", collection(manifest, "default"), manifest) == {}


def test_each_defect_is_refused_on_create_with_its_field_and_what_to_write(control_plane: ControlPlane) -> None:
    rows = [row for row in ROWS if row.verb == "create"]
    assert rows
    answers = [missed(row, refusal(control_plane, "POST", collection(row.bad, "default"), row.bad)) for row in rows]
    assert "\n".join(filter(None, answers)) == ""


def test_each_defect_is_refused_on_update_with_its_field_and_what_to_do(
    control_plane: ControlPlane, namespace: str
) -> None:
    rows = [row for row in ROWS if row.verb == "update"]
    assert rows
    answers = []
    for at, row in enumerate(rows):
        path = collection(row.good, namespace)
        name = f"{row.good['metadata']['name']}-{at}"
        stored = control_plane.request("POST", path, row.good | {"metadata": row.good["metadata"] | {"name": name}})
        bad = row.bad | {"metadata": stored["metadata"]}
        answers.append(missed(row, refusal(control_plane, "PUT", f"{path}/{name}", bad)))
    assert "\n".join(filter(None, answers)) == ""
