"""Config: which API server, and as whom; from a kubeconfig or from inside a cluster.

The only module that imports kubernetes-asyncio, and only when a kubeconfig is read: importing any part of that package
costs 63 MiB and more than half a second, which a manager in a cluster never pays.
"""

from __future__ import annotations

import os
import ssl
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kaito.client.credentials import Credentials, ExecCredentials, StaticCredentials, TokenFileCredentials
from kaito.client.errors import KubeError

if TYPE_CHECKING:
    from kubernetes_asyncio.client.configuration import Configuration

SERVICE_ACCOUNT_DIR = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class ConfigError(KubeError):
    """No usable configuration; the text says what was looked for and what to do."""


@dataclass(frozen=True, slots=True)
class Config:
    """Which API server, and as whom.

    Attributes:
        host: base URL, such as ``https://10.0.0.1:443``, without a slash at the end.
        credentials: what proves who asks; none for client certificates.
        ssl: TLS context with the server's CA and, where used, the client certificate; None for plain http.
        namespace: the namespace of the kubeconfig context or of the pod; ``default`` otherwise.
        proxy: URL of an HTTP proxy, or None.
        server_hostname: name to expect in the server's certificate instead of the host's, or None.
    """

    host: str
    credentials: Credentials = field(default_factory=StaticCredentials)
    ssl: ssl.SSLContext | None = field(default=None, repr=False)
    namespace: str = "default"
    proxy: str | None = field(default=None, repr=False)
    server_hostname: str | None = None


def load_config(kubeconfig: str | os.PathLike[str] | None = None, *, context: str | None = None) -> Config:
    """Finds the configuration: the given file, else $KUBECONFIG, else in-cluster, else ~/.kube/config.

    The order is controller-runtime's. Blocking (reads files), meant for program start.

    Args:
        kubeconfig: path of a kubeconfig; several are joined by the system's path separator, the first wins per entry.
        context: name of a context in it; default: its current-context.

    Raises:
        ConfigError: nothing found, or what was found is incomplete.
    """
    if kubeconfig is not None:
        return from_kubeconfig(os.fspath(kubeconfig), context=context)
    if os.environ.get("KUBECONFIG"):
        return from_kubeconfig(os.environ["KUBECONFIG"], context=context)
    if os.environ.get("KUBERNETES_SERVICE_HOST") and (SERVICE_ACCOUNT_DIR / "token").exists():
        return in_cluster()
    home = Path.home() / ".kube" / "config"
    if home.exists():
        return from_kubeconfig(str(home), context=context)
    raise ConfigError(
        "no Kubernetes configuration: no --kubeconfig, no $KUBECONFIG, no service account of a pod, no ~/.kube/config. "
        "Give --kubeconfig FILE; `kaito devcluster up` makes a cluster and prints the path of its kubeconfig"
    )


def in_cluster(directory: Path = SERVICE_ACCOUNT_DIR) -> Config:
    """Reads the service account that Kubernetes mounts into a pod.

    Raises:
        ConfigError: not in a pod, or without an automounted token.
    """
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    if not host or not (directory / "token").exists():
        raise ConfigError(
            f"not in a cluster: $KUBERNETES_SERVICE_HOST or {directory}/token is missing "
            f"(in a pod, check automountServiceAccountToken)"
        )
    namespace = directory / "namespace"
    return Config(
        host=f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}",
        credentials=TokenFileCredentials(directory / "token"),
        ssl=ssl.create_default_context(cafile=str(directory / "ca.crt")),
        namespace=namespace.read_text().strip() if namespace.exists() else "default",
    )


def from_kubeconfig(paths: str, *, context: str | None = None) -> Config:
    """Reads a kubeconfig, or several joined by the path separator.

    Raises:
        ConfigError: a file, context, cluster or user is missing or unreadable.
    """
    # Of its loader only the synchronous parts are used: refreshing credentials is ours to do (see credentials.py).
    from kubernetes_asyncio.client.configuration import Configuration
    from kubernetes_asyncio.config import ConfigException
    from kubernetes_asyncio.config.kube_config import KubeConfigLoader, KubeConfigMerger

    missing = [path for path in paths.split(os.pathsep) if path and not Path(path).expanduser().exists()]
    if missing:
        raise ConfigError(f"kubeconfig {', '.join(missing)}: no such file")
    try:
        merged = KubeConfigMerger(paths).config
        assert merged is not None
        context_name = context or merged.value.get("current-context")
        if not context_name:
            raise ConfigError(f"kubeconfig {paths}: no current-context; name one with --context")
        entry = _named(merged.value, "context", context_name)
        user = _named(merged.value, "user", entry["user"]) if entry.get("user") else {}
        credentials = _credentials(user, Path(merged.path or ".").parent)
        with tempfile.TemporaryDirectory(prefix="kaito-kubeconfig-") as scratch:
            loader = KubeConfigLoader(
                merged, active_context=context_name, config_base_path=None, temp_file_path=scratch
            )
            loaded = Configuration()
            loader._load_cluster_info()
            loader._set_config(loaded)
            return _from_loaded(loaded, credentials, str(entry.get("namespace") or "default"))
    except ConfigException as error:
        raise ConfigError(f"kubeconfig {paths}: {error}") from error
    except OSError as error:
        raise ConfigError(f"kubeconfig {paths}: {error.filename or ''} {error.strerror}") from error


def _named(merged: dict[str, Any], what: str, name: str) -> dict[str, Any]:
    for item in merged[f"{what}s"]:
        if item["name"] == name:
            node = item[what]
            return dict(getattr(node, "value", node) or {})
    known = ", ".join(sorted(str(item["name"]) for item in merged[f"{what}s"])) or "none"
    raise ConfigError(f"kubeconfig: no {what} {name!r}; there is: {known}")


def _credentials(user: dict[str, Any], base: Path) -> Credentials:
    if user.get("tokenFile"):
        return TokenFileCredentials(base / user["tokenFile"])
    if user.get("token"):
        return StaticCredentials({"Authorization": f"Bearer {user['token']}"})
    if "exec" in user:
        plugin = user["exec"]
        return ExecCredentials(
            plugin["command"],
            plugin.get("args") or (),
            {item["name"]: item["value"] for item in plugin.get("env") or ()},
            plugin.get("apiVersion", "client.authentication.k8s.io/v1"),
            plugin.get("installHint", ""),
        )
    if "auth-provider" in user:
        name = user["auth-provider"].get("name")
        raise ConfigError(f"users[].user.auth-provider {name!r} was removed from Kubernetes: use an exec plugin")
    if "username" in user:
        import base64

        pair = f"{user['username']}:{user.get('password', '')}".encode()
        return StaticCredentials({"Authorization": "Basic " + base64.b64encode(pair).decode()})
    return StaticCredentials()


def _from_loaded(loaded: Configuration, credentials: Credentials, namespace: str) -> Config:
    context: ssl.SSLContext | None = None
    host = str(loaded.host).rstrip("/")
    if host.startswith("https"):
        context = ssl.create_default_context(cafile=loaded.ssl_ca_cert)
        if loaded.cert_file:
            context.load_cert_chain(loaded.cert_file, loaded.key_file)
        if not loaded.verify_ssl:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
    return Config(
        host=host,
        credentials=credentials,
        ssl=context,
        namespace=namespace,
        proxy=loaded.proxy,
        server_hostname=loaded.tls_server_name,
    )
