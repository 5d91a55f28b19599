"""The cache folder, and how things get into it."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from kaito.devcluster.cache import cache_folder, complete_folder


def test_the_folder_is_ours_then_xdgs_then_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KAITO_CACHE_DIR", str(tmp_path / "ours"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "ours"
    monkeypatch.delenv("KAITO_CACHE_DIR")
    assert cache_folder() == tmp_path / "xdg" / "kaito"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == tmp_path / "home" / ".cache" / "kaito"


def test_a_folder_has_its_name_only_when_it_is_complete(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "target"
    with complete_folder(target) as aside:
        (aside / "file").write_text("content")
        assert not target.exists()
    assert (target / "file").read_text() == "content"
    assert [path.name for path in target.parent.iterdir()] == ["target"]


def test_nothing_is_left_of_a_folder_that_failed(tmp_path: Path) -> None:
    with contextlib.suppress(KeyError), complete_folder(tmp_path / "target") as aside:
        (aside / "file").write_text("half")
        raise KeyError
    assert list(tmp_path.iterdir()) == []


def test_who_comes_second_lets_the_first_ones_folder_stand(tmp_path: Path) -> None:
    with complete_folder(tmp_path / "target") as aside:
        (aside / "file").write_text("second")
        (tmp_path / "target").mkdir()
        (tmp_path / "target" / "file").write_text("first")
    assert (tmp_path / "target" / "file").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["target"]
