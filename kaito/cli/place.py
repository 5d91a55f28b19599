"""Where the manager runs: which cluster, as whom, and in which namespace what is its own lies."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from kaito.client.config import Config

KubeconfigOption = Annotated[
    Path | None,
    typer.Option(
        envvar="KAITO_KUBECONFIG", help="Kubeconfig file. Default: $KUBECONFIG, else in-cluster, else ~/.kube/config."
    ),
]
ContextOption = Annotated[
    str | None, typer.Option(envvar="KAITO_CONTEXT", help="Context in the kubeconfig. Default: its current one.")
]
NamespaceOption = Annotated[
    str | None,
    typer.Option(
        envvar="KAITO_NAMESPACE",
        help="The manager's own namespace: of its Leases, its certificates and its catalogue. Default: the pod's; "
        "outside of a cluster there is none.",
    ),
]


@dataclass(frozen=True)
class Place:
    """The flags that say where the manager runs."""

    kubeconfig: KubeconfigOption = None
    context: ContextOption = None
    namespace: NamespaceOption = None

    @property
    def in_cluster(self) -> bool:
        """Whether this is a pod that uses its own ServiceAccount."""
        from kaito.client.config import is_in_cluster

        return is_in_cluster(self.kubeconfig)

    def config(self) -> "Config":
        """The cluster's configuration.

        Raises:
            ConfigError: there is none that is usable.
        """
        from kaito.client.config import load_config

        return load_config(self.kubeconfig, context=self.context)

    def own_namespace(self, flag: str, what: str) -> str:
        """The manager's own namespace.

        Args:
            flag: which one needs it.
            what: that lies there.

        Raises:
            ValueError: none is known.
        """
        from kaito.client.config import pod_namespace

        found = self.namespace or pod_namespace()
        if found is None:
            raise ValueError(
                f"{flag}: no namespace is known for {what}, since this is no pod; give --namespace, such as "
                f"--namespace kaito-system, which must exist"
            )
        return found
