"""docs/custom-resources.md: its code runs, and the API server takes and explains the CRD that it declares."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from kaito.devcluster.controlplane import ControlPlane
from kaito.devcluster.errors import KubectlError
from kaito.testing import eventually

PAGE = Path(__file__).parents[2] / "docs" / "custom-resources.md"


async def test_the_page_on_custom_resources_runs_and_its_kind_is_accepted(control_plane: ControlPlane) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(blocks) == 4
    scope: dict[str, Any] = {"__name__": "docs_custom_resources"}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec", dont_inherit=True), scope)
    definition = json.dumps(scope["custom_resource_definition"](scope["OldWidget"], scope["Widget"]))
    await control_plane.kubectl("apply", "--server-side", "-f", "-", input=definition)
    try:
        await control_plane.kubectl("wait", "crd", "widgets.example.com", "--for=condition=Established")
        explain = ("explain", "widgets.spec.ports", "--api-version=example.com/v1")
        # The API server publishes a kind's schema a moment after it serves the kind.
        explained = await eventually(lambda: control_plane.kubectl(*explain), retry_on=(KubectlError,))
        assert "Tells it from the others." in explained
    finally:
        await control_plane.kubectl("delete", "crd", "widgets.example.com", "--wait=false")
