"""Egress: the files by which an API server reaches the process nodes of this machine, and they know it is the one."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kaito.devcluster.certificates import CertificateAuthority

KUBELET_CLIENT: Final = "kube-apiserver-kubelet-client"
"""Who the API server is when it speaks to kubelets."""
SOCKET_PATH_LIMIT: Final = 100
"""Unix sockets have short paths: 103 bytes on macOS, 107 on Linux."""


@dataclass(frozen=True, slots=True)
class Egress:
    """A folder that the API server and the agent of the process nodes share.

    Attributes:
        folder: Where the files are; its path has to be short, since a socket is in it.
    """

    folder: Path

    @property
    def socket(self) -> Path:
        """Where the agent's proxy listens."""
        return self.folder / "proxy.sock"

    @property
    def certificate(self) -> Path:
        """What the agent's kubelet API proves itself with."""
        return self.folder / "kubelet.crt"

    @property
    def key(self) -> Path:
        """Its key."""
        return self.folder / "kubelet.key"

    @property
    def authority(self) -> Path:
        """What both sides check certificates with."""
        return self.folder / "ca.crt"

    @property
    def fits(self) -> bool:
        """Whether a socket can be in this folder."""
        return len(str(self.socket).encode()) <= SOCKET_PATH_LIMIT

    @property
    def api_server_flags(self) -> list[str]:
        """What makes an API server use the files."""
        return [
            f"--egress-selector-config-file={self._config}",
            f"--kubelet-certificate-authority={self.authority}",
            f"--kubelet-client-certificate={self._client('crt')}",
            f"--kubelet-client-key={self._client('key')}",
            # Not by host name, which comes first otherwise: it would be this machine's.
            "--kubelet-preferred-address-types=InternalIP",
        ]

    def write(self, authority: CertificateAuthority, node_address: str) -> None:
        """Makes the folder and all files but the socket.

        Args:
            authority: Issues both sides' certificates.
            node_address: The address of the nodes, as the cluster knows it.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.authority.write_bytes(authority.certificate_pem)
        authority.issue_server([node_address]).write(self.certificate, self.key)
        authority.issue_client(KUBELET_CLIENT).write(self._client("crt"), self._client("key"))
        # "cluster" is all that is in the cluster: pods, Services, kubelets. Webhooks by URL have another name.
        connection = {"proxyProtocol": "HTTPConnect", "transport": {"uds": {"udsName": str(self.socket)}}}
        config = {
            "apiVersion": "apiserver.k8s.io/v1beta1",
            "kind": "EgressSelectorConfiguration",
            "egressSelections": [{"name": "cluster", "connection": connection}],
        }
        self._config.write_text(json.dumps(config))

    @property
    def _config(self) -> Path:
        return self.folder / "egress.json"

    def _client(self, extension: str) -> Path:
        return self.folder / f"kubelet-client.{extension}"
