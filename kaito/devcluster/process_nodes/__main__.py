"""`python -m kaito.devcluster.process_nodes`: the agent of process nodes, until SIGTERM or SIGINT."""

from __future__ import annotations

import argparse
import contextlib
import resource
import sys
from pathlib import Path
from typing import Final

from kaito.client.config import Config, ConfigError, load_config
from kaito.devcluster.egress import Egress
from kaito.devcluster.errors import DevClusterError
from kaito.devcluster.process_nodes.agent import AgentOptions, agent
from kaito.devcluster.process_nodes.images import ImageTable
from kaito.devcluster.process_nodes.pod_records import KUBELETS, BackOff
from kaito.runtime import logs
from kaito.runtime.process import run_process
from kaito.runtime.signals import run_until_signal

_FILES: Final = 65536
"""How many files and connections it may have: each connection to a Service is two. Many systems allow 1024 at first."""


def main() -> None:
    """Runs the agent as the command line says.

    Raises:
        SystemExit: what it was given cannot be used.
    """
    chosen = _parser().parse_args()
    logs.configure(chosen.log_format, chosen.log_level)
    _allow_many_files()
    try:
        options = AgentOptions(
            chosen.directory.absolute(),
            ImageTable.load(chosen.images) if chosen.images else ImageTable.default(),
            Egress(chosen.egress.absolute()) if chosen.egress else None,
            BackOff(first_s=chosen.back_off_s),
        )
        run_process(_run(load_config(chosen.kubeconfig), options))
    except (ConfigError, DevClusterError) as error:
        sys.exit(f"process nodes: {error}")


async def _run(config: Config, options: AgentOptions) -> None:
    async with agent(config, options) as manager:
        await run_until_signal(manager)


def _allow_many_files() -> None:
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if most == resource.RLIM_INFINITY else min(_FILES, most)
    if now < wanted:
        with contextlib.suppress(OSError, ValueError):  # where the system has a limit of its own
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m kaito.devcluster.process_nodes",
        description="Runs the pods bound to Nodes labelled kaito.sh/process-node=true as processes of this machine.",
    )
    parser.add_argument("--kubeconfig", type=Path, required=True, help="of the cluster")
    parser.add_argument("--directory", type=Path, required=True, help="where pods' folders and logs go; logs stay")
    parser.add_argument("--images", type=Path, metavar="FILE", help="which command stands for which image, in YAML")
    parser.add_argument(
        "--egress", type=Path, metavar="DIR", help="the folder shared with the API server, for its proxy"
    )
    back_off = (
        "seconds that a container waits after its second crash, doubled with each further one; default %(default)g"
    )
    parser.add_argument("--back-off-s", type=float, default=KUBELETS.first_s, metavar="SECONDS", help=back_off)
    parser.add_argument("--log-format", choices=("json", "console"), default="json", help="default json")
    levels = ("debug", "info", "warning", "error")
    parser.add_argument("--log-level", choices=levels, default="info", help="the least that is logged; default info")
    return parser


if __name__ == "__main__":
    main()
