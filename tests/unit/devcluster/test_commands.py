"""Command lines: what depends on what was asked for."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from kaito.devcluster.commands import CommandLines, Ports
from kaito.devcluster.layout import Layout
from kaito.devcluster.programs import PROGRAM_NAMES, ProgramName

STAGES = Path(__file__).parents[3] / "kaito" / "devcluster" / "stages"


def lines(**changes: object) -> CommandLines:
    arguments: dict[str, object] = {
        "layout": Layout(Path("/folder")),
        "ports": Ports(etcd=20001, api_server=20002, kwok=20003),
        "executables": {name: Path("/bin") / name for name in PROGRAM_NAMES},
        "service_accounts": True,
    }
    return CommandLines(**{**arguments, **changes})  # type: ignore[arg-type]  # whatever a test changes


def test_every_program_logs_to_a_file_of_its_own() -> None:
    logs = {lines().command(name).log for name in PROGRAM_NAMES}
    assert logs == {Path("/folder/logs") / f"{name}.log" for name in PROGRAM_NAMES}


@pytest.mark.parametrize("service_accounts", [True, False])
def test_pods_need_a_service_account_only_where_somebody_makes_it(service_accounts: bool) -> None:
    argv = lines(service_accounts=service_accounts).command("kube-apiserver").argv
    assert ("--disable-admission-plugins=ServiceAccount" in argv) is not service_accounts
    assert "--authorization-mode=RBAC" in argv


def test_extra_flags_come_last_so_that_they_win() -> None:
    extra = {"kube-apiserver": ["--v=4"]}
    assert lines(extra_flags=extra).command("kube-apiserver").argv[-1] == "--v=4"
    assert "--v=4" not in lines(extra_flags=extra).command("etcd").argv


@pytest.mark.parametrize("program", ["etcd", "kube-apiserver", "kwok"])
def test_whoever_listens_does_so_on_loopback(program: ProgramName) -> None:
    argv = " ".join(lines().command(program).argv)
    assert "127.0.0.1" in argv
    assert "0.0.0.0" not in argv


@pytest.mark.parametrize("program", ["kube-controller-manager", "kube-scheduler"])
def test_others_do_not_listen_and_are_not_throttled(program: ProgramName) -> None:
    argv = lines().command(program).argv
    assert {"--secure-port=0", "--leader-elect=false", "--kube-api-qps=500", "--kube-api-burst=1000"} <= set(argv)


def test_kwok_is_given_every_stage_and_manages_annotated_nodes_only() -> None:
    argv = lines().command("kwok").argv
    assert {f"--config={path}" for path in STAGES.glob("*.yaml")} <= set(argv)
    assert "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake" in argv


def test_there_is_a_stage_for_each_turn_in_the_life_of_nodes_and_pods() -> None:
    stages = [yaml.safe_load(path.read_text()) for path in STAGES.glob("*.yaml")]
    named = {(stage["spec"]["resourceRef"]["kind"], stage["metadata"]["name"]) for stage in stages}
    assert named == {
        ("Node", "node-ready"),
        ("Node", "node-heartbeat"),
        ("Pod", "pod-ready"),
        ("Pod", "pod-succeeded"),
        ("Pod", "pod-deleted"),
    }
