"""`kaito push`: an adapter's folder as an image in a registry, without docker."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from kaito.oci.digest import Digest
    from kaito.oci.push import Extras
    from kaito.oci.reference import Reference

AuthDirs = Annotated[
    list[Path] | None,
    typer.Option(
        "--auth-dir",
        metavar="PATH",
        help="A file like docker's config.json, or a folder with such files, before docker's own; may be repeated.",
    ),
]
MountFrom = Annotated[
    str | None,
    typer.Option(
        "--mount-from",
        metavar="REPOSITORY",
        help="Another repository of the same registry that may have the files: then they are not sent again.",
    ),
]
Annotations = Annotated[
    list[str] | None,
    typer.Option("--annotation", metavar="NAME=TEXT", help="Of the image's manifest; may be repeated."),
]
_ADAPTER = ("adapter_config.json", "adapter_model.safetensors")


def push(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder with adapter_config.json and the weights.")],
    reference: Annotated[str, typer.Argument(metavar="REF", help="REGISTRY/REPOSITORY:TAG to push to.")],
    auth_dir: AuthDirs = None,
    plain_http: Annotated[
        bool, typer.Option("--plain-http", help="No TLS; with registries on loopback that is so anyway.")
    ] = False,
    path: Annotated[str, typer.Option("--path", metavar="PATH", help="Where in the image the files lie.")] = "/data",
    mount_from: MountFrom = None,
    annotation: Annotations = None,
    artifact: Annotated[
        bool, typer.Option("--artifact", help="Push an OCI artifact, a layer for each file, instead of an image.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object for scripts.")] = False,
) -> None:
    """Push the folder of a LoRA adapter as an image that a Workspace can name, and print the image's digest.

    The same files make the same digest, wherever and whenever they are pushed. What the registry has is not sent again,
    and an upload that breaks off goes on. Left out: hidden files, and the checkpoint-N folders of a training.
    Credentials are docker's: ~/.docker/config.json, DOCKER_CONFIG, --auth-dir.

    Example: kaito push ./legal myregistry.azurecr.io/adapters/legal:1

    Exit status: 0 the image is there; 1 it is not, and the last line says why; 130, 143 SIGINT or SIGTERM ended it.
    """
    from kaito.oci.errors import OciError
    from kaito.oci.push import Extras
    from kaito.oci.reference import Reference

    try:
        target = Reference.parse(reference)
        _check(folder)
        _check_names(target, mount_from)
        extras = Extras(path=path, mount_from=mount_from, annotations=_annotations(annotation or []))
        digest = asyncio.run(_push(folder, target, auth_dir or [], plain_http, artifact, extras))
    except (OciError, OSError) as error:
        typer.echo(f"kaito push: {error}", err=True)
        raise typer.Exit(1) from None
    except asyncio.CancelledError:
        raise typer.Exit(128 + signal.SIGTERM) from None
    if as_json:
        print(json.dumps({"reference": str(target), "digest": str(digest), "image": f"{target.name}@{digest}"}))
    else:
        print(digest)


async def _push(
    folder: Path, target: Reference, auth_dirs: list[Path], plain_http: bool, artifact: bool, extras: Extras
) -> Digest:
    from kaito.inference.progress import TransferReport
    from kaito.oci.client import Registry
    from kaito.oci.credentials import load_keyring
    from kaito.oci.pack import left_out
    from kaito.oci.push import push_artifact, push_image

    # What was packed is removed then, as after Ctrl-C.
    if (task := asyncio.current_task()) is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    keyring = load_keyring(auth_dirs)
    if checkpoints := left_out(folder):
        _say(f"left out: {', '.join(checkpoints)}")
    _say(f"packing {folder} for {target}")
    report = TransferReport(_say, f"still packing, or waiting for {target.registry}")
    async with report.told(), Registry(target, keyring, plain_http=plain_http or None, say=report.say) as registry:
        return await (push_artifact if artifact else push_image)(registry, folder, extras, report=report)


def _check(folder: Path) -> None:
    from kaito.oci.errors import FolderError

    if not folder.is_dir():
        raise FolderError(f"{folder} is no folder")
    if missing := [name for name in _ADAPTER if not (folder / name).is_file()]:
        raise FolderError(f"{folder} is no adapter: {' and '.join(missing)} {'are' if missing[1:] else 'is'} missing")


def _check_names(target: Reference, mount_from: str | None) -> None:
    from kaito.oci.errors import ReferenceFormatError
    from kaito.oci.reference import Reference

    if target.digest is not None:
        raise ReferenceFormatError(f"{target} names a digest, which the files decide; write {target.name}:TAG")
    if mount_from is not None:
        other = Reference.parse(f"{target.registry}/{mount_from}")
        if f"{other.name}:latest" != str(other) or other.repository != mount_from:
            raise ReferenceFormatError(f"--mount-from {mount_from}: name a repository only, such as {other.repository}")


def _annotations(given: list[str]) -> dict[str, str]:
    for each in given:
        if not each.partition("=")[0] or "=" not in each:
            raise typer.BadParameter(f"{each!r} is not NAME=TEXT", param_hint="--annotation")
    return {name: text for name, _, text in (each.partition("=") for each in given)}


def _say(line: str) -> None:
    print(f"kaito push: {line}", file=sys.stderr)
