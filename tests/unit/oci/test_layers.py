"""Layers: the same bytes every time; and what a hostile archive must not do."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaito.oci.errors import FolderError, LayerError
from kaito.oci.layers import Unpacker, check_links
from kaito.oci.pack import pack

Entry = tuple[str, object]
NAMES = st.from_regex(r"[a-z0-9_]([a-z0-9_.]{0,6}[a-z0-9_])?", fullmatch=True)
TREES = st.dictionaries(
    st.tuples(st.sampled_from(["", "sub/", "sub/deep/"]), NAMES).map("".join), st.binary(max_size=64)
)


def link(target: str) -> tarfile.TarInfo:
    entry = tarfile.TarInfo()
    entry.type, entry.linkname = tarfile.SYMTYPE, target
    return entry


def hard(target: str) -> tarfile.TarInfo:
    entry = link(target)
    entry.type = tarfile.LNKTYPE
    return entry


def special(kind: bytes) -> tarfile.TarInfo:
    entry = tarfile.TarInfo()
    entry.type = kind
    return entry


def archive(path: Path, entries: Iterable[Entry]) -> Path:
    """Text is a file, None a folder, and else the entry itself."""
    with tarfile.open(path, "w:gz") as tar:
        for name, content in entries:
            entry = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo(name)
            entry.name = name
            data = content.encode() if isinstance(content, str) else b""
            entry.size = len(data)
            if content is None:
                entry.type = tarfile.DIRTYPE
            tar.addfile(entry, io.BytesIO(data))
    return path


def unpacked(tmp_path: Path, *layers: Iterable[Entry], only: str = "", limit_bytes: int = 1 << 20) -> dict[str, str]:
    root = tmp_path / "root"
    root.mkdir()
    unpacker = Unpacker(root, only, limit_bytes)
    for number, entries in enumerate(layers):
        unpacker.apply(archive(tmp_path / f"{number}.tar.gz", entries), f"layer {number}")
    check_links(root)
    return {path.relative_to(root).as_posix(): path.read_text() for path in root.rglob("*") if path.is_file()}


@settings(max_examples=25)
@given(TREES)
def test_a_folder_comes_back_as_it_was_and_makes_the_same_bytes_anywhere(tree: dict[str, bytes]) -> None:
    made = []
    for age in (1, 2):
        with TemporaryDirectory() as scratch:
            folder, root = Path(scratch, f"folder{age}"), Path(scratch, "root")
            for name, content in tree.items() if age == 1 else reversed(tree.items()):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                if (folder / name).is_dir() or (folder / name).parent.is_file():
                    return
                (folder / name).write_bytes(content)
                os.utime(folder / name, (age, age))
            folder.mkdir(exist_ok=True)
            root.mkdir()
            packed = pack(folder, Path(scratch, "layer"), "data")
            Unpacker(root, "data").apply(packed.path, "layer")
            assert {name: (root / name).read_bytes() for name in packed.files} == tree
            made.append((packed.path.read_bytes(), packed.diff_id))
    assert made[0] == made[1]


def test_what_is_hidden_stays_out_and_links_to_files_are_followed(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "blob").write_text("weights")
    (folder / "weights").symlink_to("../blob")
    (folder / ".git").mkdir()
    packed = pack(folder, tmp_path / "layer")
    assert packed.files == ("weights",)
    with tarfile.open(packed.path) as tar:
        content = tar.extractfile("weights")
        assert content is not None
        assert content.read() == b"weights"
    (folder / "folder").symlink_to(tmp_path)
    with pytest.raises(FolderError, match="folder"):
        pack(folder, tmp_path / "layer")


OUTSIDE = [
    [("../evil", "x")],
    [("data/../../evil", "x")],
    [("data/a", link("/etc/passwd"))],
    [("data/a", link("../../evil"))],
    [("data/a", link("../other"))],
    [("data/a", link(""))],
    [("data/a", hard("etc/passwd"))],
    [("data/a", hard("data/../etc/passwd"))],
    [("data/a", link("b")), ("data/a/evil", "x")],
    # Each of these links seems to stay inside; together they lead out.
    [("data/a/b/up", link("../..")), ("data/a/b/out", link("up/../../evil"))],
    [("data/dev", special(tarfile.CHRTYPE))],
    [("data/pipe", special(tarfile.FIFOTYPE))],
    [("data/.wh...", "")],
    [("data", link("elsewhere"))],
]


@pytest.mark.parametrize("entries", OUTSIDE)
def test_an_archive_that_reaches_out_of_its_folder_is_refused(tmp_path: Path, entries: list[Entry]) -> None:
    (tmp_path / "evil").write_text("untouched")
    with pytest.raises(LayerError):
        unpacked(tmp_path, entries, only="data")
    assert (tmp_path / "evil").read_text() == "untouched"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.tar.gz", "evil", "root"]


def test_a_link_of_an_earlier_layer_is_not_written_through(tmp_path: Path) -> None:
    with pytest.raises(LayerError, match="behind the link"):
        unpacked(tmp_path, [("a", link("b")), ("b", None)], [("a/file", "x")])


def test_what_lies_beside_the_wanted_folder_is_not_unpacked_whatever_it_is(tmp_path: Path) -> None:
    busybox: list[Entry] = [
        ("bin/sh", link("/bin/busybox")),
        ("bin/ls", hard("bin/sh")),
        ("dev/null", special(tarfile.CHRTYPE)),
    ]
    assert unpacked(tmp_path, busybox, [("./data/./a", "1"), ("/data/b", "2")], only="/data") == {"a": "1", "b": "2"}


def test_links_inside_are_kept(tmp_path: Path) -> None:
    entries: list[Entry] = [("data/x", "1"), ("data/sub/soft", link("../x")), ("data/hard", hard("data/x"))]
    assert unpacked(tmp_path, entries, only="data") == {"x": "1", "sub/soft": "1", "hard": "1"}


def test_later_layers_replace_and_remove_what_earlier_ones_brought(tmp_path: Path) -> None:
    first: list[Entry] = [("d/a", "1"), ("d/b", "1"), ("e/c", "1"), ("f", "file"), ("g/h", "1")]
    second: list[Entry] = [
        ("d/.wh.a", ""),
        ("d/b", "2"),
        ("e/new", "2"),
        ("e/.wh..wh..opq", ""),
        ("f/x", "2"),
        ("g", "2"),
    ]
    with pytest.raises(LayerError, match="exclude each other"):
        unpacked(tmp_path, first, [*second])
    for path in (tmp_path / "root").rglob("*"):
        assert path.is_relative_to(tmp_path / "root")


def test_marks_of_removal_are_obeyed(tmp_path: Path) -> None:
    first: list[Entry] = [("d/a", "1"), ("d/b", "1"), ("e/c", "1"), ("g/h", "1")]
    second: list[Entry] = [("d/.wh.a", ""), ("d/b", "2"), ("e/new", "2"), ("e/.wh..wh..opq", ""), ("g", "2")]
    assert unpacked(tmp_path, first, second) == {"d/b": "2", "e/new": "2", "g": "2"}


@pytest.mark.parametrize("mark", [".wh.data", ".wh..wh..opq"])
def test_the_removal_of_the_wanted_folder_empties_it(tmp_path: Path, mark: str) -> None:
    assert unpacked(tmp_path, [("data/a", "1")], [(mark, ""), ("data/b", "2")], only="data") == {"b": "2"}


def test_an_archive_that_unpacks_to_more_than_the_limit_is_refused(tmp_path: Path) -> None:
    bomb: list[Entry] = [("other/a", "0" * 900_000), ("data/b", "0" * 900_000)]
    with pytest.raises(LayerError, match="unpacks to more than"):
        unpacked(tmp_path, bomb, only="data")


def test_a_header_of_megabytes_does_not_fill_the_memory(tmp_path: Path) -> None:
    path, root = tmp_path / "layer", tmp_path / "root"
    root.mkdir()
    entry = special(tarfile.XHDTYPE)
    entry.size = 50 << 20
    with gzip.open(path, "wb") as file:
        file.write(entry.tobuf())
        file.write(b"0" * (50 << 20))
    with pytest.raises(LayerError, match="header of"):
        Unpacker(root).apply(path, "layer")


@pytest.mark.parametrize(
    "content",
    [b"", b"no archive", gzip.compress(b"no archive" * 100, mtime=0), gzip.compress(b"x" * 10_000, mtime=0)[:-20]],
    ids=["empty", "text", "compressed text", "cut short"],
)
def test_what_is_no_archive_ends_in_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "layer").write_bytes(content)
    with pytest.raises(LayerError) as caught:
        Unpacker(tmp_path).apply(tmp_path / "layer", "layer 1")
    assert len(str(caught.value).splitlines()) == 1


def test_zstd_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "layer").write_bytes(b"\x28\xb5\x2f\xfd0000")
    with pytest.raises(LayerError, match="zstd; push the image with gzip"):
        Unpacker(tmp_path).apply(tmp_path / "layer", "layer 1")
