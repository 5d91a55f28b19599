"""The `kaito` application: commands are imported when asked for, and one that cannot be harms no other."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from kaito import __version__
from kaito.cli.app import COMMANDS, LazyCommand, app, load

RUNNER = CliRunner()


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """The name of an importable module with the source that the test names."""
    name = f"command_of_{request.node.name.partition('[')[0]}"
    (tmp_path / f"{name}.py").write_text(request.param)
    monkeypatch.syspath_prepend(tmp_path)
    return name


def test_version_is_the_packages() -> None:
    assert RUNNER.invoke(app, ["--version"]).output == f"kaito {__version__}\n"


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_names_every_command_and_the_first_one_to_try(flag: str) -> None:
    said = RUNNER.invoke(app, [flag])
    assert said.exit_code == 0
    assert [name for name in COMMANDS if name not in said.output] == []
    assert "First command to try: kaito quickstart" in said.output


def test_help_imports_no_command() -> None:
    script = "\n".join(
        [
            "import sys",
            "from kaito.cli.main import main",
            "try: main()",
            "except SystemExit: print(*sys.modules, file=sys.stderr)",
        ]
    )
    done = subprocess.run([sys.executable, "-c", script, "--help"], capture_output=True, text=True, check=True)
    imported = set(done.stderr.split())
    assert "kaito.cli.app" in imported
    assert imported & {command.target.partition(":")[0] for command in COMMANDS.values()} == set()
    assert imported & {"aiohttp", "kaito.client", "kaito.devcluster"} == set()


def test_a_mistyped_command_is_told_the_nearest() -> None:
    said = RUNNER.invoke(app, ["manger"], prog_name="kaito")
    assert said.exit_code == 1
    assert said.output == "kaito: No such command 'manger'. Did you mean 'manager'? see kaito --help\n"


@pytest.mark.parametrize("module", ["def greet(name: str = 'you') -> None: print(f'hello {name}')"], indirect=True)
def test_a_function_becomes_one_command(module: str) -> None:
    assert _run(f"{module}:greet", "--name", "ada") == (0, "hello ada\n")


@pytest.mark.parametrize(
    "module", ["import typer\napp = typer.Typer()\n@app.command()\ndef up() -> None: print('up')"], indirect=True
)
def test_a_group_of_one_command_stays_a_group(module: str) -> None:
    assert _run(f"{module}:app", "up") == (0, "up\n")


@pytest.mark.parametrize("module", ["import module_that_is_not_installed"], indirect=True)
def test_a_command_whose_dependency_is_missing_says_what_to_install(
    module: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit) as stopped:
        load("cloud", LazyCommand(f"{module}:run", "Clouds.", extra="azure"))
    assert stopped.value.exit_code == 2
    assert capsys.readouterr().err == (
        'kaito cloud: needs module_that_is_not_installed, which is not installed; run: pip install "kaito[azure]"\n'
    )


@pytest.mark.parametrize("module", ["raise ZeroDivisionError"], indirect=True)
def test_a_bug_in_a_command_is_not_hidden(module: str) -> None:
    with pytest.raises(ZeroDivisionError):
        load("broken", LazyCommand(f"{module}:run", "Breaks."))


def _run(target: str, *args: str) -> tuple[int, str]:
    """Through the real group, under a name of the table, put back afterwards."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(COMMANDS, "manager", LazyCommand(target, "For this test."))
        said = RUNNER.invoke(app, ["manager", *args])
    return said.exit_code, said.output
