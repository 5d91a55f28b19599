"""`python -m kaito.inference.pull`: the init container that fetches an adapter's image."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import NoReturn

from kaito.inference.adapter_image import Pulled, pull_adapter
from kaito.inference.errors import StartError
from kaito.inference.progress import TransferReport
from kaito.inference.wording import size
from kaito.oci.client import Registry
from kaito.oci.credentials import load_keyring
from kaito.oci.errors import OciError, ReferenceFormatError
from kaito.oci.reference import Reference

PROGRAM = "python -m kaito.inference.pull"

_EPILOG = f"""\
examples:
  an image whose /data holds the adapter
      {PROGRAM} myregistry.azurecr.io/adapters/legal:1 /mnt/adapter/legal
  from a registry that wants a password, with the Secret mounted at /mnt/pull-secrets/legal
      {PROGRAM} --auth-dir /mnt/pull-secrets REF DIR

REF may also be an artifact, with a layer for each file, as `oras push` makes them. Credentials are read as docker
does, from --auth-dir, DOCKER_CONFIG and ~/.docker. A folder that holds this very image already is left as it is.

exit status:
  0  DIR holds the adapter
  1  it cannot be had: no such image, not allowed, no adapter in it, no space
  2  a mistake in the flags
  130, 143  SIGINT or SIGTERM ended it; the next one goes on from what was fetched
"""


class UsageError(Exception):
    """A mistake in the flags, in one line."""


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for."""

    reference: Reference
    folder: Path
    auth_dirs: tuple[Path, ...]
    plain_http: bool | None
    path: str
    json: bool


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Pulls, and exits.

    Args:
        arguments: without the program's name; none: those of the process.

    Raises:
        SystemExit: Always; --help lists the statuses.
    """
    # The first process of a container has no default action for signals. Nothing needs to be undone: the folder has
    # no adapter_config.json before all the rest is there.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)
    try:
        options = read_options(sys.argv[1:] if arguments is None else arguments)
    except (UsageError, ReferenceFormatError) as error:
        _fail(str(error), 2)
    try:
        pulled = asyncio.run(_pull(options))
    except (OciError, StartError) as error:
        _fail(str(error), 1)
    except OSError as error:
        _fail(f"{error.filename or options.folder}: {error.strerror or error}", 1)
    _tell(pulled, options)
    sys.exit(0)


def read_options(arguments: Sequence[str]) -> Options:
    """What the command line asks for.

    Raises:
        UsageError: It has a mistake.
        ReferenceFormatError: REF is no image reference.
        SystemExit: The help was asked for and printed.
    """
    parser = _Parser(
        prog=PROGRAM,
        description="Fetches the image of a LoRA adapter into a folder, verified, and whole or not at all.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("reference", metavar="REF", help="[REGISTRY/]REPOSITORY[:TAG][@DIGEST]")
    parser.add_argument("folder", metavar="DIR", help="where adapter_config.json and the weights are to lie")
    more = "a file like docker's config.json, or a folder with such files, .dockerconfigjson or config.json; repeatable"
    parser.add_argument("--auth-dir", metavar="PATH", action="append", default=[], help=more)
    parser.add_argument(
        "--plain-http", action="store_true", help="no TLS; with registries on loopback that is so anyway"
    )
    parser.add_argument("--path", metavar="PATH", default="/data", help="where in an image it is (default: /data)")
    parser.add_argument("--json", action="store_true", help="in the end print one JSON object about what is there")
    given = parser.parse_args(list(arguments))
    if not given.folder or not given.path:
        raise UsageError("DIR and --path need a value")
    return Options(
        reference=Reference.parse(given.reference),
        folder=Path(os.path.abspath(given.folder)),
        auth_dirs=tuple(map(Path, given.auth_dir)),
        plain_http=True if given.plain_http else None,
        path=given.path,
        json=given.json,
    )


async def _pull(options: Options) -> Pulled:
    keyring = load_keyring(options.auth_dirs)
    _say(f"{options.reference}: asking {options.reference.registry}")
    report = TransferReport(_say, f"still waiting for {options.reference.registry}")
    async with (
        report.told(),
        Registry(options.reference, keyring, plain_http=options.plain_http, say=report.say) as registry,
    ):
        return await pull_adapter(registry, options.folder, path=options.path, report=report, say=report.say)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message.removeprefix('argument ')}; see --help")


def _tell(pulled: Pulled, options: Options) -> None:
    record, total = pulled.record, sum(pulled.record.files.values())
    if pulled.warning:
        _say(f"warning: {pulled.warning}")
    done = f"{options.folder} has {len(record.files)} files, {size(total)}, of {record.reference}"
    _say(f"{done}, {record.digest}" if pulled.fetched else f"{done} already: nothing to do")
    if options.json:
        told = {"reference": record.reference, "digest": record.digest, "directory": str(options.folder)}
        print(json.dumps({**told, "files": sorted(record.files), "bytes": total, "pulled": pulled.fetched}), flush=True)


def _say(line: str) -> None:
    # What has a log keeps the last lines of it as the reason of an end, so each is one line.
    with contextlib.suppress(OSError):
        print(f"{PROGRAM}: {' '.join(line.split())}", file=sys.stderr, flush=True)


def _fail(message: str, status: int) -> NoReturn:
    _say(message)
    sys.exit(status)


def _end(number: int, _frame: FrameType | None) -> NoReturn:
    name = signal.Signals(number).name
    with contextlib.suppress(OSError):
        os.write(2, f"{PROGRAM}: stopped by {name}; the next pull goes on from what was fetched\n".encode())
    os._exit(128 + number)


if __name__ == "__main__":
    main()
