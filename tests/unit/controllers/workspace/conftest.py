"""What the tests of a Workspace's reconciler share: a scene with one Workspace in it, under virtual time."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

from kaito.api.kaito_v1beta1 import Workspace
from kaito.client.client import Client
from kaito.kube.object_key import ObjectKey
from kaito.testing.fake_api import FakeApi
from tests.operating.workspace_scene import WorkspaceScene

FRESH = {"uid": "", "resource_version": "", "generation": 0}


@pytest.fixture
def scene(play: Any, workspace: Callable[..., Workspace], now: datetime) -> Callable[..., None]:
    def run(script: Callable[[WorkspaceScene], Any], *arguments: Any, name: str = "phi", **fields: Any) -> None:
        async def main(api: FakeApi, client: Client) -> None:
            made = workspace(*arguments, **fields)
            metadata = made.metadata.model_copy(update={**FRESH, "name": name})
            await client.create(made.model_copy(update={"metadata": metadata}))
            at = WorkspaceScene(api, client, now)
            at.key = ObjectKey(name, "default")
            at.writes()
            await script(at)

        play(main)

    return run
