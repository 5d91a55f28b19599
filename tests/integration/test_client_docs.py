"""docs/client.md: its code runs, from top to bottom, against a real API server."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import pytest

from kaito.devcluster.controlplane import ControlPlane
from kaito.testing import eventually

PAGE = Path(__file__).parents[2] / "docs" / "client.md"
TOP_LEVEL_AWAIT = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT


async def test_the_page_on_the_client_runs_as_it_is_written(
    control_plane: ControlPlane, namespace: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(control_plane.kubeconfig))
    # The controller manager makes it a moment after its namespace.
    accounts = f"/api/v1/namespaces/{namespace}/serviceaccounts"
    await eventually(lambda: control_plane.request("GET", accounts)["items"])
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(blocks) > 10
    scope: dict[str, object] = {"__name__": "docs_client"}
    try:
        for block in blocks:
            code = compile(block.replace('"demo"', f'"{namespace}"'), str(PAGE), "exec", flags=TOP_LEVEL_AWAIT)
            running = eval(code, scope)
            if inspect.isawaitable(running):
                await running
    finally:
        await scope["client"].aclose()  # type: ignore[attr-defined]
    printed = capsys.readouterr().out
    for text in (
        f'get configmaps {namespace}/missing: 404 NotFound: configmaps "missing" not found',
        "(FieldConflict(manager='somebody-else', field='.data.mode'),)",
        f"delete deployments.apps {namespace}/web 200",
        "deployments True",
    ):
        assert text in printed
