"""Builds: addressed by content, made once, never half in the cache, gone when called off."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from kaito.devcluster.errors import BuildError, CancelledStartError
from kaito.devcluster.gobuild import build, find_build
from kaito.devcluster.programs import CONTROL_PLANE_MODULE, KWOK_MODULE, GoModule
from kaito.devcluster.progress import Progress
from kaito.testing import eventually

from .conftest import FakeGo

SILENT = Progress(silent=True)


def builds(cache: Path) -> list[Path]:
    return [path for path in (cache / "builds").glob("*") if path.suffix != ".lock"]


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_build_has_every_program_under_its_own_name(fake_go: FakeGo) -> None:
    fake_go.install()
    folder = build(CONTROL_PLANE_MODULE, SILENT)
    assert {path.name for path in folder.iterdir()} == {"kube", *CONTROL_PLANE_MODULE.programs}
    assert find_build(CONTROL_PLANE_MODULE) == folder


def test_the_address_of_a_build_has_sources_flags_toolchain_and_platform(fake_go: FakeGo) -> None:
    fake_go.install(version="go1.26.8")
    first = build(KWOK_MODULE, SILENT)
    fake_go.install(version="go1.26.9")
    second = build(KWOK_MODULE, SILENT)
    assert first != second
    assert "go1.26.9" in second.name
    assert find_build(replace(KWOK_MODULE, ldflags="-s")) is None, "other flags make another program"


def test_changed_sources_are_built_anew(fake_go: FakeGo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Module(GoModule):
        @property
        def folder(self) -> Path:
            return tmp_path / "module"

    module = Module("own", "own", ("kwok",), "", 1, 1)
    module.folder.mkdir()
    for name in ("go.mod", "go.sum", "main.go"):
        (module.folder / name).write_text("package main")
    fake_go.install()
    first = build(module, SILENT)
    (module.folder / "go.sum").write_text("another hash")
    assert find_build(module) is None
    assert build(module, SILENT) != first


def test_of_two_builders_at_once_one_builds_and_the_other_waits_for_it(fake_go: FakeGo) -> None:
    fake_go.install(build='sleep 0.5; touch "$output"')
    with ThreadPoolExecutor() as pool:
        folders = set(pool.map(lambda _: build(KWOK_MODULE, Progress(silent=True)), range(3)))
    assert len(folders) == 1
    assert fake_go.count() == 1


def test_a_failed_build_leaves_nothing_and_shows_the_compilers_last_words(fake_go: FakeGo, cache: Path) -> None:
    fake_go.install(build='touch "$output"; echo early; seq 100; echo "dial tcp: lookup failed"; exit 3')
    with pytest.raises(BuildError) as caught:
        build(KWOK_MODULE, SILENT)
    message = str(caught.value)
    assert "exit status 3" in message
    assert "dial tcp: lookup failed" in message
    assert "GOPROXY" in message, "the next step"
    assert "early" not in message
    assert builds(cache) == []


async def test_a_build_that_is_called_off_ends_its_processes_and_leaves_nothing(fake_go: FakeGo, cache: Path) -> None:
    started = fake_go.folder / "started"
    fake_go.install(build=f"sleep 60 & echo $! > {started}.part; mv {started}.part {started}; wait")
    progress = Progress(silent=True)
    failures: list[BaseException] = []

    def work() -> None:
        try:
            build(KWOK_MODULE, progress)
        except CancelledStartError as error:
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    await eventually(started.exists)
    progress.cancel()
    thread.join()
    assert len(failures) == 1
    await eventually(lambda: not alive(int(started.read_text())), message="what the compiler started has ended")
    assert builds(cache) == []
