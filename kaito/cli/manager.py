"""kaito manager: the operator, as a process."""

import gc
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from kaito.cli.leader_election import (
    AdmissionFenceOption,
    LeaderElectOption,
    LeaseDurationOption,
    NamespaceOption,
    RenewDeadlineOption,
    RetryPeriodOption,
    leader_election,
)
from kaito.cli.numbers import seconds

if TYPE_CHECKING:
    from kaito.client.config import Config
    from kaito.controllers.operator import CloudName, ControllerName, OperatorOptions
    from kaito.runtime.election import LeaderElection
    from kaito.runtime.manager import Manager
    from kaito.runtime.servers import CannotListen

log = logging.getLogger(__name__)


class Cloud(StrEnum):
    """Who makes nodes."""

    KWOK = "kwok"


class NodeProvisioner(StrEnum):
    """Which kind of claim is made."""

    MACHINE = "machine"
    NODECLAIM = "nodeclaim"
    BYO = "byo"


class LogFormat(StrEnum):
    """How log lines look."""

    JSON = "json"
    CONSOLE = "console"


class LogLevel(StrEnum):
    """How much is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class ModelRuntime(StrEnum):
    """What runs models."""

    TRANSFORMERS = "transformers"
    VLLM = "vllm"


KubeconfigOption = Annotated[
    Path | None,
    typer.Option(
        envvar="KAITO_KUBECONFIG", help="Kubeconfig file. Default: $KUBECONFIG, else in-cluster, else ~/.kube/config."
    ),
]
ContextOption = Annotated[
    str | None, typer.Option(envvar="KAITO_CONTEXT", help="Context in the kubeconfig. Default: its current one.")
]
ControllersOption = Annotated[
    str,
    typer.Option(envvar="KAITO_CONTROLLERS", help="Which controllers run here, comma-separated."),
]
CloudOption = Annotated[
    Cloud | None,
    typer.Option(
        envvar="KAITO_CLOUD",
        help="Who makes GPU nodes; needed unless nodes are your own (byo), and then too while nodes are left that it "
        "made. kwok: fake ones, for trying things out.",
    ),
]
NodeProvisionerOption = Annotated[
    NodeProvisioner,
    typer.Option(
        envvar="KAITO_NODE_PROVISIONER",
        help="What a node is asked for with: a machine, a nodeclaim, or not at all (byo: bring your own nodes).",
    ),
]
RuntimeOption = Annotated[
    ModelRuntime | None,
    typer.Option(envvar="KAITO_RUNTIME", help="What runs models. Default: what suits model and GPU."),
]
CatalogOption = Annotated[
    Path | None,
    typer.Option(envvar="KAITO_CATALOG", help="YAML file with models and instance types, merged over the built-in."),
]
InferenceImageOption = Annotated[
    str | None, typer.Option(envvar="KAITO_INFERENCE_IMAGE", help="Image of the inference server.")
]
MetricsBindAddressOption = Annotated[
    str,
    typer.Option(envvar="KAITO_METRICS_BIND_ADDRESS", help="Where /metrics is served, [HOST]:PORT; 0 for nowhere."),
]
HealthProbeBindAddressOption = Annotated[
    str,
    typer.Option(
        envvar="KAITO_HEALTH_PROBE_BIND_ADDRESS",
        help="Where /healthz and /readyz are served, [HOST]:PORT; 0 for nowhere.",
    ),
]
MetricsSecureOption = Annotated[
    bool,
    typer.Option(
        "--metrics-secure",
        envvar="KAITO_METRICS_SECURE",
        help="Serve /metrics by TLS, and only to tokens of the cluster that may get it (nonResourceURLs: /metrics).",
    ),
]
MetricsCertDirOption = Annotated[
    Path | None,
    typer.Option(
        envvar="KAITO_METRICS_CERT_DIR",
        help="Directory with tls.crt and tls.key for --metrics-secure, read again when they change. Default: a "
        "certificate of its own making.",
    ),
]
DebugEndpointsOption = Annotated[
    bool,
    typer.Option(
        "--debug-endpoints",
        envvar="KAITO_DEBUG_ENDPOINTS",
        help="Serve /debug/queues beside the probes: what is queued, worked on and cached, with names of objects.",
    ),
]
GracePeriodOption = Annotated[
    str,
    typer.Option(
        envvar="KAITO_GRACE_PERIOD",
        metavar="SECONDS",
        help="How long work in progress may go on once the manager is told to stop.",
    ),
]
LogFormatOption = Annotated[
    LogFormat, typer.Option(envvar="KAITO_LOG_FORMAT", help="json: one object a line; console: for people.")
]
LogLevelOption = Annotated[
    LogLevel, typer.Option(envvar="KAITO_LOG_LEVEL", case_sensitive=False, help="The least that is logged.")
]


def manager(
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
    controllers: ControllersOption = "workspace,machine,gpu-provisioner",
    cloud: CloudOption = None,
    node_provisioner: NodeProvisionerOption = NodeProvisioner.MACHINE,
    runtime: RuntimeOption = None,
    catalog: CatalogOption = None,
    inference_image: InferenceImageOption = None,
    metrics_bind_address: MetricsBindAddressOption = ":8080",
    health_probe_bind_address: HealthProbeBindAddressOption = ":8081",
    metrics_secure: MetricsSecureOption = False,
    metrics_cert_dir: MetricsCertDirOption = None,
    debug_endpoints: DebugEndpointsOption = False,
    grace_period: GracePeriodOption = "10",
    leader_elect: LeaderElectOption = None,
    leader_election_namespace: NamespaceOption = None,
    leader_election_lease_duration: LeaseDurationOption = "15",
    leader_election_renew_deadline: RenewDeadlineOption = "10",
    leader_election_retry_period: RetryPeriodOption = "2",
    leader_election_admission_fence: AdmissionFenceOption = False,
    log_format: LogFormatOption = LogFormat.JSON,
    log_level: LogLevelOption = LogLevel.INFO,
) -> None:
    """Run the operator: workspace, machine and gpu-provisioner controllers in one process.

    It waits, with backoff, for an API server that is not there yet. SIGTERM and SIGINT stop it in order, a second one
    stops it at once.

    Try: kaito devcluster up --dir dc --kwok; kaito crds | kubectl --kubeconfig dc/kubeconfig apply -f -; kaito manager
    --kubeconfig dc/kubeconfig --cloud kwok.
    """
    from kaito.client.config import is_in_cluster, load_config
    from kaito.runtime.logs import configure

    with _mistakes_in_one_line():
        configure(log_format.value, log_level.value)
        durations = (leader_election_lease_duration, leader_election_renew_deadline, leader_election_retry_period)
        where, fenced = leader_election_namespace, leader_election_admission_fence
        election = leader_election(leader_elect, where, durations, fenced, in_cluster=is_in_cluster(kubeconfig))
        grace_s = seconds("--grace-period", grace_period, example="10", zero=True)
        addresses = (metrics_bind_address, health_probe_bind_address)
        serving = Serving(*addresses, metrics_secure, metrics_cert_dir, debug_endpoints, grace_s, election)
        serving.check()
        options = _operator(controllers, cloud, node_provisioner, runtime, catalog, inference_image)
        _serve(load_config(kubeconfig, context=context), options, serving)


@contextmanager
def _mistakes_in_one_line() -> Iterator[None]:
    """Ends the program with exit code 1 and a line that names what was given and what is allowed."""
    from kaito.catalog import CatalogError
    from kaito.client.config import ConfigError

    try:
        yield
    except (ConfigError, CatalogError, ValueError, OSError) as error:
        fail(str(error))


def _operator(
    controllers: str,
    cloud: Cloud | None,
    node_provisioner: NodeProvisioner,
    runtime: ModelRuntime | None,
    catalog: Path | None,
    image: str | None,
) -> "OperatorOptions":
    from kaito.catalog import Catalog, CurrentCatalog
    from kaito.controllers.operator import OperatorOptions
    from kaito.controllers.workspace.workload import DEFAULT_IMAGE, WorkloadOptions

    return OperatorOptions(
        controllers=parse_controllers(controllers),
        cloud=_cloud(cloud, node_provisioner),
        node_provisioner=node_provisioner.value,
        runtime=runtime.value if runtime is not None else None,
        current=CurrentCatalog(Catalog.load(catalog)),
        workload=WorkloadOptions(image=image or DEFAULT_IMAGE),
    )


@dataclass(frozen=True)
class Serving:
    """The flags that say how the manager is served and stopped."""

    metrics: str
    health: str
    secure: bool
    certificates: Path | None
    debug: bool
    grace_s: float
    election: "LeaderElection | None"

    def check(self) -> None:
        """Refuses what cannot work.

        Raises:
            ValueError: it does not; says which flag, what was given, and what is allowed.
        """
        _check_address("--metrics-bind-address", self.metrics)
        _check_address("--health-probe-bind-address", self.health)
        if self.certificates is not None and not self.secure:
            raise ValueError("--metrics-cert-dir does nothing without --metrics-secure; give both, or neither")
        if self.certificates is not None and not self.certificates.is_dir():
            raise ValueError(
                f"--metrics-cert-dir: {self.certificates} is no directory; mount tls.crt and tls.key there"
            )
        if self.secure and self.metrics == self.health and self.metrics not in ("", "0", "127.0.0.1:0"):
            raise ValueError(
                f"--metrics-secure: --metrics-bind-address and --health-probe-bind-address are both {self.metrics}, "
                f"but probes have no credentials; choose another address for one"
            )

    def manager(self, config: "Config") -> "Manager":
        """Makes the manager."""
        from kaito.runtime.manager import Manager

        return Manager(
            "kaito",
            config,
            metrics=self.metrics,
            health=self.health,
            secure_metrics=self.secure,
            metrics_certificates=self.certificates,
            grace_s=self.grace_s,
            debug=self.debug,
            leader_election=self.election or False,
        )


def _serve(config: "Config", options: "OperatorOptions", serving: Serving) -> None:
    """Runs until stopped; what the command line can do something about ends the program with a line that says so."""
    from kaito.client.errors import LeadershipLost
    from kaito.controllers.leftover import LeftoverClaims
    from kaito.runtime.process import run_process
    from kaito.runtime.servers import CannotListen, cannot_listen

    try:
        run_process(_run(config, options, serving))
    except CannotListen as error:
        fail(_taken(error))
    except LeadershipLost as error:
        fail(str(error))
    except ExceptionGroup as group:
        if (taken := cannot_listen(group)) is not None:
            fail(_taken(taken))
        refused = group.subgroup(LeftoverClaims)
        if refused is None:
            raise
        fail(str(_first(refused)))


async def _run(config: "Config", options: "OperatorOptions", serving: Serving) -> None:
    from kaito.controllers.operator import add_operator
    from kaito.runtime.signals import stopped_by_signals

    made = serving.manager(config)
    add_operator(made, options)
    with stopped_by_signals(made.stop):
        # Which cluster it is stands in the first line, before anything is written there.
        log.info("operator starts", extra={"api_server": config.host, "cloud": options.cloud})
        # Modules are most of what a collection walks, and stay: out of its way, it takes about a millisecond.
        gc.collect()
        gc.freeze()
        await made.run()


def parse_controllers(text: str) -> "tuple[ControllerName, ...]":
    """Reads a comma-separated list of controller names.

    Raises:
        ValueError: a name is unknown, or there is none.
    """
    from kaito.controllers.operator import ALL_CONTROLLERS

    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in ALL_CONTROLLERS]
    if unknown or not names:
        given = ", ".join(unknown) or "nothing"
        raise ValueError(f"--controllers: {given}; choose from {', '.join(ALL_CONTROLLERS)}")
    return tuple(name for name in ALL_CONTROLLERS if name in names)


def _check_address(flag: str, text: str) -> None:
    from kaito.runtime.servers import parse_address

    try:
        parse_address(text)
    except ValueError as error:
        raise ValueError(f"{flag}: {error}") from error


_FLAGS = {"metrics": "--metrics-bind-address", "health": "--health-probe-bind-address"}


def _taken(error: "CannotListen") -> str:
    flags = " and ".join(_FLAGS.get(role, f"{role} server") for role in error.roles)
    return f"{flags}: cannot listen on {error.address}: {error.why}; choose another [HOST]:PORT, or 0 for none"


def _first(group: BaseException) -> BaseException:
    return _first(group.exceptions[0]) if isinstance(group, BaseExceptionGroup) else group


def _cloud(cloud: Cloud | None, node_provisioner: NodeProvisioner) -> "CloudName | None":
    match cloud:
        case Cloud.KWOK:
            return "kwok"
        case None if node_provisioner is NodeProvisioner.BYO:
            return None
        case None:
            # No default: fake nodes in a real cluster would look like a working one.
            choices = ", ".join(Cloud)
            raise ValueError(f"--cloud is needed to make nodes; choose from {choices} (or --node-provisioner byo)")


def fail(message: str) -> NoReturn:
    """Prints an error and ends the program with exit code 1."""
    typer.echo(f"kaito: {message}", err=True)
    raise typer.Exit(1)
