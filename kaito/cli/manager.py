"""kaito manager: the operator, as a process."""

import dataclasses
import gc
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

import typer

from kaito.cli.catalog_flags import CatalogFlags
from kaito.cli.flags import takes
from kaito.cli.leader_election import ElectionFlags
from kaito.cli.operator_flags import OperatorFlags
from kaito.cli.place import Place
from kaito.cli.serving import LogFlags, ServingFlags, taken
from kaito.cli.webhook import HOW, WebhookFlags

if TYPE_CHECKING:
    from kaito.client.config import Config
    from kaito.controllers.operator import OperatorOptions
    from kaito.runtime.election import LeaderElection

log = logging.getLogger(__name__)


@takes(Place, OperatorFlags, CatalogFlags, WebhookFlags, ServingFlags, ElectionFlags, LogFlags)
def manager(
    place: Place,
    operator: OperatorFlags,
    catalog: CatalogFlags,
    webhook: WebhookFlags,
    serving: ServingFlags,
    election: ElectionFlags,
    logs: LogFlags,
) -> None:
    """Run the operator: workspace, machine and gpu-provisioner controllers, and the webhook that checks Workspaces.

    It waits, with backoff, for an API server that is not there yet. SIGTERM and SIGINT stop it in order, a second one
    stops it at once. What it may not do is in its log when it starts, and in /readyz?verbose under "permissions".

    In a cluster it needs --cloud (or --node-provisioner byo), and a Service kaito-webhook; see docs/operator.md.

    On this machine, try: kaito devcluster up --dir dc --kwok; kaito crds | kubectl --kubeconfig dc/kubeconfig apply -f
    -; kaito manager --kubeconfig dc/kubeconfig --cloud kwok --webhook-url https://127.0.0.1:9443 --namespace default.
    """
    from kaito.runtime.logs import configure

    with _mistakes_in_one_line():
        configure(logs.log_format.value, logs.log_level.value)
        elections = election.election(place)
        serving.check()
        options = _options(place, operator, catalog, webhook)
        _serve(place.config(), elections, serving, options)


@contextmanager
def _mistakes_in_one_line() -> Iterator[None]:
    """Ends the program with exit code 1 and a line that names what was given and what is allowed."""
    from kaito.catalog import CatalogError
    from kaito.client.config import ConfigError

    try:
        yield
    except (ConfigError, CatalogError, ValueError, OSError) as error:
        fail(str(error))


def _options(place: Place, operator: OperatorFlags, catalog: CatalogFlags, webhook: WebhookFlags) -> "OperatorOptions":
    options = operator.options()
    return dataclasses.replace(
        options,
        webhooks=webhook.options(place, options.controllers),
        current=catalog.current(),
        catalog_file=catalog.catalog,
        catalog_config_map=catalog.config_map(place),
    )


def _serve(
    config: "Config", election: "LeaderElection | None", serving: ServingFlags, options: "OperatorOptions"
) -> None:
    """Runs until stopped; what the command line can do something about ends the program with a line that says so."""
    from kaito.client.errors import LeadershipLost
    from kaito.controllers.leftover import LeftoverClaims
    from kaito.runtime.process import run_process
    from kaito.runtime.servers import CannotListen, cannot_listen

    try:
        run_process(_run(config, election, serving, options))
    except CannotListen as error:
        fail(taken(error))
    except LeadershipLost as error:
        fail(str(error))
    except ExceptionGroup as group:
        if (taken_address := cannot_listen(group)) is not None:
            fail(taken(taken_address))
        refused = group.subgroup(LeftoverClaims)
        if refused is None:
            raise
        fail(str(_first(refused)))


async def _run(
    config: "Config", election: "LeaderElection | None", serving: ServingFlags, options: "OperatorOptions"
) -> None:
    from kaito.controllers.operator import add_operator
    from kaito.runtime.signals import stopped_by_signals

    made = serving.manager(config, election)
    add_operator(made, options)
    with stopped_by_signals(made.stop):
        # Which cluster it is stands in the first line, before anything is written there.
        log.info("operator starts", extra={"api_server": config.host, "cloud": options.cloud})
        if options.webhooks is None and "workspace" in options.controllers:
            log.info("no webhook checks Workspaces", extra={"turn_on": HOW})
        # Modules are most of what a collection walks, and stay: out of its way, it takes about a millisecond.
        gc.collect()
        gc.freeze()
        await made.run()


def _first(group: BaseException) -> BaseException:
    return _first(group.exceptions[0]) if isinstance(group, BaseExceptionGroup) else group


def fail(message: str) -> NoReturn:
    """Prints an error and ends the program with exit code 1."""
    typer.echo(f"kaito: {message}", err=True)
    raise typer.Exit(1)
