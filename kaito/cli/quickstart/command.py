"""kaito quickstart: the command, its flags, and how it ends."""

from __future__ import annotations

import json
import time
from enum import StrEnum
from typing import Annotated

import typer
from rich.console import Console

from kaito.cli.quickstart.screen import Screen


class Nodes(StrEnum):
    """What plays the nodes."""

    PROCESS = "process"
    KWOK = "kwok"


def quickstart(
    model: Annotated[
        str | None,
        typer.Option(
            metavar="HF_ID",
            help="Serve this model of Hugging Face, or the one in this folder. Default: a small one, and where the hub "
            "cannot be reached a tiny one, whose answers are gibberish.",
        ),
    ] = None,
    adapters: Annotated[
        bool, typer.Option("--adapters", help="Then a second Workspace, with an adapter from an image registry.")
    ] = False,
    nodes: Annotated[
        Nodes, typer.Option(help="process: pods run as processes of this machine. kwok: fake nodes, no model.")
    ] = Nodes.PROCESS,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave everything running when ready, to look around; Ctrl-C ends it.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object at the end; progress goes to stderr.")
    ] = False,
) -> None:
    """Start a Kubernetes on this machine, apply a Workspace, watch it become ready, ask its model, clean up.

    The control plane is real, the node is this machine, the pod is a process of it. Needs no cluster, no GPU and no
    root. Takes about half a minute once the control plane's programs are there; the first time they are fetched or
    built.
    """
    console = Console(stderr=as_json, highlight=False, soft_wrap=True)
    screen = Screen(console)
    began = time.monotonic()
    screen.step("a Kubernetes, a Workspace and its model, on this machine; Ctrl-C takes everything away")
    # Takes seconds, after something was said.
    from kaito.cli.quickstart.play import play
    from kaito.cli.quickstart.run import QuickstartOptions

    summary = play(screen, QuickstartOptions(model=model, nodes=nodes.value, adapters=adapters, keep=keep))
    seconds = round(time.monotonic() - began, 1)
    if as_json:
        typer.echo(json.dumps({**summary, "phases": screen.seconds, "seconds": seconds}, ensure_ascii=False))
    else:
        console.print(f"[green]done[/green] in {seconds} s; nothing was left behind")
