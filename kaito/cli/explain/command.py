"""The command `kaito explain workspace`."""

from __future__ import annotations

import asyncio
import json
import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from kaito.cli.explain.build import build
from kaito.cli.explain.fetch import Fetcher
from kaito.cli.explain.report import COLOURS, Report, report_of, text
from kaito.cli.explain.rights import commands
from kaito.cli.explain.tree import Mark
from kaito.cli.listing import fail, write
from kaito.cli.one_workspace import (
    ContextOption,
    KubeconfigOption,
    NamespaceOption,
    WorkspaceNotFound,
    find_workspace,
)
from kaito.cli.rights import Right, refused_user
from kaito.client.client import Client
from kaito.client.config import load_config
from kaito.client.errors import Forbidden, KubeError
from kaito.kube.object_key import ObjectKey

if TYPE_CHECKING:
    from kaito.client.config import Config

app = typer.Typer(no_args_is_help=True, help="Say why something is not ready, and what to do about it.")


class Output(StrEnum):
    """Forms of the answer."""

    TEXT = "text"
    JSON = "json"


@app.callback()
def group() -> None:
    """A group of one command stays a group."""


@app.command()
def workspace(
    name: Annotated[str, typer.Argument(help="Name of the Workspace.")],
    namespace: NamespaceOption = None,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
    output: Annotated[Output, typer.Option("--output", "-o", help="For people, or all of it as JSON.")] = Output.TEXT,
) -> None:
    """Print what there is of a Workspace as a tree, and on top the part that keeps it from being ready.

    The tree goes from the Workspace to its Machines or NodeClaims, their Nodes, the Deployment or StatefulSet, its
    Pods and their containers. Of a container that fails the last lines of its log are shown. What you may not look at
    is named, with the commands that give you the right, and the rest shown.

    Try: kaito explain workspace phi -n demo; kaito explain workspace phi -o json | jq .cause.

    Exit code: 0 the Workspace is ready, 1 something fails (or there is no answer), 3 it is under way.
    """
    try:
        config = load_config(kubeconfig, context=context)
        report = asyncio.run(_explain(config, ObjectKey(name, namespace or config.namespace)))
    except Forbidden as refusal:
        key = ObjectKey(name, namespace or config.namespace)
        giving = commands(key, refused_user(refusal.message), [Right("get", "workspaces.kaito.sh", key.namespace)])
        fail("\n  ".join([f"{refusal}. An administrator gives you the right with", *giving]))
    except (KubeError, WorkspaceNotFound, ValueError) as error:
        fail(error)
    write(json.dumps(report.to_dict(), indent=2) if output is Output.JSON else _text(report))
    raise typer.Exit(report.exit_code)


async def _explain(config: Config, key: ObjectKey) -> Report:
    async with Client.from_config(config, name="kaito-explain") as client:
        return await explain(client, key)


async def explain(client: Client, key: ObjectKey) -> Report:
    """Looks at a Workspace and at all that belongs to it.

    Raises:
        WorkspaceNotFound: there is none of that name.
        KubeError: it cannot be read.
    """
    fetcher = Fetcher(client)
    seen = await fetcher.seen(await find_workspace(client, key))
    report = report_of(seen, build(seen))
    if report.blamed is None or report.blamed.log is None:
        return report
    log = await fetcher.log(key.namespace, report.blamed.log)
    return Report(report.seen, report.root, report.blamed, log)


def _text(report: Report) -> str:
    encoding = (sys.stdout.encoding or "ascii").lower()
    return text(report, _paint, unicode=encoding.startswith("utf"))


def _paint(said: str, mark: Mark) -> str:
    return typer.style(said, fg=COLOURS[mark]) if sys.stdout.isatty() else said
