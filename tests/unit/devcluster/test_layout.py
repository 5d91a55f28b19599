"""The folder of a control plane."""

from __future__ import annotations

from pathlib import Path

from kaito.devcluster.layout import Layout


def test_what_an_earlier_control_plane_left_is_removed_and_other_files_stay(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.make()
    layout.kubeconfig.write_text("stale")
    layout.log("etcd").write_text("stale")
    (layout.etcd / "member").mkdir()
    (tmp_path / "notes.txt").write_text("somebody's own")
    layout.make()
    assert not layout.kubeconfig.exists()
    assert list(layout.etcd.iterdir()) == []
    assert not layout.log("etcd").exists()
    assert (tmp_path / "notes.txt").read_text() == "somebody's own"


def test_any_user_name_makes_one_file_of_its_own() -> None:
    layout = Layout(Path("/folder"))
    names = ["a", "a/b", "system:a", "../a", "a b", "ä"]
    paths = {layout.user_kubeconfig(name) for name in names}
    assert len(paths) == len(names)
    assert {path.parent for path in paths} == {layout.data / "users"}
