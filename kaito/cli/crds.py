"""`kaito crds`: prints the product's CustomResourceDefinitions, or writes one file for each."""

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from kaito.api import all_crds

HEADER = "# Made from the models of kaito.api by `make crds`; change those, not this file.\n"


class CRDFormat(StrEnum):
    """How the definitions are written."""

    YAML = "yaml"
    JSON = "json"


def crds(
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", file_okay=False, help="Write GROUP_PLURAL.yaml files into this folder instead."),
    ] = None,
    output_format: Annotated[
        CRDFormat, typer.Option("--format", help="YAML documents, or one JSON list (JSON files with --output).")
    ] = CRDFormat.YAML,
) -> None:
    """Print the CustomResourceDefinitions of Workspace, Machine and NodeClaim, or write them to a folder."""
    if output is None:
        typer.echo(render(all_crds(), output_format), nl=False)
        return
    output.mkdir(parents=True, exist_ok=True)
    for path, text in crd_files(output_format).items():
        (output / path).write_text(text, encoding="utf-8")
        typer.echo(output / path)


def crd_files(output_format: CRDFormat = CRDFormat.YAML) -> dict[str, str]:
    """Returns the text of each definition's file by the file's name."""
    files = {}
    for crd in all_crds():
        name = f"{crd['spec']['group']}_{crd['spec']['names']['plural']}.{output_format}"
        files[name] = HEADER + _yaml(crd) if output_format is CRDFormat.YAML else _json(crd)
    return files


def render(definitions: list[dict[str, Any]], output_format: CRDFormat) -> str:
    """Returns all definitions as one text that kubectl takes: YAML documents, or a JSON ``List``."""
    if output_format is CRDFormat.YAML:
        return "".join(f"---\n{_yaml(crd)}" for crd in definitions)
    return _json({"apiVersion": "v1", "kind": "List", "items": definitions})


class _Dumper(yaml.SafeDumper):
    """Writes what occurs twice twice: kubectl takes anchors, people and templates do not."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _yaml(crd: dict[str, Any]) -> str:
    return yaml.dump(crd, Dumper=_Dumper, sort_keys=False, width=118, allow_unicode=True)


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=2) + "\n"
