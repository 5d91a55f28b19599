"""`kaito rbac`: prints what the operator must be allowed to do, as roles, bindings and a ServiceAccount."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from kaito.cli.crds import CRDFormat, render
from kaito.cli.leader_election import AdmissionFenceOption, LeaderElectOption
from kaito.cli.manager import (
    CloudOption,
    ControllersOption,
    MetricsSecureOption,
    NodeProvisioner,
    NodeProvisionerOption,
    fail,
    parse_controllers,
)

if TYPE_CHECKING:
    from kaito.controllers.operator import OperatorOptions
    from kaito.kube.object_key import ObjectKey

ServiceAccountOption = Annotated[
    str, typer.Option(help="Whom to allow it, NAMESPACE/NAME; the namespace must exist.", metavar="NAMESPACE/NAME")
]
NameOption = Annotated[str, typer.Option(help="Of the roles and bindings.")]
LeaseNamespaceOption = Annotated[
    str | None,
    typer.Option(
        envvar="KAITO_LEADER_ELECTION_NAMESPACE",
        help="Namespace of the Leases. Default: the ServiceAccount's, where a pod has them.",
    ),
]
FormatOption = Annotated[CRDFormat, typer.Option("--format", help="YAML documents, or one JSON list.")]


def rbac(
    controllers: ControllersOption = "workspace,machine,gpu-provisioner",
    cloud: CloudOption = None,
    node_provisioner: NodeProvisionerOption = NodeProvisioner.MACHINE,
    metrics_secure: MetricsSecureOption = False,
    leader_elect: LeaderElectOption = None,
    leader_election_namespace: LeaseNamespaceOption = None,
    leader_election_admission_fence: AdmissionFenceOption = False,
    service_account: ServiceAccountOption = "kaito-system/kaito",
    name: NameOption = "kaito",
    output_format: FormatOption = CRDFormat.YAML,
) -> None:
    """Print the ServiceAccount, ClusterRole, Roles and bindings that the operator needs, and no more.

    They follow from what its controllers declare, so give the flags that `kaito manager` gets. Without --cloud they
    suit every cloud.

    Try: kubectl create namespace kaito-system; kaito rbac | kubectl apply -f -. What is missing, kaito manager names
    when it starts, and /readyz?verbose under "permissions".
    """
    from kaito.controllers.operator import OperatorOptions
    from kaito.kube.object_key import ObjectKey

    namespace, _, account = service_account.rpartition("/")
    if not (namespace and account):
        fail(f"--service-account is {service_account!r}; give NAMESPACE/NAME, such as kaito-system/kaito")
    try:
        options = OperatorOptions(
            controllers=parse_controllers(controllers),
            # There is one, so that it stands for all; without any, no nodes are made, and none are taken away.
            cloud="kwok" if cloud is not None or node_provisioner is not NodeProvisioner.BYO else None,
            node_provisioner=node_provisioner.value,
        )
    except ValueError as error:
        fail(str(error))
    made = objects(
        options,
        name,
        ObjectKey(account, namespace),
        secure_metrics=metrics_secure,
        leases=None if leader_elect is False else leader_election_namespace or namespace,
        admission_fence=leader_election_admission_fence,
    )
    typer.echo(render(made, output_format), nl=False)


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
