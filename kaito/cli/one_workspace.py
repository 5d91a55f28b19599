"""One Workspace of a cluster, named on the command line: the flags that say where it is, and how it is found."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from kaito.api.kaito_v1beta1 import Workspace
from kaito.catalog.nearest import did_you_mean
from kaito.client.client import Client
from kaito.client.errors import KubeError, NotFound
from kaito.kube.object_key import ObjectKey

KubeconfigOption = Annotated[
    Path | None, typer.Option(help="Kubeconfig file. Default: $KUBECONFIG, else in-cluster, else ~/.kube/config.")
]
ContextOption = Annotated[str | None, typer.Option(help="Context in the kubeconfig. Default: its current one.")]
NamespaceOption = Annotated[
    str | None, typer.Option("--namespace", "-n", help="The Workspace's namespace. Default: the context's.")
]


class WorkspaceNotFound(Exception):
    """There is no such Workspace; the text says what there is instead."""


async def find_workspace(client: Client, key: ObjectKey) -> Workspace:
    """Reads a Workspace.

    Raises:
        WorkspaceNotFound: there is none of that name.
        KubeError: it cannot be read.
    """
    try:
        return await client.live.get(Workspace, key)
    except NotFound as error:
        if not error.reason:
            # Of a kind that is not served, the API server says so in plain text, which has no reason.
            raise WorkspaceNotFound("this cluster has no Workspaces: is KAITO installed? See kaito crds") from error
        raise WorkspaceNotFound(await _instead(client, key)) from error


async def _instead(client: Client, key: ObjectKey) -> str:
    said = f"there is no Workspace {key.name} in namespace {key.namespace}"
    names: list[str] = []
    with suppress(KubeError):
        names = [each.metadata.name for each in await client.live.list(Workspace, namespace=key.namespace)]
    if meant := did_you_mean(key.name, names):
        return f"{said}; did you mean {meant}?"
    with suppress(KubeError):
        everywhere = await client.live.list(Workspace, fields=f"metadata.name={key.name}")
        if namespaces := sorted(each.metadata.namespace or "" for each in everywhere):
            return f"{said}; there is one in {', '.join(namespaces)}: give -n {namespaces[0]}"
    return f"{said}; there are: {', '.join(sorted(names))}" if names else f"{said}, and no other"
