"""The operator's webhooks: where they are served, with which certificates, and how the API server gets there."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kaito.kube.core_v1 import ConfigMap
from kaito.kube.object_key import ObjectKey
from kaito.runtime.access import EVERYWHERE, Access
from kaito.runtime.manager import Manager

if TYPE_CHECKING:
    from kaito.controllers.workspace.admission import AdmissionOptions
    from kaito.runtime.webhook import CertificateSource, Reach, WebhookServer

NAME = "kaito-webhook"
"""Of the Service that leads to the manager's pods, and of the Secret with the certificates."""


@dataclass(frozen=True, slots=True)
class WebhookOptions:
    """How the operator's webhooks are served.

    Attributes:
        reached: how the API server gets here.
        certificates: the Secret of an authority of our own, or a directory with certificates that others renew.
        address: where it listens.
    """

    reached: Reach
    certificates: ObjectKey | Path
    address: str = ":9443"


def webhook_server(
    manager: Manager,
    options: WebhookOptions,
    admission: AdmissionOptions,
    after: Callable[[], Awaitable[None]] | None = None,
) -> WebhookServer:
    """Makes the server, to be added to the manager.

    Args:
        manager: whose.
        options: how it is served.
        admission: what verdicts rest on.
        after: what must come before the first verdict.
    """
    # Certificates need a library of some megabytes, which a manager without webhooks does without.
    from kaito.controllers.workspace.admission import workspace_webhooks
    from kaito.runtime.webhook import WebhookServer

    return WebhookServer(
        manager,
        *workspace_webhooks(admission),
        reached=options.reached,
        certificates=_certificates(manager, options.certificates),
        address=options.address,
        needs=_NEEDS,
        after=after,
    )


# A Workspace may name a ConfigMap, in its own namespace.
_NEEDS: Sequence[Access] = (Access(ConfigMap, "get", namespace=EVERYWHERE),)


def _certificates(manager: Manager, where: ObjectKey | Path) -> CertificateSource:
    from kaito.runtime.webhook import Files, OwnAuthority

    return Files(where) if isinstance(where, Path) else OwnAuthority(manager.api_reader, where)
