"""Hooks: what a container wants done after its start and before its end: a command, a request, or a pause."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from kaito.devcluster.process_nodes.container_commands import ContainerCommands
from kaito.devcluster.process_nodes.probes import Prober
from kaito.kube.pod_v1 import Container, HTTPGetAction

Hook = Mapping[str, Any]
"""A hook as the API has it: ``{"exec": {"command": ["true"]}}``."""


class HookKind(StrEnum):
    """When a hook runs."""

    POST_START = "postStart"
    PRE_STOP = "preStop"


def hook_of(container: Container, kind: HookKind) -> Hook | None:
    """The hook that a container has for a moment; None if it has none."""
    hooks: Mapping[str, Hook] = container.lifecycle or {}
    return hooks.get(kind) or None


async def run_hook(hook: Hook, prober: Prober, commands: ContainerCommands) -> str | None:
    """Runs a hook for as long as it takes, or until cancelled; returns what went wrong, None for success.

    As with a kubelet, a request succeeds whatever the status of its answer is.

    Args:
        hook: what to do.
        prober: sends requests.
        commands: runs commands in the container's place.
    """
    if "exec" in hook:
        words = list(hook["exec"].get("command", ()))
        result = await commands.run(words, None)
        if result.code == 0:
            return None
        ended = "was not run" if result.code is None else f"exited with {result.code}"
        return f"Exec lifecycle hook ({words}) failed - error: command '{' '.join(words)}' {ended}: {result.output}"
    if "httpGet" in hook:
        action = HTTPGetAction.model_validate(hook["httpGet"])
        answer = await prober.fetch(action, None)
        return (
            None if isinstance(answer, int) else f"HTTP lifecycle hook ({action.path or '/'}) failed - error: {answer}"
        )
    if "sleep" in hook:
        await asyncio.sleep(float(hook["sleep"]["seconds"]))
        return None
    return f"a hook with {', '.join(hook)} cannot be run; there are exec, httpGet and sleep"
