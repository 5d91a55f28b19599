"""`kaito push` refuses what cannot be meant, before anything is packed."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer

from kaito.cli.push import push

HEX = "0" * 64


@pytest.mark.parametrize(
    ("reference", "mount_from", "said"),
    [
        (f"localhost:1/a:1@sha256:{HEX}", None, "names a digest, which the files decide; write localhost:1/a:TAG"),
        ("localhost:1/a:1", "b c&d", "the repository 'b c&d' may have lower case letters"),
        ("localhost:1/a:1", "localhost:1/b", "the repository 'localhost:1/b' may have lower case letters"),
        ("localhost:1/a:1", "b:1", "--mount-from b:1: name a repository only, such as b"),
    ],
)
def test_names_that_cannot_be_meant_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], reference: str, mount_from: str | None, said: str
) -> None:
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(typer.Exit):
        push(tmp_path, reference, mount_from=mount_from, path="/data")
    [line] = capsys.readouterr().err.splitlines()
    assert said in line
