"""The wheel, installed where nothing of the checkout can be seen: its content and the manager's lock must suffice."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import venv
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
# What the library's users do not pay for: each belongs to an extra, or is imported when it is needed.
NOT_WITH_THE_RUNTIME = {"typer", "rich", "kubernetes_asyncio", "fastapi", "torch", "pytest", "uvloop"}
# Their extras are not the manager's.
OTHER_EXTRAS = ("kaito.testing", "kaito.inference", "kaito.tuning")


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    _run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT), cwd=folder)
    [built] = folder.glob("kaito-*.whl")
    return built


@pytest.fixture(scope="session")
def clean_bin(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`bin` of an environment with the wheel, and of other packages just those that requirements/manager.lock names."""
    home = tmp_path_factory.mktemp("clean")
    venv.create(home, symlinks=True)
    [site] = home.glob("lib/python3*/site-packages")
    _run(sys.executable, "-m", "pip", "--python", str(home), "install", "--no-index", "--no-deps", str(wheel), cwd=home)
    for name in _locked_for_the_manager():
        _borrow(name, site)
    return home / "bin"


def test_the_wheel_holds_every_file_of_the_package(wheel: Path) -> None:
    files = {path for path in (ROOT / "kaito").rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    packed = set(zipfile.ZipFile(wheel).namelist())
    assert {str(path.relative_to(ROOT)) for path in files} - packed == set()


@pytest.mark.parametrize(
    "needed",
    [r"kaito/devcluster/.*/go\.mod", r"kaito/devcluster/.*\.yaml", r"kaito/catalog/.*\.yaml", r"kaito/py\.typed"],
)
def test_the_wheel_carries_the_data_that_code_reads(wheel: Path, needed: str) -> None:
    assert [name for name in zipfile.ZipFile(wheel).namelist() if re.fullmatch(needed, name)]


def test_the_wheel_carries_its_licence(wheel: Path) -> None:
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in zipfile.ZipFile(wheel).namelist())


def test_the_managers_lock_satisfies_what_the_wheel_asks_for(clean_bin: Path) -> None:
    said = _run(sys.executable, "-m", "pip", "--python", str(clean_bin.parent), "check", cwd=clean_bin)
    assert "No broken requirements" in said


def test_every_module_of_the_manager_imports_from_the_wheel_alone(clean_bin: Path) -> None:
    script = f"""
import importlib, pkgutil, kaito
for module in pkgutil.walk_packages(kaito.__path__, "kaito."):
    if not module.name.startswith({OTHER_EXTRAS!r}):
        print(importlib.import_module(module.name).__file__)
"""
    files = _run(str(clean_bin / "python"), "-W", "error", "-c", script, cwd=clean_bin).splitlines()
    assert any("/kaito/runtime/" in file for file in files)
    assert [file for file in files if not Path(file).is_relative_to(clean_bin.parent)] == []


@pytest.mark.parametrize("command", [["kaito"], ["kubectl-kaito"], ["python", "-m", "kaito"]], ids=" ".join)
def test_the_commands_start_and_name_the_first_one_to_try(clean_bin: Path, command: list[str]) -> None:
    said = _run(str(clean_bin / command[0]), *command[1:], "--help", cwd=clean_bin)
    assert "kaito quickstart" in said


def test_kaito_crds_prints_the_kinds_of_the_product(clean_bin: Path) -> None:
    crds = list(yaml.safe_load_all(_run(str(clean_bin / "kaito"), "crds", cwd=clean_bin)))
    assert {crd["kind"] for crd in crds} == {"CustomResourceDefinition"}
    assert {"workspaces.kaito.sh", "machines.karpenter.sh"} <= {crd["metadata"]["name"] for crd in crds}


@pytest.mark.parametrize("package", ["kaito.kube", "kaito.client", "kaito.informers", "kaito.runtime"])
def test_the_library_imports_nothing_that_an_extra_brings(package: str, tmp_path: Path) -> None:
    # In the environment of the tests, where most of it could be imported.
    script = f"import sys, {package}; print(*(name.partition('.')[0] for name in sys.modules))"
    imported = set(_run(sys.executable, "-c", script, cwd=tmp_path).split())
    assert package.partition(".")[0] in imported
    assert imported & NOT_WITH_THE_RUNTIME == set()


def test_without_the_cli_extra_the_command_says_what_to_install(clean_bin: Path) -> None:
    script = "import sys; sys.modules['typer'] = None; from kaito.cli.main import main; main()"
    done = subprocess.run(
        [clean_bin / "python", "-c", script],
        cwd=clean_bin,
        capture_output=True,
        text=True,
        env=_environment(),
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        'kaito: the command line needs typer, which is not installed; run: pip install "kaito[cli]"'
    ]


def _locked_for_the_manager() -> list[str]:
    text = (ROOT / "requirements" / "manager.lock").read_text()
    locked = [Requirement(line.rstrip(" \\")) for line in re.findall(r"^[a-z0-9].*$", text, re.MULTILINE)]
    return [each.name for each in locked if each.marker is None or each.marker.evaluate()]


def _borrow(name: str, site: Path) -> None:
    """Link one installed package into another environment: what pip would put there, without an index to ask."""
    installed = distribution(name)
    tops = {file.parts[0] for file in installed.files or () if file.parts[0] not in ("..", "__pycache__")}
    assert tops, f"{name} is locked for the manager but not installed; run: make setup"
    for top in tops:
        if not (site / top).exists():
            (site / top).symlink_to(Path(str(installed.locate_file(top))))


def _run(*command: str, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=_environment(), check=False)
    assert done.returncode == 0, f"{' '.join(command)} exited {done.returncode}:\n{done.stdout}{done.stderr}"
    return done.stdout


def _environment() -> dict[str, str]:
    """Of this process, without what would let the checkout be found."""
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV", "CI")}
