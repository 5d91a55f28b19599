"""Facts about the repository that rot when nobody looks: examples, sizes, addresses, locks, what the guides say."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "kaito").rglob("*.py"))
LOCKS = sorted((ROOT / "requirements").glob("*.lock"))
GUIDES = [path for name in ("README.md", "CONTRIBUTING.md", "docs/**/*.md") for path in sorted(ROOT.glob(name))]
EXAMPLES = {
    "inference/kaito_workspace_phi_3.yaml": "inference",
    "inference/kaito_workspace_phi_3_with_adapters.yaml": "inference",
    "tuning/kaito_workspace_tuning_phi_3_4k.yaml": "tuning",
    "tuning/kaito_workspace_tuning_phi_3_128k.yaml": "tuning",
}
# In two halves, so that this file does not hold what it looks for.
PACKAGE_HOSTS = {"pypi" + ".org", "pythonhosted" + ".org", "proxy.golang" + ".org", "registry.npmjs" + ".org"}


@pytest.mark.parametrize(("name", "purpose"), EXAMPLES.items())
def test_each_manifest_of_the_walk_through_is_one_workspace_with_a_preset(name: str, purpose: str) -> None:
    [workspace] = yaml.safe_load_all((ROOT / "examples" / name).read_text())
    assert (workspace["apiVersion"], workspace["kind"]) == ("kaito.sh/v1alpha1", "Workspace")
    assert workspace["resource"]["instanceType"] == "Standard_NC6s_v3"
    assert workspace[purpose]["preset"]["name"].startswith("phi-3-mini-")


def test_no_file_of_the_package_passes_400_lines() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in SOURCES}
    assert {path: length for path, length in lengths.items() if length > 400} == {}


def test_no_function_of_the_package_passes_50_lines() -> None:
    assert [where for path in SOURCES for where, length in _functions(path) if length > 50] == []


def test_every_public_module_says_what_it_is_for() -> None:
    public = [path for path in SOURCES if not path.stem.startswith("_") or path.stem in ("__init__", "__main__")]
    silent = [path for path in public if not ast.get_docstring(ast.parse(path.read_text()))]
    assert [str(path.relative_to(ROOT)) for path in silent] == []


def test_no_file_names_a_package_host() -> None:
    hosts = re.compile("|".join(map(re.escape, sorted(PACKAGE_HOSTS | _configured_hosts()))))
    assert [where for where, text in _tracked_files() if hosts.search(text)] == []


def test_no_file_names_a_path_of_this_machine() -> None:
    # Top folders such as /tmp are every machine's.
    machine = {f"{path}/" for path in (ROOT, ROOT.parent, Path.home()) if len(path.parts) > 2 or path == Path.home()}
    paths = re.compile("|".join(rf"(?<![\w./-]){re.escape(path)}" for path in sorted(machine)))
    assert [where for where, text in _tracked_files() if paths.search(text)] == []


def test_the_changelog_has_a_place_for_what_is_not_released() -> None:
    assert "\n## Unreleased\n" in (ROOT / "CHANGELOG.md").read_text()


def test_each_changelog_fragment_says_its_kind_and_something() -> None:
    fragments = [path for path in (ROOT / "changelog.d").iterdir() if path.name != "README.md"]
    named = re.compile(r"[a-z0-9-]+\.(added|changed|fixed|removed|security)\.md")
    assert [path.name for path in fragments if not named.fullmatch(path.name) or not path.read_text().strip()] == []


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_guide_names_only_targets_that_make_has(guide: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    # As code only: `make test`, or a line of a block that starts with it.
    named = set(re.findall(r"(?:`|^\$? ?)make ([a-z-]+)", guide.read_text(), re.MULTILINE))
    assert named - targets == set()


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_guide_links_only_to_files_that_exist(guide: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", guide.read_text())
    assert [link for link in links if not (guide.parent / link).exists()] == []


def test_make_lists_every_target_in_one_line() -> None:
    makefile = (ROOT / "Makefile").read_text()
    [phony] = re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    listed = subprocess.run(
        ["make", "--silent"], cwd=ROOT, capture_output=True, text=True, check=True, env=_plain_make()
    )
    assert re.findall(r"^  make (\S+) {2,}\S", listed.stdout, re.MULTILINE) == phony.split()


def test_there_is_a_lock_for_work_here_and_one_for_each_image() -> None:
    assert [path.name for path in LOCKS] == ["dev.lock", "inference.lock", "manager.lock"]
    dev, *images = (set(re.findall(r"^(\S+==\S+)", path.read_text(), re.MULTILINE)) for path in LOCKS)
    assert all(image < dev for image in images)  # what is tested is what is shipped


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_each_locked_requirement_has_hashes_and_no_address(lock: Path) -> None:
    text = "\n".join(line for line in lock.read_text().splitlines() if not line.lstrip().startswith("#"))
    requirements = text.replace("\\\n", " ").splitlines()
    pinned = re.compile(r"[a-z0-9-]+==[\w.]+( ; [^\\]+?)?\s+(--hash=sha256:[0-9a-f]{64}\s*)+")
    assert len(requirements) > 10
    assert [line[:60] for line in requirements if not pinned.fullmatch(line)] == []
    assert "://" not in lock.read_text()


def _functions(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield (
                f"{path.relative_to(ROOT)}:{node.lineno} {node.name}",
                (node.end_lineno or node.lineno) - node.lineno + 1,
            )


def _tracked_files() -> Iterator[tuple[str, str]]:
    """Text of what is in the repository or about to be."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            yield name, (ROOT / name).read_text(errors="replace")


def _configured_hosts() -> set[str]:
    """Where this machine gets its packages from: a mirror's name is nobody else's business."""
    commands = ([sys.executable, "-m", "pip", "config", "list"], ["go", "env", "GOPROXY"])
    urls = re.findall(r"https?://[^\s'\",|]+", "\n".join(_output(command) for command in commands))
    hosts = {urlsplit(url).hostname for url in urls}
    return {host for host in hosts if host and re.search(r"\.[a-z]", host)}  # a name, not a loopback address


def _output(command: list[str]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout
    except FileNotFoundError:
        return ""


def _plain_make() -> dict[str, str]:
    """Without what an outer `make test` hands down."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}


def test_the_reference_says_what_the_docstrings_say() -> None:
    printed = subprocess.run(
        [sys.executable, "docs/reference.py"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert (ROOT / "docs" / "reference.md").read_text() == printed.stdout, "run make reference"
