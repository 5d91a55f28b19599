"""The rights that `kaito explain workspace` needs, and the commands that give those that are missing; pure."""

from __future__ import annotations

from collections.abc import Iterable

from kaito.cli.rights import Right, giving_commands
from kaito.kube.object_key import ObjectKey

ROLE = "kaito-explain"
VERBS = ("get", "list")
IN_NAMESPACE = (
    "workspaces.kaito.sh",
    "deployments.apps",
    "statefulsets.apps",
    "replicasets.apps",
    "pods",
    "pods/log",
    "events.events.k8s.io",
)


def commands(workspace: ObjectKey, user: str, missing: Iterable[Right]) -> list[str]:
    """The commands by which an administrator gives what is missing.

    In the Workspace's namespace that is all that is needed there, so that nobody has to come back for one right after
    the other; in the whole cluster no more than what is missing.
    """
    places: dict[str | None, list[str]] = {}
    for right in missing:
        places.setdefault(right.namespace, []).append(right.resource)
    said = []
    for place, resources in places.items():
        wanted = IN_NAMESPACE if place == workspace.namespace else tuple(dict.fromkeys(resources))
        said += giving_commands(ROLE, user, place, VERBS, wanted)
    return said
