"""`kaito rbac`: prints what the operator must be allowed to do, as roles, bindings and a ServiceAccount."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kaito.cli.catalog_flags import NAME as CATALOG
from kaito.cli.catalog_flags import CatalogConfigMapOption, CatalogFlags
from kaito.cli.crds import CRDFormat, render
from kaito.cli.flags import takes
from kaito.cli.leader_election import AdmissionFenceOption, LeaderElectOption
from kaito.cli.manager import fail
from kaito.cli.operator_flags import (
    ALL,
    CloudOption,
    ControllersOption,
    NodeProvisioner,
    NodeProvisionerOption,
    parse_controllers,
)
from kaito.cli.place import Place
from kaito.cli.serving import MetricsSecureOption
from kaito.cli.webhook import WebhookPortOption

if TYPE_CHECKING:
    from kaito.controllers.operator import OperatorOptions
    from kaito.controllers.webhooks import WebhookOptions
    from kaito.kube.object_key import ObjectKey

ServiceAccountOption = Annotated[
    str, typer.Option(help="Whom to allow it, NAMESPACE/NAME; the namespace must exist.", metavar="NAMESPACE/NAME")
]
NameOption = Annotated[str, typer.Option(help="Of the roles and bindings.")]
OwnNamespaceOption = Annotated[
    str | None,
    typer.Option(
        envvar="KAITO_NAMESPACE",
        help="The manager's own namespace: of its Leases, its certificates and its catalogue. Default: the "
        "ServiceAccount's.",
    ),
]
LeaseNamespaceOption = Annotated[
    str | None,
    typer.Option(envvar="KAITO_LEADER_ELECTION_NAMESPACE", help="Namespace of the Leases, if it is another."),
]
CertDirGivenOption = Annotated[
    Path | None,
    typer.Option(
        envvar="KAITO_WEBHOOK_CERT_DIR",
        help="As for kaito manager: others renew the webhook's certificates, so that it needs no Secret.",
    ),
]
FormatOption = Annotated[CRDFormat, typer.Option("--format", help="YAML documents, or one JSON list.")]


@dataclass(frozen=True)
class RbacFlags:
    """Those flags of `kaito manager` that change what it needs, and whom to allow it."""

    controllers: ControllersOption = ALL
    cloud: CloudOption = None
    node_provisioner: NodeProvisionerOption = NodeProvisioner.MACHINE
    catalog_config_map: CatalogConfigMapOption = CATALOG
    webhook_port: WebhookPortOption = None
    webhook_cert_dir: CertDirGivenOption = None
    metrics_secure: MetricsSecureOption = False
    leader_elect: LeaderElectOption = None
    leader_election_namespace: LeaseNamespaceOption = None
    leader_election_admission_fence: AdmissionFenceOption = False
    namespace: OwnNamespaceOption = None
    service_account: ServiceAccountOption = "kaito-system/kaito"
    name: NameOption = "kaito"
    output_format: FormatOption = CRDFormat.YAML

    def account(self) -> "ObjectKey":
        """The ServiceAccount.

        Raises:
            ValueError: it is malformed.
        """
        from kaito.kube.object_key import ObjectKey

        namespace, _, account = self.service_account.rpartition("/")
        if not (namespace and account):
            raise ValueError(
                f"--service-account is {self.service_account!r}; give NAMESPACE/NAME, such as kaito-system/kaito"
            )
        return ObjectKey(account, namespace)

    def options(self, namespace: str) -> "OperatorOptions":
        """What of the operator's options changes what it needs.

        Args:
            namespace: the manager's own.

        Raises:
            ValueError: a flag is malformed.
        """
        from kaito.controllers.operator import OperatorOptions

        place = Place(namespace=namespace)
        return OperatorOptions(
            controllers=parse_controllers(self.controllers),
            # There is one, so that it stands for all; without any, no nodes are made, and none are taken away.
            cloud="kwok" if self.cloud is not None or self.node_provisioner is not NodeProvisioner.BYO else None,
            node_provisioner=self.node_provisioner.value,
            catalog_config_map=CatalogFlags(catalog_config_map=self.catalog_config_map).config_map(place),
            webhooks=self._webhooks(namespace),
        )

    def _webhooks(self, namespace: str) -> "WebhookOptions | None":
        from kaito.controllers.webhooks import NAME, WebhookOptions
        from kaito.kube.object_key import ObjectKey
        from kaito.runtime.webhook import InService

        if self.webhook_port == 0:
            return None
        # How it is reached takes no rights.
        return WebhookOptions(InService(namespace, NAME), self.webhook_cert_dir or ObjectKey(NAME, namespace))


@takes(RbacFlags)
def rbac(flags: RbacFlags) -> None:
    """Print the ServiceAccount, ClusterRole, Roles and bindings that the operator needs, and no more.

    They follow from what its controllers declare, so give the flags that `kaito manager` gets. Without --cloud they
    suit every cloud.

    Try: kubectl create namespace kaito-system; kaito rbac | kubectl apply -f -. What is missing, kaito manager names
    when it starts, and /readyz?verbose under "permissions".
    """
    try:
        account = flags.account()
        namespace = flags.namespace or account.namespace or ""
        options = flags.options(namespace)
    except ValueError as error:
        fail(str(error))
    made = objects(
        options,
        flags.name,
        account,
        secure_metrics=flags.metrics_secure,
        leases=None if flags.leader_elect is False else flags.leader_election_namespace or namespace,
        admission_fence=flags.leader_election_admission_fence,
    )
    typer.echo(render(made, flags.output_format), nl=False)


def objects(
    options: "OperatorOptions",
    name: str,
    account: "ObjectKey",
    *,
    secure_metrics: bool = False,
    leases: str | None = None,
    admission_fence: bool = False,
) -> list[dict[str, Any]]:
    """The objects for an operator with these options, as JSON values; `leases` is where those of its elections lie."""
    from kaito.client.config import Config
    from kaito.controllers.operator import add_operator
    from kaito.runtime.election import LeaderElection
    from kaito.runtime.manager import Manager
    from kaito.runtime.rbac import needs_of, rules_of
    from kaito.runtime.roles import role_objects

    # Never run: only what is declared to it is of interest.
    election = LeaderElection(namespace=leases, admission_fence=admission_fence) if leases else False
    manager = Manager(
        "kaito",
        Config("http://localhost"),
        metrics="0",
        health="0",
        secure_metrics=secure_metrics,
        leader_election=election,
    )
    add_operator(manager, options)
    return [each.to_dict() for each in role_objects(name, account, rules_of(needs_of(manager)))]
