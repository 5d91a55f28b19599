"""Whatever an archive holds, nothing is written outside of the folder that it is unpacked to; it ends in one line."""

from __future__ import annotations

import gzip
import os
import re
import stat
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from kaito.oci.digest import Digest
from kaito.oci.errors import LayerError
from kaito.oci.layers import Unpacker, check_links
from kaito.oci.manifests import Descriptor, Manifest
from kaito.oci.unpack import check_readable, unpack

BLOCK = tarfile.BLOCKSIZE
# Stands for the folder around the one that is unpacked to.
AROUND = "AROUND"
RARE = ["..", ".", "", "x" * 300, ".wh...", ".wh.", "\udcff", "n\nl"]
PARTS = st.sampled_from(["a", "b", "data"] * 12 + [".wh.a", ".wh.b", ".wh..wh..opq"] * 2 + RARE)
NAMES = st.tuples(
    st.sampled_from(["", "data/"] * 6 + ["./", "/", "../", f"{AROUND}/outside/", f"{AROUND}/"]),
    st.lists(PARTS, max_size=4).map("/".join),
).map("".join)
KINDS = st.sampled_from(
    [tarfile.REGTYPE] * 4
    + [tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.LNKTYPE]
    + [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.CONTTYPE, tarfile.GNUTYPE_SPARSE, b"Z", b"D"]
)
PAX = st.dictionaries(
    st.sampled_from(["path", "linkpath", "size", "GNU.sparse.major", "GNU.sparse.minor", "GNU.sparse.name", "mtime"]),
    st.one_of(NAMES, st.sampled_from(["-1", "1", "0", "99999999999999999999", "\0", "x"])),
    max_size=2,
)
SIZES = st.sampled_from([None] * 30 + [-512, -1, 1, 1 << 40])


@st.composite
def entries(draw: st.DrawFn, around: str) -> bytes:
    """One entry with what it holds, as bytes of an archive."""
    entry = tarfile.TarInfo(draw(NAMES).replace(AROUND, around))
    entry.type, entry.mode = draw(KINDS), draw(st.sampled_from([0o644, 0o7777, 0]))
    entry.linkname = draw(NAMES).replace(AROUND, around)
    entry.uid = entry.gid = draw(st.sampled_from([0, 1000]))
    content = draw(st.binary(max_size=40)) if entry.isreg() else b""
    size = draw(SIZES)
    entry.size = len(content) if size is None else size
    if draw(st.integers(0, 3)) == 0 and (pax := draw(PAX)):
        entry.pax_headers = {name: value.replace(AROUND, around) for name, value in pax.items()}
        entry.size = max(0, entry.size)
        head = entry.tobuf(tarfile.PAX_FORMAT, errors="surrogateescape")
    else:
        head = entry.tobuf(tarfile.GNU_FORMAT, errors="surrogateescape")
    return head + content + b"\0" * (-len(content) % BLOCK)


def snapshot(folder: Path, without: Path) -> dict[str, tuple[int, int, bytes]]:
    seen = {}
    for path in sorted(folder.rglob("*")):
        if path != without and without not in path.parents:
            status = path.lstat()
            content = path.read_bytes() if stat.S_ISREG(status.st_mode) else b""
            seen[str(path)] = (status.st_mode, status.st_nlink if content else 0, content)
    return seen


@settings(max_examples=60)
@given(st.data())
def test_whatever_archives_come_nothing_outside_is_written_or_linked(data: st.DataObject) -> None:
    with TemporaryDirectory() as scratch:
        around = Path(scratch)
        root, outside = around / "root", around / "outside"
        root.mkdir()
        outside.mkdir()
        (outside / "a").write_text("untouched")
        (around / "a").write_text("untouched")
        layers = data.draw(st.lists(st.lists(entries(scratch), max_size=6).map(b"".join), min_size=1, max_size=2))
        paths = []
        for number, layer in enumerate(layers):
            paths.append(around / f"{number}.tar")
            paths[-1].write_bytes(layer + b"\0" * 2 * BLOCK)
        before = snapshot(around, root)
        refused = ""
        unpacker = Unpacker(root, data.draw(st.sampled_from(["", "data"])), 1 << 20)
        try:
            for path in paths:
                unpacker.apply(path, "layer")
            check_links(root)
        except LayerError as error:
            refused = str(error)
        event(re.sub(r"'.*'|[0-9]+", "…", refused)[:60])
        assert len(refused.splitlines()) <= 1
        assert refused or all(path.resolve().is_relative_to(root.resolve()) for path in root.rglob("*"))
        assert snapshot(around, root) == before
        for path in root.rglob("*"):
            mode = path.lstat().st_mode
            assert stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode)
            assert stat.S_ISLNK(mode) or not mode & 0o7022


def written(path: Path, *members: tuple[str, bytes, int]) -> Path:
    """A plain archive of files: name, content, mode."""
    with path.open("wb") as file:
        for name, content, mode in members:
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), mode
            file.write(entry.tobuf(tarfile.GNU_FORMAT, errors="surrogateescape") + content)
            file.write(b"\0" * (-len(content) % BLOCK))
        file.write(b"\0" * 2 * BLOCK)
    return path


def test_a_plain_archive_is_read_and_the_last_of_two_entries_of_a_name_stays(tmp_path: Path) -> None:
    layer = written(tmp_path / "layer", ("a", b"1", 0o4755), ("b", b"2", 0o200), ("a", b"3", 0o2777))
    (tmp_path / "root").mkdir()
    Unpacker(tmp_path / "root").apply(layer, "layer")
    assert {path.name: path.read_bytes() for path in (tmp_path / "root").iterdir()} == {"a": b"3", "b": b"2"}
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "root").iterdir()}
    assert modes == {"a": 0o755, "b": 0o644}  # no setuid, writable for nobody else, and readable


def test_a_name_that_is_no_utf8_comes_out_as_the_bytes_that_it_is(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    Unpacker(tmp_path / "root").apply(written(tmp_path / "layer", (os.fsdecode(b"caf\xe9"), b"1", 0o644)), "layer")
    assert os.listdir(os.fsencode(tmp_path / "root")) == [b"caf\xe9"]


def test_the_empty_layer_of_docker_brings_nothing(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "layer").write_bytes(gzip.compress(b"\0" * 1024, mtime=0))
    Unpacker(tmp_path / "root").apply(tmp_path / "layer", "layer")
    assert list((tmp_path / "root").iterdir()) == []


def test_a_file_that_claims_petabytes_is_refused_by_its_claim(tmp_path: Path) -> None:
    entry = tarfile.TarInfo("data/a")
    entry.size = 1 << 50
    (tmp_path / "layer").write_bytes(entry.tobuf(tarfile.GNU_FORMAT))
    with pytest.raises(LayerError, match=f"to more than the {64 << 30} bytes that are allowed|no whole tar archive"):
        Unpacker(tmp_path / "root", "other").apply(tmp_path / "layer", "layer")


def descriptor(
    media_type: str = "application/vnd.oci.image.layer.v1.tar+gzip", size: int = 1, **more: str
) -> Descriptor:
    return Descriptor(media_type=media_type, digest=Digest.of(b""), size=size, annotations=more or None)


def image(*layers: Descriptor) -> Manifest:
    return Manifest(config=descriptor("application/vnd.oci.image.config.v1+json"), layers=layers)


def test_what_could_not_be_unpacked_is_refused_before_it_is_fetched() -> None:
    check_readable(image(descriptor()))
    with pytest.raises(LayerError, match="zstd; push the image with gzip"):
        check_readable(image(descriptor("application/vnd.oci.image.layer.v1.tar+zstd")))
    with pytest.raises(LayerError, match=r"have 68719476737 bytes, more than the 68719476736 that are allowed"):
        check_readable(image(descriptor(), descriptor(size=64 << 30)))


@pytest.mark.parametrize("title", ["../evil", "/../evil", "a/../../evil", "", ".", "x" * 300])
def test_the_files_of_an_artifact_stay_in_their_folder(tmp_path: Path, title: str) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "blob").write_text("x")
    layer = descriptor(title=title)
    with pytest.raises(LayerError):
        unpack(image(layer), [tmp_path / "blob"], tmp_path / "root", path="")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["blob", "root"]
