"""The command `kaito chat`."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from typing import Annotated
from urllib.parse import urlsplit

import typer

from kaito.api import keys
from kaito.api.kaito_v1beta1 import Workspace
from kaito.cli.chat.conversation import Conversation, Settings
from kaito.cli.chat.server import ChatError, ChatServer
from kaito.cli.chat.session import Session, chosen
from kaito.cli.flags import takes
from kaito.cli.listing import fail
from kaito.cli.one_workspace import (
    ContextOption,
    KubeconfigOption,
    NamespaceOption,
    WorkspaceNotFound,
    find_workspace,
)
from kaito.client.client import Client
from kaito.client.config import Config, load_config
from kaito.client.errors import Forbidden, KubeError
from kaito.client.transport import AiohttpTransport
from kaito.kube.conditions import find, is_true
from kaito.kube.object_key import ObjectKey

POLL_S = 1.0


@dataclass(frozen=True)
class Whom:
    """The flags that say who is talked to."""

    name: Annotated[str | None, typer.Argument(help="Name of the Workspace; none with --url.")] = None
    namespace: NamespaceOption = None
    kubeconfig: KubeconfigOption = None
    context: ContextOption = None
    url: Annotated[
        str | None, typer.Option(help="Address of an inference server, such as http://127.0.0.1:5000; no cluster.")
    ] = None
    wait: Annotated[bool, typer.Option("--wait", help="Wait until the Workspace is ready.")] = False
    model: Annotated[str, typer.Option(help="Who is asked: the base model (the default), or an adapter by name.")] = ""


@dataclass(frozen=True)
class How:
    """The flags that say what is asked, and how answers are made and shown."""

    message: Annotated[str | None, typer.Option("--message", "-m", help="Ask this, and end.")] = None
    system: Annotated[str, typer.Option(help="What the model is told before all else.")] = ""
    temperature: Annotated[float, typer.Option(min=0, help="0: always the likeliest word.")] = 0.7
    top_p: Annotated[float, typer.Option(min=0, max=1, help="Share of the likely words drawn from.")] = 0.9
    max_tokens: Annotated[int, typer.Option(min=1, help="Length of an answer at most.")] = 1024
    no_stream: Annotated[bool, typer.Option("--no-stream", help="Show answers when they are whole.")] = False
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object for each answer: text, usage, speed.")] = (
        False
    )


@takes(Whom, How)
def chat(whom: Whom, how: How) -> None:
    """Talk to the model of a Workspace of any cluster: through the API server, without a port to forward.

    On a terminal it asks for one question after another, and knows commands: /help lists them. Otherwise each line of
    the input is a question. The conversation is kept until it ends. You need the right to get and create
    services/proxy of the Workspace's Service; whoever has it not is told the commands that give it.

    Try: kaito chat phi; kaito chat phi -m "What is a taint?" --temperature 0; kaito chat phi --json < questions.txt;
    kaito chat --url http://127.0.0.1:5000.

    Exit code: 0, or 1 if the Workspace is not there or not ready, or a question was not answered.
    """
    if (whom.name is None) == (whom.url is None):
        fail("kaito chat: name a Workspace, or give --url; see kaito chat --help")
    with asyncio.Runner() as runner:
        client: Client | None = None
        try:
            config = _config(whom)
            client = Client(AiohttpTransport(config, user_agent="kaito-chat"), field_owner="kaito-chat")
            session = runner.run(_session(runner, client, config, whom, how))
            _talk(session, how)
        except (KubeError, ChatError, WorkspaceNotFound, ValueError) as error:
            fail(error)
        except KeyboardInterrupt:
            raise typer.Exit(130) from None
        finally:
            if client is not None:
                runner.run(client.aclose())
        raise typer.Exit(1 if session.failures else 0)


def _config(whom: Whom) -> Config:
    if whom.url is None:
        return load_config(whom.kubeconfig, context=whom.context)
    parts = urlsplit(whom.url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ValueError(f"--url is {whom.url!r}; give an address such as http://127.0.0.1:5000")
    return Config(host=whom.url.rstrip("/").removesuffix("/v1"))


async def _session(runner: asyncio.Runner, client: Client, config: Config, whom: Whom, how: How) -> Session:
    server = await _server(client, config, whom)
    settings = Settings(how.temperature, how.top_p, how.max_tokens)
    conversation = Conversation(chosen(whom.model, await server.models()), how.system, settings)
    return Session(runner, server, conversation, stream=not how.no_stream, as_json=how.json)


async def _server(client: Client, config: Config, whom: Whom) -> ChatServer:
    if whom.name is None:
        key = os.environ.get("KAITO_API_KEY")
        return ChatServer(client, headers={"Authorization": f"Bearer {key}"} if key else None)
    key_of = ObjectKey(whom.name, whom.namespace or config.namespace)
    await _ready(client, key_of, wait=whom.wait)
    return ChatServer(client, key_of)


async def _ready(client: Client, key: ObjectKey, *, wait: bool) -> None:
    told = ""
    while True:
        try:
            workspace = await find_workspace(client, key)
        except Forbidden:
            # Who may talk to the server need not be one who may look at Workspaces.
            typer.echo("kaito: you may not look at the Workspace; asking its server all the same", err=True)
            return
        if (why := not_ready(workspace)) is None:
            return
        if not wait:
            raise ChatError(
                f"Workspace {key} is not ready: {why}; kaito explain workspace {key.name} -n {key.namespace} tells "
                f"more, and --wait waits for it"
            )
        if why != told:
            typer.echo(f"waiting for Workspace {key}: {why}", err=True)
            told = why
        await asyncio.sleep(POLL_S)


def not_ready(workspace: Workspace) -> str | None:
    """The condition that keeps a Workspace from serving; None when it serves.

    Raises:
        ChatError: it never will.
    """
    if workspace.metadata.deletion_timestamp is not None:
        raise ChatError(f"Workspace {workspace.key} is being deleted")
    if workspace.inference is None:
        raise ChatError(f"Workspace {workspace.key} has no inference: nobody answers there")
    conditions = workspace.status.conditions
    if is_true(conditions, keys.WORKSPACE_READY):
        return None
    parts = [find(conditions, name) for name in (keys.RESOURCE_READY, keys.INFERENCE_READY)]
    unmet = next((part for part in parts if part is not None and part.status != "True"), None)
    return f"{unmet.type} is {unmet.status}: {unmet.message}" if unmet else "the operator has not looked at it yet"


def _talk(session: Session, how: How) -> None:
    if how.message is not None:
        session.ask(how.message)
    elif sys.stdin.isatty():
        with suppress(ImportError):
            import_module("readline")  # from then on input() has a history, and keys to edit with
        session.quiet = False
        typer.echo(f"{session.conversation.model}; /help lists the commands, Ctrl-D ends", err=True)
        session.talk(lambda: input("> "))
    else:
        session.feed(sys.stdin)
