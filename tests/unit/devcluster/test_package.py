"""The package as a whole: its public names, and the files that have to be with it."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import kaito.devcluster
from kaito.devcluster import DevClusterError, errors
from kaito.devcluster.programs import CONTROL_PLANE_MODULE, KWOK_MODULE, PROGRAM_NAMES, REGISTRY_MODULE

PACKAGE = Path(kaito.devcluster.__file__).parent


def test_every_public_name_exists_and_every_error_is_public() -> None:
    assert all(hasattr(kaito.devcluster, name) for name in kaito.devcluster.__all__)
    classes = {name for name, each in inspect.getmembers(errors, inspect.isclass) if issubclass(each, DevClusterError)}
    assert classes <= set(kaito.devcluster.__all__)


def test_every_error_is_drawn_in_the_tree_at_the_top_of_its_module() -> None:
    for name, _ in inspect.getmembers(errors, inspect.isclass):
        assert name in (errors.__doc__ or ""), name


def test_each_program_is_built_by_one_module_and_its_sources_are_here() -> None:
    modules = (CONTROL_PLANE_MODULE, KWOK_MODULE, REGISTRY_MODULE)
    assert sorted(name for module in modules for name in module.programs) == sorted(PROGRAM_NAMES)
    for module in modules:
        assert {"go.mod", "go.sum", "main.go"} <= {path.name for path in module.folder.iterdir()}


def test_the_supervisor_needs_nothing_but_the_standard_library() -> None:
    # Isolated and without site-packages, as it is run; with no parent to serve it ends at once.
    command = [sys.executable, "-I", "-S", str(PACKAGE / "supervisor.py"), "1"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")
