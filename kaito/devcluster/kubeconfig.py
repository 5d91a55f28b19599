"""Kubeconfig files with everything in them: no file beside them has to exist."""

from __future__ import annotations

import base64
from pathlib import Path

import yaml

from kaito.devcluster.certificates import KeyPair, write_private


def write_kubeconfig(path: Path, *, url: str, ca_pem: bytes, user: str, identity: KeyPair) -> Path:
    """Writes a kubeconfig for one user of one cluster, readable by its owner only.

    Args:
        path: The file.
        url: Where the API server answers.
        ca_pem: What its certificate is checked with.
        user: The name of the user's entry.
        identity: The user's client certificate.

    Returns:
        The path.
    """
    context = f"{user}@kaito-devcluster"
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": "kaito-devcluster", "cluster": {"server": url, "certificate-authority-data": _base64(ca_pem)}}
        ],
        "users": [
            {
                "name": user,
                "user": {
                    "client-certificate-data": _base64(identity.certificate_pem),
                    "client-key-data": _base64(identity.key_pem),
                },
            }
        ],
        "contexts": [
            {"name": context, "context": {"cluster": "kaito-devcluster", "user": user, "namespace": "default"}}
        ],
        "current-context": context,
    }
    write_private(path, yaml.safe_dump(content, sort_keys=False).encode())
    return path


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
