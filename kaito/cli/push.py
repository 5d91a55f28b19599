"""`kaito push`: an adapter's folder as an image in a registry, without docker."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from kaito.oci.digest import Digest
    from kaito.oci.reference import Reference

_ADAPTER = ("adapter_config.json", "adapter_model.safetensors")


def push(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder with adapter_config.json and the weights.")],
    reference: Annotated[str, typer.Argument(metavar="REF", help="REGISTRY/REPOSITORY:TAG to push to.")],
    auth_dir: Annotated[
        list[Path] | None,
        typer.Option(
            "--auth-dir",
            metavar="PATH",
            help="A file like docker's config.json, or a folder with such files, before docker's own; may be repeated.",
        ),
    ] = None,
    plain_http: Annotated[
        bool, typer.Option("--plain-http", help="No TLS; with registries on loopback that is so anyway.")
    ] = False,
    path: Annotated[str, typer.Option("--path", metavar="PATH", help="Where in the image the files lie.")] = "/data",
    artifact: Annotated[
        bool, typer.Option("--artifact", help="Push an OCI artifact, a layer for each file, instead of an image.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object for scripts.")] = False,
) -> None:
    """Push the folder of a LoRA adapter as an image that a Workspace can name, and print the image's digest.

    The same files make the same digest, wherever and whenever they are pushed. What the registry has is not sent again.
    Credentials are docker's: ~/.docker/config.json, DOCKER_CONFIG, --auth-dir.
    """
    from kaito.oci.errors import OciError
    from kaito.oci.reference import Reference

    try:
        target = Reference.parse(reference)
        _check(folder)
        digest = asyncio.run(_push(folder, target, auth_dir or [], plain_http, path, artifact))
    except (OciError, OSError) as error:
        typer.echo(f"kaito push: {error}", err=True)
        raise typer.Exit(1) from None
    if as_json:
        print(json.dumps({"reference": str(target), "digest": str(digest), "image": f"{target.name}@{digest}"}))
    else:
        print(digest)


async def _push(
    folder: Path, target: Reference, auth_dirs: list[Path], plain_http: bool, path: str, artifact: bool
) -> Digest:
    from kaito.oci.client import Registry
    from kaito.oci.credentials import load_keyring
    from kaito.oci.push import push_artifact, push_image

    async with Registry(target, load_keyring(auth_dirs), plain_http=plain_http or None, say=_say) as registry:
        if artifact:
            return await push_artifact(registry, folder, report=_report)
        return await push_image(registry, folder, path=path, report=_report)


def _check(folder: Path) -> None:
    from kaito.oci.errors import FolderError

    if not folder.is_dir():
        raise FolderError(f"{folder} is no folder")
    if missing := [name for name in _ADAPTER if not (folder / name).is_file()]:
        raise FolderError(f"{folder} is no adapter: {' and '.join(missing)} {'are' if missing[1:] else 'is'} missing")


def _report(done: int, total: int) -> None:
    _say(f"{done} of {total} bytes are there")


def _say(line: str) -> None:
    print(f"kaito push: {line}", file=sys.stderr)
