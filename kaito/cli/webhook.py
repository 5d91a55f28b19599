"""The flags of the webhook that checks Workspaces, and what they come to."""

import os
import re
from collections.abc import Collection
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from kaito.cli.place import Place

if TYPE_CHECKING:
    from kaito.controllers.webhooks import WebhookOptions
    from kaito.runtime.webhook import Reach

WebhookPortOption = Annotated[
    int | None,
    typer.Option(
        min=0,
        max=65535,
        envvar="KAITO_WEBHOOK_PORT",
        help="Where the webhook that checks Workspaces listens; 0: nothing checks them but the API server. On in a "
        "cluster; outside only with --webhook-url (or --webhook-service). Default: 9443, or the port of a loopback "
        "--webhook-url.",
    ),
]
WebhookUrlOption = Annotated[
    str | None,
    typer.Option(
        envvar="KAITO_WEBHOOK_URL",
        metavar="https://HOST:PORT",
        help="How the API server reaches the webhook, where that is not by a Service. With a loopback address it "
        "listens there only.",
    ),
]
WebhookServiceOption = Annotated[
    str | None,
    typer.Option(
        envvar="KAITO_WEBHOOK_SERVICE",
        metavar="NAME[:PORT]",
        help="Service, in the manager's own namespace, by which the API server reaches the webhook. Default: "
        "kaito-webhook, port 443.",
    ),
]
WebhookCertDirOption = Annotated[
    Path | None,
    typer.Option(
        envvar="KAITO_WEBHOOK_CERT_DIR",
        help="Directory with tls.crt, tls.key and, perhaps, ca.crt, which others renew. Default: certificates of the "
        "manager's own making, in the Secret kaito-webhook.",
    ),
]

PORT = 9443
HOW = "--webhook-url https://HOST:PORT, where the API server reaches this machine"
_SERVICE = re.compile(r"(?P<name>[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)(:(?P<port>[0-9]{1,5}))?")


@dataclass(frozen=True)
class WebhookFlags:
    """The flags of the webhook."""

    webhook_port: WebhookPortOption = None
    webhook_url: WebhookUrlOption = None
    webhook_service: WebhookServiceOption = None
    webhook_cert_dir: WebhookCertDirOption = None

    def options(self, place: Place, controllers: Collection[str]) -> "WebhookOptions | None":
        """What the flags come to; None: there is no webhook.

        Args:
            place: says whether this is a pod, and which namespace is the manager's.
            controllers: which run here: the webhook belongs to the workspace controller.

        Raises:
            ValueError: they contradict each other, one is malformed, a directory cannot be read, or no namespace is
                known.
        """
        from kaito.controllers.webhooks import NAME, WebhookOptions
        from kaito.kube.object_key import ObjectKey

        asked = self._asked(controllers)
        if self.webhook_port == 0 or "workspace" not in controllers or not (asked or place.in_cluster):
            return None
        reached = self._reached(place)
        if self.webhook_cert_dir is not None:
            certificates: ObjectKey | Path = readable_directory("--webhook-cert-dir", self.webhook_cert_dir)
        else:
            what = f"the webhook's certificates (Secret {NAME})"
            certificates = ObjectKey(NAME, place.own_namespace(asked or "--webhook-port", what))
        return WebhookOptions(reached, certificates, address=self._address())

    def _asked(self, controllers: Collection[str]) -> str:
        """The flag that asks for a webhook; empty: none does.

        Raises:
            ValueError: another one speaks against it.
        """
        flags = {"--webhook-url": self.webhook_url, "--webhook-service": self.webhook_service}
        given = [flag for flag, value in flags.items() if value is not None]
        if len(given) > 1:
            raise ValueError("--webhook-url and --webhook-service are two ways to the same place; give one of them")
        if given and self.webhook_port == 0:
            raise ValueError(f"{given[0]} does nothing with --webhook-port 0, which means no webhook; leave one out")
        if given and "workspace" not in controllers:
            raise ValueError(f"{given[0]} does nothing without the workspace controller; name it in --controllers, too")
        return "".join(given)

    def _reached(self, place: Place) -> "Reach":
        from kaito.controllers.webhooks import NAME
        from kaito.runtime.webhook import AtUrl, InService

        if self.webhook_url is not None:
            try:
                return AtUrl(self.webhook_url)
            except ValueError as error:
                raise ValueError(f"--webhook-url: {error}") from error
        name, port = _service(self.webhook_service or NAME)
        namespace = place.own_namespace("--webhook-service", f"the Service {name}")
        return InService(namespace, name, port)

    def _address(self) -> str:
        """Where to listen: where the API server comes to, if it comes by loopback; else everywhere."""
        url = urlsplit(self.webhook_url or "")
        host = url.hostname or ""
        try:
            loopback = host == "localhost" or ip_address(host).is_loopback
        except ValueError:
            loopback = False
        if not loopback:
            return f":{PORT if self.webhook_port is None else self.webhook_port}"
        port = (url.port or 443) if self.webhook_port is None else self.webhook_port
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def readable_directory(flag: str, path: Path) -> Path:
    """The directory that a flag names for certificates.

    Raises:
        ValueError: it is none, or cannot be read.
    """
    if not path.is_dir():
        raise ValueError(f"{flag}: {path} is no directory; mount tls.crt and tls.key there")
    if not os.access(path, os.R_OK | os.X_OK):
        raise ValueError(f"{flag}: {path} cannot be read by this process; see its owner and mode")
    return path


def _service(text: str) -> tuple[str, int]:
    found = _SERVICE.fullmatch(text)
    port = int(found["port"] or 443) if found else 0
    if found is None or not 1 <= port <= 65535:
        raise ValueError(f"--webhook-service is {text!r}; give NAME or NAME:PORT, such as kaito-webhook:443")
    return found["name"], port
