"""The command line that a program gets from `run_program`: what it prints, and how it says what is wrong."""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Unpack

import pytest

from kaito.client import Config
from kaito.kube import Deployment
from kaito.runtime import DONE, Controller, Manager, ManagerOptions, Result, run_program
from kaito.runtime.program import MakeManager
from kaito.runtime.servers import Address, listen
from tests.unit.runtime.widgets import Widget

KUBECONFIG = """\
apiVersion: v1
kind: Config
clusters: [{name: a, cluster: {server: "http://127.0.0.1:1"}}]
users: [{name: a, user: {}}]
contexts: [{name: a, context: {cluster: a, user: a}}]
current-context: a
"""


class WidgetReconciler:
    async def reconcile(self, _: Widget) -> Result:
        return DONE


def widgets(config: Config, **options: Unpack[ManagerOptions]) -> Manager:
    manager = Manager("widgets", config, **options)
    manager.add(Controller(Widget, WidgetReconciler(), owns=[Deployment]))
    return manager


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, Any]]:
    run_program(widgets, kinds=[Widget], arguments=arguments)
    items = json.loads(capsys.readouterr().out)["items"]
    assert isinstance(items, list)
    return items


def refused(capsys: pytest.CaptureFixture[str], *arguments: str, make: MakeManager = widgets) -> str:
    """The one line on stderr with which it ended."""
    with pytest.raises(SystemExit) as ended:
        run_program(make, kinds=[Widget], arguments=arguments)
    assert ended.value.code == 1
    said = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("{")]
    assert len(said) == 1, said
    return said[0]


@pytest.fixture(autouse=True)
def _log_as_before() -> Iterator[None]:
    """A program sets the log up; here it would go on for all tests that come after."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def kubeconfig(tmp_path: Path) -> str:
    path = tmp_path / "kubeconfig"
    path.write_text(KUBECONFIG)
    return str(path)


def test_it_prints_the_definitions_of_its_kinds(capsys: pytest.CaptureFixture[str]) -> None:
    names = [item["metadata"]["name"] for item in printed(capsys, "crds")]
    assert names == ["widgets.example.com"]


def test_it_prints_the_rights_that_follow_from_its_declarations(capsys: pytest.CaptureFixture[str]) -> None:
    made = {item["kind"]: item for item in printed(capsys, "rbac", "--service-account", "shop/robot")}
    assert made["ServiceAccount"]["metadata"] == {"name": "robot", "namespace": "shop"}
    cluster = {
        (resource, verb)
        for rule in made["ClusterRole"]["rules"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert {("widgets", "watch"), ("deployments", "delete"), ("events", "create")} <= cluster
    assert ("configmaps", "get") not in cluster
    assert made["Role"]["metadata"]["namespace"] == "shop"
    assert "leases" in [resource for rule in made["Role"]["rules"] for resource in rule["resources"]]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--blah",), "unrecognized arguments: --blah; see --help"),
        (("foo",), "invalid choice: 'foo' (choose from 'run', 'crds', 'rbac'); see --help"),
        (("run", "--log-level", "loud"), "argument --log-level: invalid choice: 'loud'"),
        (("rbac", "--service-account", "x"), "--service-account is 'x'; give NAMESPACE/NAME"),
        (("--kubeconfig", "/nowhere/config"), "kubeconfig /nowhere/config: no such file"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_1(
    arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in refused(capsys, *arguments)


def test_an_address_that_is_none_is_named(kubeconfig: str, capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys, "--kubeconfig", kubeconfig, "--metrics-bind-address", "localhost")
    assert "--metrics-bind-address: address 'localhost': expected HOST:PORT" in said


def test_a_port_in_use_that_a_service_wanted_is_one_line_too(
    kubeconfig: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = Address("127.0.0.1", taken.getsockname()[1])

        class Listening:
            async def run(self) -> None:
                listen(address, ("webhook",))

        def make(config: Config, **options: Unpack[ManagerOptions]) -> Manager:
            manager = Manager("widgets", config, **options)
            manager.add(Listening())
            return manager

        nowhere = ("--metrics-bind-address", "0", "--health-probe-bind-address", "0")
        said = refused(capsys, "--kubeconfig", kubeconfig, *nowhere, make=make)
    assert f": webhook server: cannot listen on {address}: Address already in use; choose another address" in said


def test_leader_election_outside_of_a_cluster_asks_for_a_namespace(
    kubeconfig: str, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused(capsys, "--kubeconfig", kubeconfig, "--leader-elect")
    assert "--leader-election-namespace" in said


def test_a_port_in_use_is_named_with_what_wanted_it(kubeconfig: str, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        said = refused(
            capsys,
            *("--kubeconfig", kubeconfig, "--health-probe-bind-address", "0", "--log-level", "error"),
            *("--metrics-bind-address", address),
        )
    assert f"metrics server: cannot listen on {address}: Address already in use" in said
    assert "choose another address by --metrics-bind-address" in said
    assert "Errno" not in said
