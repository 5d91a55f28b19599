"""kaito models, kaito skus: what the catalogue has."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, NoReturn

import typer

CatalogFile = Annotated[
    Path | None, typer.Option("--catalog", help="YAML file merged over the built-in catalogue, as for kaito manager.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON list.")]


def models(catalog: CatalogFile = None, as_json: AsJson = False) -> None:
    """List the models that inference.preset.name can name."""
    from kaito.catalog import Catalog, CatalogError

    try:
        presets = Catalog.load(catalog).models.values()
    except CatalogError as error:
        _fail(error)
    rows = [
        {
            "name": preset.name,
            "huggingface_id": preset.huggingface_id,
            "weights_gib": preset.weights_gib,
            "context_tokens": preset.context_tokens,
            "runtimes": list(preset.runtimes),
            "license": preset.license,
        }
        for preset in presets
    ]
    _print(sorted(rows, key=lambda row: str(row["name"])), as_json)


def skus(catalog: CatalogFile = None, as_json: AsJson = False) -> None:
    """List the instance types that resource.instanceType can name."""
    from kaito.catalog import Catalog, CatalogError

    try:
        types = Catalog.load(catalog).skus.values()
    except CatalogError as error:
        _fail(error)
    rows = [
        {
            "name": sku.name,
            "cloud": sku.cloud,
            "gpus": sku.gpu_count,
            "gpu": sku.gpu.model,
            "gpu_memory_gib": sku.gpu.memory_gib,
            "retired": str(sku.retired) if sku.retired else "",
        }
        for sku in types
        if sku.schedulable
    ]
    _print(sorted(rows, key=lambda row: (str(row["cloud"]), str(row["name"]))), as_json)


def _print(rows: list[dict[str, object]], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(rows))
        return
    header = [name.upper().replace("_", " ") for name in rows[0]]
    cells = [header, *([_text(value) for value in row.values()] for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(header))]
    for line in cells:
        typer.echo("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())


def _text(value: object) -> str:
    if isinstance(value, Iterable) and not isinstance(value, str):
        return ",".join(str(item) for item in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _fail(error: Exception) -> NoReturn:
    typer.echo(f"kaito: {error}", err=True)
    raise typer.Exit(1)
