"""Config: kubeconfigs as people write them, pods, the order in which they are looked for, and clear refusals."""

from __future__ import annotations

import base64
import os
import re
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from kaito.client import ConfigError, from_kubeconfig, in_cluster, load_config
from kaito.client import config as config_module
from kaito.client.credentials import ExecCredentials
from kaito.devcluster.certificates import CertificateAuthority

Json = dict[str, Any]


@pytest.fixture(scope="module")
def authority() -> CertificateAuthority:
    return CertificateAuthority("tests")


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No configuration of this machine is seen."""
    for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def kubeconfig(
    path: Path, *, user: Json | None = None, cluster: Json | None = None, context: Json | None = None, name: str = "c"
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": name,
        "contexts": [{"name": name, "context": {"cluster": name, "user": name, **(context or {})}}],
        "clusters": [{"name": name, "cluster": {"server": "http://h:1/", **(cluster or {})}}],
        "users": [{"name": name, "user": user or {}}],
    }
    path.write_text(yaml.safe_dump(document))
    return path


async def authorization(config: config_module.Config) -> str | None:
    return (await config.credentials.headers()).get("Authorization")


async def test_a_token(tmp_path: Path) -> None:
    config = from_kubeconfig(str(kubeconfig(tmp_path / "k", user={"token": "t"}, context={"namespace": "mine"})))
    assert (config.host, config.ssl, config.namespace) == ("http://h:1", None, "mine")
    assert await authorization(config) == "Bearer t"


async def test_a_token_file_relative_to_the_kubeconfig(tmp_path: Path) -> None:
    path = kubeconfig(tmp_path / "deep" / "k", user={"tokenFile": "../token"})
    (tmp_path / "token").write_text("from file\n")
    assert await authorization(from_kubeconfig(str(path))) == "Bearer from file"


async def test_a_name_and_a_password(tmp_path: Path) -> None:
    config = from_kubeconfig(str(kubeconfig(tmp_path / "k", user={"username": "u", "password": "p"})))
    assert await authorization(config) == "Basic " + base64.b64encode(b"u:p").decode()


async def test_no_user_at_all(tmp_path: Path) -> None:
    path = tmp_path / "k"
    path.write_text(
        "current-context: c\n"
        "contexts: [{name: c, context: {cluster: c}}]\n"
        "clusters: [{name: c, cluster: {server: 'http://h:1'}}]\n"
    )
    assert await authorization(from_kubeconfig(str(path))) is None


async def test_an_exec_plugin_with_arguments_environment_and_a_path_relative_to_the_kubeconfig(tmp_path: Path) -> None:
    plugin = tmp_path / "bin" / "plugin"
    plugin.parent.mkdir()
    plugin.write_text('#!/bin/sh\necho "{\\"status\\": {\\"token\\": \\"$1-$WHO\\"}}"\n')
    plugin.chmod(0o755)
    env = [{"name": "WHO", "value": "me"}]
    user = {"exec": {"command": "./bin/plugin", "args": ["hello"], "env": env, "apiVersion": "v1"}}
    assert await authorization(from_kubeconfig(str(kubeconfig(tmp_path / "k", user=user)))) == "Bearer hello-me"
    bare = from_kubeconfig(str(kubeconfig(tmp_path / "k", user={"exec": {"command": "x", "args": None, "env": None}})))
    assert isinstance(bare.credentials, ExecCredentials)
    assert repr(bare.credentials) == "ExecCredentials('x')"


def tls(authority: CertificateAuthority) -> tuple[Json, Json]:
    pair = authority.issue_client("me")
    cluster = {"server": "https://h:1", "certificate-authority-data": encoded(authority.certificate_pem)}
    return cluster, {"client-certificate-data": encoded(pair.certificate_pem), "client-key-data": encoded(pair.key_pem)}


def test_embedded_client_certificates_can_be_loaded_any_number_of_times_and_leave_no_file(
    tmp_path: Path, authority: CertificateAuthority, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    cluster, user = tls(authority)
    path = kubeconfig(tmp_path / "k", cluster=cluster, user=user)
    for _ in range(2):
        context = from_kubeconfig(str(path)).ssl
        assert context is not None
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.check_hostname
        assert len(context.get_ca_certs()) == 1
    assert list(scratch.iterdir()) == []


def test_certificates_in_files_relative_to_the_kubeconfig(tmp_path: Path, authority: CertificateAuthority) -> None:
    authority.issue_client("me").write(tmp_path / "crt", tmp_path / "key")
    (tmp_path / "ca").write_bytes(authority.certificate_pem)
    cluster = {"server": "https://h:1", "certificate-authority": "ca", "tls-server-name": "other"}
    path = kubeconfig(tmp_path / "k", cluster=cluster, user={"client-certificate": "crt", "client-key": "key"})
    config = from_kubeconfig(str(path))
    assert config.server_hostname == "other"
    assert config.ssl is not None
    assert len(config.ssl.get_ca_certs()) == 1


def test_a_server_that_is_not_to_be_verified(tmp_path: Path) -> None:
    path = kubeconfig(tmp_path / "k", cluster={"server": "https://h:1", "insecure-skip-tls-verify": True})
    context = from_kubeconfig(str(path)).ssl
    assert context is not None
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_NONE, False)


async def test_several_files_are_joined_and_the_first_wins(tmp_path: Path) -> None:
    one = kubeconfig(tmp_path / "one" / "k", user={"tokenFile": "token"}, name="a")
    other = kubeconfig(tmp_path / "other" / "k", user={"tokenFile": "token"}, name="b")
    for path in (one, other):
        (path.parent / "token").write_text(path.parent.name)
    both = os.pathsep.join([str(one), str(other)])
    assert await authorization(from_kubeconfig(both, context="a")) == "Bearer one"
    assert await authorization(from_kubeconfig(both, context="b")) == "Bearer other"


def test_a_context_can_be_named(tmp_path: Path) -> None:
    path = kubeconfig(tmp_path / "k")
    with pytest.raises(ConfigError, match="no context 'x'; there is: c"):
        load_config(path, context="x")
    assert load_config(path, context="c").host == "http://h:1"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "empty"),
        ("[]", "kubeconfig"),
        ("{", "kubeconfig"),
        ("just text", "kubeconfig"),
        ("clusters: []", "no current-context; name one with --context"),
        ("current-context: c", "no context 'c'; there is: none"),
        ("current-context: c\ncontexts: [{name: c, context: {cluster: x}}]", "no cluster 'x'; there is: none"),
        ("current-context: c\ncontexts: [{name: c, context: {}}]", "cluster"),
        (
            "current-context: c\ncontexts: [{name: c, context: {cluster: c, user: me}}]\n"
            "clusters: [{name: c, cluster: {server: 'http://h'}}]",
            "no user 'me'; there is: none",
        ),
        (
            "current-context: c\ncontexts: [{name: c, context: {cluster: c}}]\nclusters: [{name: c, cluster: {}}]",
            "server",
        ),
        (
            "current-context: c\ncontexts: [{name: c, context: {cluster: c}}]\n"
            "clusters: [{name: c, cluster: {server: 'https://h', certificate-authority: /no/such/ca}}]",
            "/no/such/ca",
        ),
        (
            "current-context: c\ncontexts: [{name: c, context: {cluster: c}}]\n"
            "clusters: [{name: c, cluster: {server: 'https://h', certificate-authority-data: '%%%'}}]",
            "base64",
        ),
        (
            "current-context: c\ncontexts: [{name: c, context: {cluster: c, user: u}}]\n"
            "clusters: [{name: c, cluster: {server: 'http://h'}}]\n"
            "users: [{name: u, user: {auth-provider: {name: gcp}}}]",
            "'gcp' was removed from Kubernetes: use an exec plugin",
        ),
    ],
)
def test_a_kubeconfig_that_does_not_do_is_refused_with_its_name_and_the_reason(
    tmp_path: Path, text: str, why: str
) -> None:
    path = tmp_path / "broken"
    path.write_text(text)
    with pytest.raises(ConfigError, match=why):
        from_kubeconfig(str(path))


def test_certificates_that_are_none_are_refused_by_name(tmp_path: Path) -> None:
    cluster = {"server": "https://h", "certificate-authority-data": encoded(b"no certificate")}
    where = f"kubeconfig {tmp_path / 'k'}: the cluster's certificate-authority"
    with pytest.raises(ConfigError, match=re.escape(where)):
        from_kubeconfig(str(kubeconfig(tmp_path / "k", cluster=cluster)))


def test_a_client_key_that_is_none_is_refused_by_name(tmp_path: Path, authority: CertificateAuthority) -> None:
    cluster, user = tls(authority)
    where = f"kubeconfig {tmp_path / 'k'}: the user's client-certificate(-data) and client-key(-data)"
    with pytest.raises(ConfigError, match=re.escape(where)):
        from_kubeconfig(
            str(kubeconfig(tmp_path / "k", cluster=cluster, user={**user, "client-key-data": encoded(b"no key")}))
        )


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing-here: no such file"):
        load_config(tmp_path / "nothing-here")


def test_the_order_is_file_then_environment_then_pod_then_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, authority: CertificateAuthority
) -> None:
    with pytest.raises(ConfigError, match="Give --kubeconfig FILE"):
        load_config()
    kubeconfig(tmp_path / "home" / ".kube" / "config", cluster={"server": "http://home"})
    assert load_config().host == "http://home"
    monkeypatch.setattr(config_module, "SERVICE_ACCOUNT_DIR", tmp_path / "pod")
    pod(tmp_path / "pod", authority, monkeypatch)
    assert load_config().host == "https://10.0.0.1:443"
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig(tmp_path / "e", cluster={"server": "http://environment"})))
    assert load_config().host == "http://environment"
    assert load_config(kubeconfig(tmp_path / "f", cluster={"server": "http://file"})).host == "http://file"


def pod(folder: Path, authority: CertificateAuthority, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.mkdir()
    (folder / "token").write_text("pod token")
    (folder / "ca.crt").write_bytes(authority.certificate_pem)
    (folder / "namespace").write_text("mine\n")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")


async def test_in_a_pod_the_mounted_service_account_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, authority: CertificateAuthority
) -> None:
    with pytest.raises(ConfigError, match="automountServiceAccountToken"):
        in_cluster(tmp_path / "pod")
    pod(tmp_path / "pod", authority, monkeypatch)
    config = in_cluster(tmp_path / "pod")
    assert (config.host, config.namespace) == ("https://10.0.0.1:443", "mine")
    assert config.ssl is not None
    assert await authorization(config) == "Bearer pod token"
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "6443")
    assert in_cluster(tmp_path / "pod").host == "https://[fd00::1]:6443"


def test_a_program_in_a_cluster_never_imports_the_kubeconfig_library() -> None:
    code = "import sys, kaito.client, kaito.runtime; print('kubernetes_asyncio' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "False"


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()
