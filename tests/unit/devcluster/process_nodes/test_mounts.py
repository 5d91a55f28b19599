"""kaito.devcluster.process_nodes.mounts: which texts are paths of mounts, and that nothing else is touched."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaito.devcluster.process_nodes.mounts import Mounts

ROOT = Path("/agent/root")
MOUNTS = Mounts(
    ROOT,
    {
        "/mnt/adapter/one": Path("/volumes/adapters/one"),
        "/mnt/adapter/two": Path("/volumes/adapters/two"),
        "/data": Path("/volumes/data"),
        "/data/inner": Path("/volumes/inner"),
        "/etc/settings": Path("/volumes/settings"),
    },
    {"/dev/termination-log": Path("/agent/termination-log")},
)


@pytest.mark.parametrize(
    ("text", "rewritten"),
    [
        ("/mnt/adapter/one", "/agent/root/mnt/adapter/one"),
        ("/mnt/adapter", "/agent/root/mnt/adapter"),
        ("/mnt/adapter/", "/agent/root/mnt/adapter/"),
        ("/mnt/adapter/*", "/agent/root/mnt/adapter/*"),
        ("--adapters=/mnt/adapter", "--adapters=/agent/root/mnt/adapter"),
        ("/mnt/adapter/one:/mnt/adapter/two", "/agent/root/mnt/adapter/one:/agent/root/mnt/adapter/two"),
        ("a=/data/x,b=/usr/lib", "a=/agent/root/data/x,b=/usr/lib"),
        ('{"path": "/data/x.bin"}', '{"path": "/agent/root/data/x.bin"}'),
        ("cat </data/x >/data/y", "cat </agent/root/data/x >/agent/root/data/y"),
        ("/data/inner/x", "/volumes/inner/x"),
        ("echo done >/dev/termination-log", "echo done >/agent/root/dev/termination-log"),
    ],
)
def test_a_path_of_a_mount_is_found_wherever_programs_take_paths(text: str, rewritten: str) -> None:
    assert MOUNTS.rewrite(text) == rewritten


@pytest.mark.parametrize(
    "text",
    [
        "/",
        "/dev",
        "/dev/null",
        "/etc/hosts",
        "/etc/$NAME",
        "/mnt/adapter/three",
        "/mnt/adapter/one-more",
        "/database",
        "/data.json",
        "/var/data",
        "data",
        "http://host/data",
        "http://host:80/mnt/adapter/one",
        "../data",
    ],
)
def test_what_is_no_path_of_a_mount_stays(text: str) -> None:
    assert MOUNTS.rewrite(text) == text


NAMES = st.text("ab", min_size=1, max_size=2)
PATHS = st.lists(NAMES, min_size=1, max_size=4).map(lambda names: "/" + "/".join(names))


@given(mounts=st.sets(PATHS, max_size=4), path=PATHS)
def test_a_path_is_rewritten_to_the_innermost_mount_or_is_an_ancestor_or_stays(mounts: set[str], path: str) -> None:
    table = Mounts(ROOT, {mount: Path("/volumes") / str(index) for index, mount in enumerate(sorted(mounts))})
    around = [mount for mount in mounts if f"{path}/".startswith(f"{mount}/")]
    if around:
        mount = max(around, key=len)
        expected = f"{table.roots[mount]}{path[len(mount) :]}"
    elif any(mount.startswith(f"{path}/") for mount in mounts):
        expected = f"{ROOT}{path}"
    else:
        expected = path
    assert table.rewrite(path) == expected
    assert table.rewrite(f"--flag={path},{path}") == f"--flag={expected},{expected}"


def test_the_links_lead_to_the_volumes_and_their_ancestors_list_them(tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    (volume / "file").write_text("content")
    mounts = Mounts(tmp_path / "root", {"/mnt/adapter/one": volume, "/mnt/adapter/one/inner": tmp_path})
    mounts.link()
    mounts.link()
    assert [path.name for path in Path(mounts.rewrite("/mnt/adapter")).iterdir()] == ["one"]
    assert Path(mounts.rewrite("/mnt/adapter/one/file")).read_text() == "content"
    assert [path.name for path in volume.iterdir()] == ["file"]  # nothing is made in somebody's files
