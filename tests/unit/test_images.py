"""The Dockerfile, as far as it can be read without an engine: its images, and what they are installed from."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from kaito.controllers.workspace.workload import HTTP_PORT

ROOT = Path(__file__).parents[2]


def stages() -> dict[str, list[str]]:
    """Instructions by stage, continued lines joined; the last stage has no name."""
    text = re.sub(r"(?m)^#.*\n", "", (ROOT / "Dockerfile").read_text()).replace("\\\n", " ")
    found: dict[str, list[str]] = {}
    name = "before"
    for line in filter(None, map(str.strip, text.splitlines())):
        if line.startswith("FROM "):
            name = line.partition(" AS ")[2]
        found.setdefault(name, []).append(re.sub(r"\s+", " ", line))
    return found


def value(stage: str, instruction: str) -> list[str]:
    return [line.partition(" ")[2] for line in stages()[stage] if line.startswith(f"{instruction} ")]


def test_the_image_that_no_target_names_is_the_manager_s() -> None:
    *_, last = stages()
    assert last == ""
    assert value("", "ENTRYPOINT") == ['["/opt/kaito/bin/kaito"]']


def test_the_inference_image_runs_what_pods_of_workspaces_run(tmp_path: Path) -> None:
    [entry] = value("inference", "ENTRYPOINT")
    # `python`, as the init container of an adapter calls it, too.
    assert json.loads(entry) == ["python", "-m", "kaito.inference"]
    assert "PATH=/opt/kaito/bin:${PATH}" in " ".join(value("inference", "ENV"))
    assert value("inference", "EXPOSE") == [str(HTTP_PORT)]


@pytest.mark.parametrize("stage", ["inference", ""])
def test_an_image_runs_as_a_user_without_a_name_and_leaves_health_to_the_kubelet(stage: str) -> None:
    assert value(stage, "USER")[-1] == "65532:65532"
    assert value(stage, "HEALTHCHECK") == []


@pytest.mark.parametrize("stage", ["install", "install-inference"])
def test_an_image_is_installed_from_hashes_and_from_nothing_else(stage: str) -> None:
    [run] = value(stage, "RUN")
    installs = re.findall(r"pip install ([^&]*)", run)
    assert all("--no-index" in each for each in installs)
    assert ["--require-hashes" in each for each in installs] == [True, False]
    assert installs[1].split()[-1].endswith("/kaito-*.whl")


def test_what_is_copied_is_sent_to_the_builder() -> None:
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {line.split()[0] for stage in stages() for line in value(stage, "COPY") if not line.startswith("--from=")}
    assert copied == sent


def without_torch(*wheels: Path) -> str:
    program = [sys.executable, str(ROOT / "requirements/without_torch.py"), *map(str, wheels)]
    return subprocess.run(program, check=True, capture_output=True, text=True).stdout


def test_the_lock_without_torch_has_all_else() -> None:
    def names(lock: str) -> set[str]:
        return set(re.findall(r"(?m)^([\w-]+)==", lock))

    full = (ROOT / "requirements/inference.lock").read_text()
    left_out = names(full) - names(without_torch())
    assert {"torch", "triton", "nvidia-cublas"} <= left_out
    assert all(re.match(r"torch$|triton$|nvidia-|cuda-", name) for name in left_out)
    # What tells of GPUs, without torch.
    assert "nvidia-ml-py" in names(without_torch())
    assert set(without_torch().splitlines()) <= set(full.splitlines())


def test_another_wheel_of_torch_is_locked_by_its_own_hash(tmp_path: Path) -> None:
    wheel = tmp_path / "torch-2.15.0+cpu-cp311-cp311-linux_x86_64.whl"
    wheel.write_bytes(b"a wheel")
    digest = hashlib.sha256(b"a wheel").hexdigest()
    assert without_torch(wheel).endswith(f"torch==2.15.0+cpu \\\n    --hash=sha256:{digest}\n")
