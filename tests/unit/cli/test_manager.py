"""`kaito manager`: what it takes, and how it refuses what it cannot use."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from kaito.cli.app import app
from kaito.cli.operator_flags import parse_controllers
from kaito.cli.place import Place
from kaito.cli.webhook import WebhookFlags
from tests.operating.manager_process import ManagerProcess

RUNNER = CliRunner()


@pytest.fixture
def kubeconfig(tmp_path: Path) -> Path:
    """Of a cluster that nobody serves."""
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:9"}}],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("workspace,machine,gpu-provisioner", ("workspace", "machine", "gpu-provisioner")),
        (" machine , workspace ", ("workspace", "machine")),
        ("gpu-provisioner,", ("gpu-provisioner",)),
    ],
)
def test_controllers_are_read_from_a_list_in_whatever_order(text: str, expected: tuple[str, ...]) -> None:
    assert parse_controllers(text) == expected


@pytest.mark.parametrize("text", ["", " , ", "workspace,machines"])
def test_a_list_without_or_with_unknown_controllers_is_refused_with_the_choices(text: str) -> None:
    with pytest.raises(ValueError, match="choose from workspace, machine, gpu-provisioner"):
        parse_controllers(text)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--cloud", "kwok", "--kubeconfig", "no/such/file"], "no/such/file"),
        (["--cloud", "kwok", "--controllers", "machines"], "--controllers: machines; choose from"),
        (["--cloud", "kwok", "--catalog", "no/such/catalog"], "no/such/catalog"),
        (["--cloud", "kwok", "--log-level", "loud"], "Invalid value for '--log-level'"),
        (["--cloud", "kwok", "--log-level", "loud"], "'debug', 'info', 'warning', 'error'"),
        (["--cloud", "kwok", "--no-such-flag"], "No such option: --no-such-flag; see kaito manager --help"),
        (
            ["--cloud", "kwok", "--grace-period", "soon"],
            "--grace-period is 'soon'; give a number",
        ),
        (["--cloud", "kwok", "--grace-period", "-1"], "--grace-period is '-1'; give a number of seconds"),
        (
            ["--cloud", "kwok", "--metrics-cert-dir", "certs"],
            "--metrics-cert-dir does nothing without --metrics-",
        ),
        (
            ["--cloud", "kwok", "--metrics-secure", "--metrics-cert-dir", "no/such"],
            "--metrics-cert-dir: no/such is no directory; mount tls.crt and tls.key there",
        ),
        (
            ["--cloud", "kwok", "--metrics-secure", "--metrics-bind-address", ":8081"],
            "--metrics-secure: --metrics-bind-address and --health-probe-bind-address are both :8081",
        ),
        (
            ["--cloud", "kwok", "--webhook-url", "http://x"],
            "--webhook-url: webhook URL 'http://x': expected https://HOST",
        ),
        (["--cloud", "kwok", "--webhook-url", "https://x:99999"], "--webhook-url: webhook URL 'https://x:99999': exp"),
        (
            ["--cloud", "kwok", "--webhook-url", "https://127.0.0.1:9"],
            "--webhook-url: no namespace is known for the webhook's certificates (Secret kaito-webhook), since",
        ),
        (
            ["--cloud", "kwok", "--webhook-port", "90000"],
            "Input should be less than or equal to 65535",
        ),
        (["--cloud", "kwok", "--webhook-url", "https://x", "--webhook-port", "0"], "--webhook-url does nothing with"),
        (["--cloud", "kwok", "--webhook-url", "https://x", "--webhook-service", "y"], "two ways to the same place"),
        (["--cloud", "kwok", "--webhook-service", "y:0", "--namespace", "n"], "--webhook-service is 'y:0'; give NAME"),
        (
            ["--cloud", "kwok", "--webhook-url", "https://x", "--controllers", "machine"],
            "--webhook-url does nothing without the workspace controller",
        ),
        (
            ["--cloud", "kwok", "--webhook-url", "https://x", "--webhook-cert-dir", "no/such"],
            "--webhook-cert-dir: no/such is no directory; mount tls.crt and tls.key there",
        ),
        (
            ["--cloud", "kwok", "--catalog-config-map", "a/b/c"],
            "--catalog-config-map is 'a/b/c'; give NAME or NAMESPACE/",
        ),
        (
            ["--cloud", "kwok", "--catalog-config-map", "a"],
            "--catalog-config-map: no namespace is known for the ConfigM",
        ),
        ([], "--cloud is needed to make nodes; choose from kwok"),
        (["--cloud", "kwok", "--metrics-bind-address", "nonsense"], "--metrics-bind-address: address 'nonsense'"),
        (["--cloud", "kwok", "--health-probe-bind-address", "x:y"], "--health-probe-bind-address: address 'x:y'"),
    ],
)
def test_what_it_cannot_use_is_named_in_one_line(kubeconfig: Path, arguments: list[str], words: str) -> None:
    given = arguments if "--kubeconfig" in arguments else ["--kubeconfig", str(kubeconfig), *arguments]
    # In a process of its own, since it sets logging up.
    command = [sys.executable, "-c", "import sys; sys.argv[0] = 'kaito'; from kaito.cli.main import main; main()"]
    command += ["manager", *given]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert line.startswith(("kaito: ", "kaito manager: "))
    assert words.casefold() in line.casefold()


@pytest.mark.parametrize("flag", ["--metrics-bind-address", "--health-probe-bind-address"])
def test_a_taken_port_is_told_with_the_flag_that_chooses_another(kubeconfig: Path, flag: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        free = {"--metrics-bind-address": "127.0.0.1:0", "--health-probe-bind-address": "127.0.0.1:0", flag: address}
        given = ["--kubeconfig", str(kubeconfig), "--cloud", "kwok", *(word for pair in free.items() for word in pair)]
        command = [sys.executable, "-m", "kaito", "manager", *given]
        ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 1
    assert f"kaito: {flag}: cannot listen on {address}: Address already in use; choose another" in ended.stderr


def test_a_taken_webhook_port_is_told_with_the_flag_that_chooses_another(kubeconfig: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        given = ["--kubeconfig", str(kubeconfig), "--cloud", "kwok", "--namespace", "default"]
        given += ["--metrics-bind-address", "0", "--health-probe-bind-address", "0"]
        command = [sys.executable, "-m", "kaito", "manager", *given, "--webhook-url", f"https://127.0.0.1:{port}"]
        ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 1
    assert f"kaito: --webhook-port: cannot listen on 127.0.0.1:{port}: Address already in use; choose" in ended.stderr


@pytest.mark.parametrize(
    ("flags", "address"),
    [
        (WebhookFlags(webhook_url="https://127.0.0.1:9000"), "127.0.0.1:9000"),
        (WebhookFlags(webhook_url="https://[::1]"), "[::1]:443"),
        (WebhookFlags(webhook_url="https://127.0.0.1:9000", webhook_port=9001), "127.0.0.1:9001"),
        (WebhookFlags(webhook_url="https://kaito.example.com"), ":9443"),
        (WebhookFlags(webhook_service="kaito-webhook"), ":9443"),
    ],
)
def test_the_webhook_listens_where_the_api_server_comes_to(flags: WebhookFlags, address: str) -> None:
    options = flags.options(Place(namespace="default"), ["workspace"])
    assert options is not None
    assert options.address == address


async def test_outside_of_a_cluster_it_says_that_no_webhook_checks_and_how_to_have_one(
    kubeconfig: Path, tmp_path: Path
) -> None:
    async with ManagerProcess(kubeconfig, tmp_path / "log") as manager:
        (line,) = manager.logged("no webhook checks Workspaces")
    assert "--webhook-url https://HOST:PORT" in line["turn_on"]


def test_help_names_every_flag_and_its_environment_variable() -> None:
    said = RUNNER.invoke(app, ["manager", "--help"], env={"COLUMNS": "200"})
    assert said.exit_code == 0
    for flag in (
        "kubeconfig",
        "controllers",
        "cloud",
        "node-provisioner",
        "runtime",
        "catalog",
        "catalog-config-map",
        "metrics-bind-address",
        "webhook-port",
        "webhook-url",
        "webhook-service",
        "webhook-cert-dir",
        "namespace",
    ):
        assert f"--{flag}" in said.output
        assert f"KAITO_{flag.replace('-', '_').upper()}" in said.output


async def test_it_serves_probes_while_no_api_server_answers_and_stops_when_told(
    kubeconfig: Path, tmp_path: Path
) -> None:
    manager = ManagerProcess(kubeconfig, tmp_path / "log")
    async with manager:
        assert await manager.get("/healthz") == (200, "ok")
        status, text = await manager.get("/readyz")
        assert status == 503
        assert "[-]informer/Workspace.kaito.sh failed: watch broken: " in text
        assert "rest_client_requests_total" in (await manager.get("/metrics"))[1]
        assert await manager.stop() == 0
    assert manager.logged("manager stopped")


async def test_logs_are_json_lines(kubeconfig: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    async with ManagerProcess(kubeconfig, log):
        pass
    for line in log.read_text().splitlines():
        assert {"ts", "level", "logger", "msg"} <= json.loads(line).keys()


def test_logs_are_for_people_when_asked(kubeconfig: Path) -> None:
    arguments = ["--kubeconfig", str(kubeconfig), "--cloud", "kwok", "--log-format", "console"]
    addresses = ["--metrics-bind-address", "0", "--health-probe-bind-address", "0"]
    command = [sys.executable, "-m", "kaito", "manager", *arguments, *addresses]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        first = process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
    assert process.returncode == 0
    assert " operator starts " in first
