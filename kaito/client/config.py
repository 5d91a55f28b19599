"""Config: which API server, and as whom; from a kubeconfig or from inside a cluster.

The only module that imports kubernetes-asyncio, and only when a kubeconfig is read: importing any part of that package
costs 63 MiB and more than half a second, which a manager in a cluster never pays.
"""

from __future__ import annotations

import base64
import os
import ssl
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from kaito.client.credentials import Credentials, ExecCredentials, StaticCredentials, TokenFileCredentials
from kaito.client.errors import KubeError

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
    if is_in_cluster(kubeconfig):
        return in_cluster(SERVICE_ACCOUNT_DIR)
    home = Path.home() / ".kube" / "config"
    if home.exists():
        return from_kubeconfig(str(home), context=context)
    raise ConfigError(
        "no Kubernetes configuration: no --kubeconfig, no $KUBECONFIG, no service account of a pod, no ~/.kube/config. "
        "Give --kubeconfig FILE; `kaito devcluster up` makes a cluster and prints the path of its kubeconfig"
    )


def is_in_cluster(kubeconfig: str | os.PathLike[str] | None = None) -> bool:
    """Whether `load_config`, given this, takes the service account of a pod."""
    if kubeconfig is not None or os.environ.get("KUBECONFIG"):
        return False
    return bool(os.environ.get("KUBERNETES_SERVICE_HOST")) and (SERVICE_ACCOUNT_DIR / "token").exists()


def pod_namespace(file: Path = SERVICE_ACCOUNT_DIR / "namespace") -> str | None:
    """The namespace of the pod that this is; None: it is none, as far as Kubernetes mounted nothing that says so."""
    try:
        return file.read_text(encoding="utf-8").strip() or None
    except OSError:
        return None


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
    # Of that package only the merging of files is used: it knows which file, and so which folder, an entry came from.
    from kubernetes_asyncio.config import ConfigException
    from kubernetes_asyncio.config.kube_config import KubeConfigMerger

    missing = [path for path in paths.split(os.pathsep) if path and not Path(path).expanduser().exists()]
    if missing:
        raise ConfigError(f"kubeconfig {', '.join(missing)}: no such file")
    try:
        merged = KubeConfigMerger(paths).config
        if merged is None or not isinstance(merged.value, dict):
            raise ConfigError(f"kubeconfig {paths}: is empty")
        name = context or merged.value.get("current-context")
        if not name:
            raise ConfigError(f"kubeconfig {paths}: no current-context; name one with --context")
        chosen = _named(merged.value, "context", name)
        cluster = _named(merged.value, "cluster", chosen.value["cluster"])
        user = _named(merged.value, "user", chosen.value["user"]) if chosen.value.get("user") else _Entry({}, Path())
        return Config(
            host=str(cluster.value["server"]).rstrip("/"),
            credentials=_credentials(user),
            ssl=_ssl_context(cluster, user) if str(cluster.value["server"]).startswith("https") else None,
            namespace=str(chosen.value.get("namespace") or "default"),
            proxy=cluster.value.get("proxy-url"),
            server_hostname=cluster.value.get("tls-server-name"),
        )
    except KeyError as error:
        raise ConfigError(f"kubeconfig {paths}: an entry lacks {error}") from error
    except (AttributeError, TypeError) as error:
        raise ConfigError(f"kubeconfig {paths}: empty, or not of a kubeconfig's shape ({error})") from error
    except (ConfigException, ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"kubeconfig {paths}: {error}") from error
    except OSError as error:
        raise ConfigError(
            f"kubeconfig {paths}: {error.filename or 'certificates'}: {error.strerror or error}"
        ) from error


class _Entry(NamedTuple):
    """An entry of a kubeconfig, and the folder that its relative paths start from."""

    value: dict[str, Any]
    base: Path

    def data(self, name: str) -> bytes | None:
        """What ``NAME-data`` holds, else what the file that ``NAME`` names does."""
        if self.value.get(f"{name}-data"):
            # Strictly, or garbage decodes to nothing, and no authority means that all the system's are trusted.
            return base64.b64decode("".join(self.value[f"{name}-data"].split()), validate=True)
        return (self.base / self.value[name]).read_bytes() if self.value.get(name) else None


def _named(merged: dict[str, Any], what: str, name: str) -> _Entry:
    items = merged.get(f"{what}s") or []
    for item in items:
        if item["name"] == name:
            base = Path(item.path).absolute().parent if getattr(item, "path", None) else Path()
            node = item[what]
            return _Entry(dict(getattr(node, "value", node) or {}), base)
    known = ", ".join(sorted(str(item["name"]) for item in items)) or "none"
    raise ConfigError(f"kubeconfig: no {what} {name!r}; there is: {known}")


def _credentials(user: _Entry) -> Credentials:
    value = user.value
    if value.get("tokenFile"):
        return TokenFileCredentials(user.base / value["tokenFile"])
    if value.get("token"):
        return StaticCredentials({"Authorization": f"Bearer {value['token']}"})
    if "exec" in value:
        plugin = value["exec"]
        command = str(plugin["command"])
        return ExecCredentials(
            # As client-go: a bare name is looked for on PATH, a relative path starts where the kubeconfig is.
            str(user.base / command) if os.sep in command else command,
            plugin.get("args") or (),
            {item["name"]: item["value"] for item in plugin.get("env") or ()},
            plugin.get("apiVersion", "client.authentication.k8s.io/v1"),
            plugin.get("installHint", ""),
        )
    if "auth-provider" in value:
        name = value["auth-provider"].get("name")
        raise ConfigError(f"users[].user.auth-provider {name!r} was removed from Kubernetes: use an exec plugin")
    if "username" in value:
        pair = f"{value['username']}:{value.get('password', '')}".encode()
        return StaticCredentials({"Authorization": "Basic " + base64.b64encode(pair).decode()})
    return StaticCredentials()


def _ssl_context(cluster: _Entry, user: _Entry) -> ssl.SSLContext:
    authority = cluster.data("certificate-authority")
    try:
        context = ssl.create_default_context(cadata=authority.decode() if authority else None)
    except (ssl.SSLError, UnicodeDecodeError) as error:
        raise ValueError(f"the cluster's certificate-authority(-data) is no PEM certificate ({error})") from error
    if cluster.value.get("insecure-skip-tls-verify"):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    certificate, key = user.data("client-certificate"), user.data("client-key")
    if certificate and key:
        # OpenSSL reads them from files only; these live as long as it takes to read them.
        with tempfile.TemporaryDirectory(prefix="kaito-kubeconfig-") as scratch:
            files = [Path(scratch) / "certificate", Path(scratch) / "key"]
            for path, content in zip(files, (certificate, key), strict=True):
                path.write_bytes(content)
            try:
                context.load_cert_chain(str(files[0]), str(files[1]))
            except ssl.SSLError as error:
                raise ValueError(
                    f"the user's client-certificate(-data) and client-key(-data) are no PEM certificate and its key "
                    f"({error})"
                ) from error
    return context
