"""How lists of the catalogue are written: a table that fits a terminal, a wide one, JSON or YAML."""

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, NoReturn

import typer

Row = Mapping[str, object]


class Output(StrEnum):
    """Forms of an answer."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"


OutputOption = Annotated[
    Output,
    typer.Option("--output", "-o", help="A table, a wide one, or all figures as JSON or YAML.", case_sensitive=False),
]
CatalogOption = Annotated[
    Path | None,
    typer.Option(
        "--catalog", envvar="KAITO_CATALOG", help="YAML file merged over the built-in catalogue, as for kaito manager."
    ),
]


def show(whole: object, rows: Iterable[Row], output: Output) -> None:
    """Prints an answer: `whole` as JSON or YAML, or `rows` as a table whose header their keys are."""
    match output:
        case Output.JSON:
            write(json.dumps(whole, indent=2))
        case Output.YAML:
            import yaml

            write(yaml.safe_dump(whole, sort_keys=False, width=118, allow_unicode=True).rstrip())
        case _:
            write(table(tuple(rows)))


def table(rows: Sequence[Row]) -> str:
    """Columns two spaces apart, numbers to the right; no rows, no text."""
    if not rows:
        return ""
    header = [name.upper().replace("_", " ") for name in rows[0]]
    cells = [header, *([text(value) for value in row.values()] for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(header))]
    right = [isinstance(value, int | float) for value in rows[0].values()]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if is_right else cell.ljust(width)
            for cell, width, is_right in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in cells
    )


def text(value: object) -> str:
    """A cell: lists with commas, no value as a dash, numbers short."""
    match value:
        case None | () | [] | "":
            return "-"
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.10g}"
        case list() | tuple():
            return ",".join(str(item) for item in value)
        case _:
            return str(value)


def write(said: str) -> None:
    """Prints to stdout; a reader that has seen enough (`| head`) ends the command without a word.

    Raises:
        typer.Exit: 0, when nobody reads any more.
    """
    try:
        if said:
            typer.echo(said)
        sys.stdout.flush()
    except BrokenPipeError:
        # What is left in the buffer would be written at exit, and fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(0) from None


def fail(error: object, code: int = 1) -> NoReturn:
    """Says on stderr what is wrong, and ends.

    Raises:
        typer.Exit: always.
    """
    typer.echo(f"kaito: {error}", err=True)
    raise typer.Exit(code)
