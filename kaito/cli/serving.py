"""The flags that say how the manager is served, watched and stopped."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kaito.cli.numbers import seconds
from kaito.cli.webhook import readable_directory

if TYPE_CHECKING:
    from kaito.client.config import Config
    from kaito.runtime.election import LeaderElection
    from kaito.runtime.manager import Manager
    from kaito.runtime.servers import CannotListen


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


@dataclass(frozen=True)
class LogFlags:
    """The flags of the log."""

    log_format: LogFormatOption = LogFormat.JSON
    log_level: LogLevelOption = LogLevel.INFO


@dataclass(frozen=True)
class ServingFlags:
    """The flags that say how the manager is served and stopped."""

    metrics_bind_address: MetricsBindAddressOption = ":8080"
    health_probe_bind_address: HealthProbeBindAddressOption = ":8081"
    metrics_secure: MetricsSecureOption = False
    metrics_cert_dir: MetricsCertDirOption = None
    debug_endpoints: DebugEndpointsOption = False
    grace_period: GracePeriodOption = "10"

    def check(self) -> None:
        """Refuses what cannot work.

        Raises:
            ValueError: it does not; says which flag, what was given, and what is allowed.
        """
        self._grace_s()
        _check_address("--metrics-bind-address", self.metrics_bind_address)
        _check_address("--health-probe-bind-address", self.health_probe_bind_address)
        if self.metrics_cert_dir is not None and not self.metrics_secure:
            raise ValueError("--metrics-cert-dir does nothing without --metrics-secure; give both, or neither")
        if self.metrics_cert_dir is not None:
            readable_directory("--metrics-cert-dir", self.metrics_cert_dir)
        same = self.metrics_bind_address == self.health_probe_bind_address
        if self.metrics_secure and same and self.metrics_bind_address not in ("", "0", "127.0.0.1:0"):
            raise ValueError(
                f"--metrics-secure: --metrics-bind-address and --health-probe-bind-address are both "
                f"{self.metrics_bind_address}, but probes have no credentials; choose another address for one"
            )

    def manager(self, config: "Config", election: "LeaderElection | None") -> "Manager":
        """Makes the manager.

        Args:
            config: of the cluster.
            election: decides which controllers work here; None: all do.
        """
        from kaito.runtime.manager import Manager

        return Manager(
            "kaito",
            config,
            metrics=self.metrics_bind_address,
            health=self.health_probe_bind_address,
            secure_metrics=self.metrics_secure,
            metrics_certificates=self.metrics_cert_dir,
            grace_s=self._grace_s(),
            debug=self.debug_endpoints,
            leader_election=election or False,
        )

    def _grace_s(self) -> float:
        return seconds("--grace-period", self.grace_period, example="10", zero=True)


def taken(error: "CannotListen") -> str:
    """Says of an address that is taken which flag chooses another.

    Args:
        error: what the manager ended with.
    """
    flags = " and ".join(_FLAGS.get(role, f"{role} server") for role in error.roles)
    other = "port, or 0 for no webhook" if error.roles == ("webhook",) else "[HOST]:PORT, or 0 for none"
    return f"{flags}: cannot listen on {error.address}: {error.why}; choose another {other}"


_FLAGS = {
    "metrics": "--metrics-bind-address",
    "health": "--health-probe-bind-address",
    "webhook": "--webhook-port",
}


def _check_address(flag: str, text: str) -> None:
    from kaito.runtime.servers import parse_address

    try:
        parse_address(text)
    except ValueError as error:
        raise ValueError(f"{flag}: {error}") from error
