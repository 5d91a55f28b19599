"""The README's library example runs as it stands."""

from __future__ import annotations

import ast
import asyncio
import re
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest

from kaito.testing import ControlPlane, eventually

README = Path(__file__).parents[2] / "README.md"


def example() -> str:
    """The first Python block; only its ports are made free ones, since the real ones may be taken here."""
    match = re.search(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert match is not None
    return match[1].replace('":8080"', '"127.0.0.1:0"').replace('":8081"', '"127.0.0.1:0"')


async def test_the_example_of_the_readme_runs(control_plane: ControlPlane, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(control_plane.kubeconfig))
    names: dict[str, Any] = {"__name__": "readme"}
    code = compile(example(), "README.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    running = asyncio.create_task(FunctionType(code, names)())
    manager = await eventually(lambda: names.get("manager"))
    await eventually(lambda: set(manager.addresses) == {"metrics", "health"})
    manager.stop()
    await running
