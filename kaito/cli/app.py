"""The typer application: its commands by name, each imported only when it is the one that was asked for."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Annotated

import typer
from typer.core import TyperGroup
from typer.main import get_command, get_group

from kaito import __version__

if TYPE_CHECKING:
    # typer's own command and context types live in a private module; at run time nothing of it is touched.
    from typer._click import Command, Context


@dataclass(frozen=True)
class LazyCommand:
    """A command that has not been imported yet.

    Args:
        target: `module:attribute` of a `typer.Typer` (a group) or of a function (one command).
        help: The line of `kaito --help`.
        extra: The extra of the package that the module needs.
    """

    target: str
    help: str
    extra: str = "cli"


COMMANDS = {
    "quickstart": LazyCommand(
        "kaito.cli.quickstart.command:quickstart",
        "From nothing to an answer of a model on this machine, then clean up.",
    ),
    "devcluster": LazyCommand("kaito.cli.devcluster:app", "A real Kubernetes control plane on this machine."),
    "push": LazyCommand("kaito.cli.push:push", "Push a LoRA adapter's folder to a registry, as an image."),
    "crds": LazyCommand("kaito.cli.crds:crds", "Print the CustomResourceDefinitions, or write them to a folder."),
    "manager": LazyCommand("kaito.cli.manager:manager", "Run the operator against a cluster."),
    "rbac": LazyCommand("kaito.cli.rbac:rbac", "Print the roles that the operator needs, and no more."),
    "models": LazyCommand("kaito.cli.catalog:models", "List the models that a Workspace can name."),
    "skus": LazyCommand("kaito.cli.catalog:skus", "List the GPU instance types that a Workspace can name."),
    "estimate": LazyCommand("kaito.cli.estimate:estimate", "Nodes and GPUs that a model takes, and why."),
    "chat": LazyCommand("kaito.cli.chat.command:chat", "Talk to the model of a Workspace, in any cluster."),
    "explain": LazyCommand("kaito.cli.explain.command:app", "Say why a Workspace is not ready, and what to do."),
}


class LazyGroup(TyperGroup):
    """A group that lists placeholders and imports a command when it is resolved."""

    def resolve_command(self, ctx: Context, args: list[str]) -> tuple[str | None, Command | None, list[str]]:
        name, placeholder, rest = super().resolve_command(ctx, args)
        if name is None or name not in COMMANDS:
            return name, placeholder, rest
        return name, load(name, COMMANDS[name]), rest

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: object,
    ) -> object:
        """Runs a command line and exits; a mistake in it is one line, which names it and the remedy, and exit code 1.

        Raises:
            SystemExit: always, in `standalone_mode`.
        """
        try:
            result = super().main(args, prog_name, complete_var, False, windows_expand_args, **extra)
        except typer.Abort:
            typer.echo("kaito: aborted", err=True)
            sys.exit(1)
        except Exception as error:
            if not standalone_mode or (mistake := _mistake(error)) is None:
                raise
            typer.echo(mistake, err=True)
            sys.exit(1)
        if standalone_mode:
            # What a command returned means nothing; an exit that it asked for comes back as its code.
            sys.exit(result if isinstance(result, int) else 0)
        return result


def load(name: str, command: LazyCommand) -> Command:
    """Import a command.

    Args:
        name: What the user types for it.
        command: Where it lives.

    Raises:
        typer.Exit: 2, when a module it needs is not installed; the reason has been printed.
    """
    module, _, attribute = command.target.partition(":")
    try:
        found = getattr(import_module(module), attribute)
    except ModuleNotFoundError as missing:
        typer.echo(_why_not(name, module, command.extra, missing), err=True)
        raise typer.Exit(2) from missing
    return get_group(found) if isinstance(found, typer.Typer) else _single(name, found)


app = typer.Typer(
    cls=LazyGroup,
    help="KAITO: GPU workspaces on Kubernetes, and a Kubernetes to try them on.",
    epilog="First command to try: kaito quickstart. It needs no cluster, no GPU and no root.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,  # rich tracebacks print locals, and ours hold tokens
)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"kaito {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Options of `kaito` itself; the help text is the application's."""


def _placeholder() -> None:
    raise AssertionError("a placeholder is replaced before it runs")


for _name, _command in COMMANDS.items():
    app.command(_name, help=_command.help)(_placeholder)


def _single(name: str, function: object) -> Command:
    if not callable(function):
        raise TypeError(f"kaito {name}: {function!r} is neither a typer.Typer nor a function")
    alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    alone.command(name, context_settings={"help_option_names": ["-h", "--help"]})(function)
    return get_command(alone)


def _mistake(error: Exception) -> str | None:
    """The line that tells a mistake in the command line, or the help that stands in its place; None: it is another."""
    # The base class of typer's own errors is not public.
    if not hasattr(error, "format_message"):
        return None
    said = " ".join(str(error.format_message()).split())
    context = getattr(error, "ctx", None)
    if context is None:
        return f"kaito: {said}"
    if not said or type(error).__name__ == "NoArgsIsHelpError":
        return str(context.get_help())
    said = said.replace("Value error, ", "").rstrip(".")
    return f"{context.command_path}: {said}{'' if said.endswith('?') else ';'} see {context.command_path} --help"


def _why_not(name: str, module: str, extra: str, missing: ModuleNotFoundError) -> str:
    if missing.name == module:
        return f"kaito {name}: kaito {__version__} has no module {module} yet; CHANGELOG.md says what is there"
    return f'kaito {name}: needs {missing.name}, which is not installed; run: pip install "kaito[{extra}]"'
