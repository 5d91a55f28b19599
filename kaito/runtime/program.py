"""Program: a command line around a manager: run it, print the definitions of its kinds, print the rights it needs."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NoReturn, Protocol, TypedDict, Unpack

from kaito.client.config import SERVICE_ACCOUNT_DIR, Config, ConfigError, load_config
from kaito.client.errors import LeadershipLost
from kaito.kube.crd import custom_resource_definition
from kaito.kube.object_key import ObjectKey
from kaito.kube.resource import Resource
from kaito.runtime import logs
from kaito.runtime.election.options import LeaderElection
from kaito.runtime.elections import Elections
from kaito.runtime.manager import Manager
from kaito.runtime.process import run_process
from kaito.runtime.rbac import needs_of, rules_of
from kaito.runtime.roles import role_objects
from kaito.runtime.servers import CannotListen, cannot_listen, parse_address
from kaito.runtime.signals import run_until_signal


class ManagerOptions(TypedDict, total=False):
    """What a command line decides of a manager; keyword arguments of `Manager`."""

    metrics: str
    health: str
    leader_election: bool | LeaderElection | Elections
    debug: bool


class MakeManager(Protocol):
    """Makes the manager of a program, with its controllers; must not need a running event loop."""

    def __call__(self, config: Config, **options: Unpack[ManagerOptions]) -> Manager:
        """Makes it; hands the options to `Manager`."""
        ...


def run_program(
    make: MakeManager, *, kinds: Iterable[type[Resource]] = (), arguments: Sequence[str] | None = None
) -> None:
    """The ``main`` of a program that is a manager. Commands: ``run`` (the default), ``crds``, ``rbac``; ``--help``.

    ``run`` sets the log up, runs until SIGTERM or SIGINT, and ends with exit code 1 and one line on stderr for what
    waiting cannot heal: a port in use, a flag that is none, no configuration, a lease that was lost. An API server that
    is not there, a missing CRD and missing rights are waited for; ``/readyz?verbose`` names them.

    Args:
        make: makes the manager.
        kinds: its own kinds, which ``crds`` prints.
        arguments: of the command line; default those of the process.

    Raises:
        SystemExit: it ended with an error.
        ExceptionGroup: a controller or service failed, which is a bug of it.
    """
    parser = _parser()
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or (given[0].startswith("-") and given[0] not in ("-h", "--help")):
        given = ["run", *given]
    chosen = parser.parse_args(given)
    try:
        match chosen.command:
            case "crds":
                _print(custom_resource_definition(kind) for kind in kinds)
            case "rbac":
                _rbac(make, chosen)
            case _:
                _run(make, chosen)
    except (ConfigError, CannotListen, LeadershipLost, ValueError) as error:
        parser.error(_line(error))
    except ExceptionGroup as group:
        # Servers of services, such as one of webhooks.
        refused = cannot_listen(group)
        if refused is None:
            raise
        parser.error(_line(refused))


def _line(error: Exception) -> str:
    return _taken(error) if isinstance(error, CannotListen) else str(error)


def _run(make: MakeManager, chosen: argparse.Namespace) -> None:
    logs.configure(chosen.log_format, chosen.log_level)
    config = load_config(chosen.kubeconfig, context=chosen.context)
    manager = make(
        config,
        metrics=chosen.metrics_bind_address,
        health=chosen.health_probe_bind_address,
        leader_election=_leader_election(chosen),
        debug=chosen.debug_endpoints,
    )
    run_process(run_until_signal(manager))


def _leader_election(chosen: argparse.Namespace) -> bool | LeaderElection:
    in_cluster = "KUBERNETES_SERVICE_HOST" in os.environ and (SERVICE_ACCOUNT_DIR / "namespace").exists()
    elect = in_cluster if chosen.leader_elect is None else chosen.leader_elect
    return LeaderElection(namespace=chosen.leader_election_namespace, exit_hard=True) if elect else False


def _rbac(make: MakeManager, chosen: argparse.Namespace) -> None:
    namespace, _, name = chosen.service_account.rpartition("/")
    if not (namespace and name):
        raise ValueError(f"--service-account is {chosen.service_account!r}; give NAMESPACE/NAME, such as default/mine")
    # Never run: only what is declared to it is of interest.
    manager = make(
        Config("http://localhost"), metrics="0", health="0", leader_election=LeaderElection(namespace=namespace)
    )
    made = role_objects(manager.name, ObjectKey(name, namespace), rules_of(needs_of(manager)))
    _print(each.to_dict() for each in made)


def _taken(error: CannotListen) -> str:
    flags = " or ".join(f"--{role.replace('health', 'health-probe')}-bind-address" for role in error.roles)
    return f"{error} by {flags}" if set(error.roles) <= {"metrics", "health"} else str(error)


def _address(text: str) -> str:
    try:
        parse_address(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


def _print(objects: Iterable[object]) -> None:
    """As JSON, which ``kubectl apply -f -`` takes as it takes YAML."""
    print(json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)}, indent=2))


class _Parser(argparse.ArgumentParser):
    """Says in one line what is wrong, and how to find what is allowed."""

    def error(self, message: str) -> NoReturn:
        self.exit(1, f"{self.prog}: {message}{'' if ';' in message else '; see --help'}\n")


def _parser() -> _Parser:
    parser = _Parser(description="A Kubernetes controller on kaito's runtime.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser)
    _add_run(commands.add_parser)
    crds = "print the CustomResourceDefinitions of its kinds, for kubectl apply -f -"
    commands.add_parser("crds", help=crds, description=crds)
    rbac = "print the ServiceAccount, roles and bindings that it needs, for kubectl apply -f -"
    options = commands.add_parser("rbac", help=rbac, description=rbac)
    account = "as whom it runs, and in whose namespace its Leases are; default %(default)s"
    options.add_argument("--service-account", default="default/controller", metavar="NAMESPACE/NAME", help=account)
    return parser


def _add_run(add: Callable[..., argparse.ArgumentParser]) -> None:
    text = "run until SIGTERM or SIGINT; a second signal exits at once"
    options = add("run", help=f"{text} (the default)", description=text)
    show = argparse.BooleanOptionalAction
    options.add_argument("--kubeconfig", type=Path, help="default: $KUBECONFIG, else in-cluster, else ~/.kube/config")
    options.add_argument("--context", help="in the kubeconfig; default: its current one")
    for flag, default, what in (
        ("--metrics-bind-address", ":8080", "/metrics is served"),
        ("--health-probe-bind-address", ":8081", "/healthz and /readyz are served"),
    ):
        said = f"where {what}, [HOST]:PORT, 0 for nowhere; default {default}"
        options.add_argument(flag, default=default, type=_address, metavar="ADDRESS", help=said)
    elect = "work only while holding the Leases; default: in a cluster yes, else no"
    options.add_argument("--leader-elect", action=show, default=None, help=elect)
    options.add_argument("--leader-election-namespace", help="of the Leases; default: the pod's own")
    options.add_argument("--debug-endpoints", action="store_true", help="serve /debug/queues beside the probes")
    formats, levels = ("json", "console"), ("debug", "info", "warning", "error")
    options.add_argument("--log-format", choices=formats, default="json", help="default json")
    options.add_argument("--log-level", choices=levels, default="info", help="the least that is logged; default info")
