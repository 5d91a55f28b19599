"""The pytest plugin: cheap where it is not used, valid names for namespaces."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

import kaito.testing
from kaito.testing.plugin import namespace_name

HEAVY = (
    "aiohttp",
    "cryptography",
    "kubernetes_asyncio",
    "pydantic",
    "yaml",
    "msgspec",
    "kaito.devcluster",
    "kaito.client",
)


def test_loading_the_plugin_imports_nothing_heavy() -> None:
    script = f"import sys, kaito.testing.plugin; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_run_without_pytest_asyncio_still_starts() -> None:
    script = """
import sys, importlib.util
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name == "pytest_asyncio" else find(name, package)
import kaito.testing.plugin as plugin
print("pytest_asyncio" in sys.modules, hasattr(plugin, "client"), hasattr(plugin, "control_plane"))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "False False True\n"


@pytest.mark.parametrize("test", ["test_a", "test_A[x-1/ü]", "", "___", "test_" + "long_" * 40, "1-2", "-"])
def test_a_namespace_is_a_valid_label_whatever_the_test_is_called(test: str) -> None:
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", namespace_name(test))


def test_a_namespace_lets_one_recognise_its_test_and_is_unique() -> None:
    names = {namespace_name("test_full_list[expired]") for _ in range(20)}
    assert len(names) == 20
    assert all(name.startswith("test-full-list-expired-") for name in names)


def test_the_public_names_are_these_and_can_be_had() -> None:
    names = ["ControlPlane", "ControlPlaneOptions", "FakeApi", "FakeApiServer", "FaultProxy", "eventually"]
    names.append("install_crds")
    assert kaito.testing.__all__ == names
    for name in kaito.testing.__all__:
        assert getattr(kaito.testing, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'absent'"):
        kaito.testing.absent  # noqa: B018 - that is the point
