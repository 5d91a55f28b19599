"""How the API server reaches a webhook server: through a Service, or by a URL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit


class Reach(Protocol):
    """How the API server gets here."""

    @property
    def names(self) -> Sequence[str]:
        """Host names and addresses that the certificate must be for; the first is what the API server asks for."""
        ...

    def client_config(self, path: str) -> dict[str, object]:
        """The ``clientConfig`` of a webhook at a path, without its caBundle."""
        ...


@dataclass(frozen=True)
class InService:
    """Through a Service, as in a cluster.

    Attributes:
        namespace: the Service's.
        name: the Service's.
        port: the Service's, not the container's.
    """

    namespace: str
    name: str
    port: int = 443

    @property
    def names(self) -> Sequence[str]:
        """See `Reach.names`."""
        host = f"{self.name}.{self.namespace}.svc"
        return (host, f"{host}.cluster.local", f"{self.name}.{self.namespace}")

    def client_config(self, path: str) -> dict[str, object]:
        """See `Reach.client_config`."""
        return {"service": {"namespace": self.namespace, "name": self.name, "path": path, "port": self.port}}


@dataclass(frozen=True)
class AtUrl:
    """By a URL, where the manager runs outside of the cluster.

    Attributes:
        url: such as ``https://10.1.2.3:9443``, without a path or with the beginning of one.

    Raises:
        ValueError: it is no https URL with a host.
    """

    url: str

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.url)
            good = parts.scheme == "https" and parts.hostname and parts.port != 0
        except ValueError:  # brackets that do not match, or a port that is none
            good = False
        if not good or parts.query or parts.fragment or parts.username:
            raise ValueError(f"webhook URL {self.url!r}: expected https://HOST[:PORT][/PATH]")

    @property
    def names(self) -> Sequence[str]:
        """See `Reach.names`."""
        return (urlsplit(self.url).hostname or "",)

    def client_config(self, path: str) -> dict[str, object]:
        """See `Reach.client_config`."""
        return {"url": self.url.rstrip("/") + path}
