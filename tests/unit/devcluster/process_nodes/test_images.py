"""kaito.devcluster.process_nodes.images: which command stands for an image, and what is said when none does."""

from __future__ import annotations

from pathlib import Path

import pytest

from kaito.devcluster.process_nodes.images import INFERENCE, ImageTable, ImageTableError, LocalImage
from kaito.devcluster.process_nodes.sandbox import NotStarted

DIGEST = f"sha256:{'a' * 64}"


@pytest.mark.parametrize(
    "reference", ["tools/inspect", "tools/inspect:latest", f"tools/inspect@{DIGEST}", f"tools/inspect:latest@{DIGEST}"]
)
def test_an_image_without_a_tag_is_the_latest_and_a_digest_is_not_looked_at(reference: str) -> None:
    first, second = LocalImage("tools/*:latest"), LocalImage("*")
    assert ImageTable([first, second]).resolve(reference) is first
    assert ImageTable([first, second]).resolve("tools/inspect:1") is second


def test_an_image_that_the_table_lacks_is_said_to_and_what_there_is() -> None:
    with pytest.raises(NotStarted) as refused:
        ImageTable.default().resolve("nginx:1.27")
    assert refused.value.reason == "ErrImagePull"
    assert all(text in refused.value.message for text in ("nginx:1.27", INFERENCE, "--images FILE"))


@pytest.mark.parametrize("reference", ["", "Nginx", "a b", "nginx:"])
def test_what_is_no_reference_is_an_invalid_name(reference: str) -> None:
    with pytest.raises(NotStarted) as refused:
        ImageTable.default().resolve(reference)
    assert refused.value.reason == "InvalidImageName"


def test_a_table_that_is_written_is_read_back(tmp_path: Path) -> None:
    image = LocalImage("a/*", ("sh",), {"python": "/bin/python"}, {"A": "$(LOCAL_IP)"}, {"org/model": "/models/tiny"})
    ImageTable([image]).dump(tmp_path / "images.yaml")
    [read, last] = ImageTable.load(tmp_path / "images.yaml").images
    assert (read, last.pattern) == (image, INFERENCE)
    ImageTable.load(tmp_path / "images.yaml").dump(tmp_path / "again.yaml")
    assert len(ImageTable.load(tmp_path / "again.yaml").images) == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[]", "expected one field, images, a list; given: list"),
        ("images: [x]", "images[0]: 'x' is no entry"),
        ("images: [{programs: {}}]", "images[0].pattern: None is no text"),
        ("images: [{pattern: a, comand: [b]}]", "images[0].comand: there is no such field; there are pattern"),
        ("images: [{pattern: a, entrypoint: sh}]", "images[0].entrypoint: 'sh' is no list of texts"),
        (
            "images: [{pattern: a}, {pattern: a, env: {PORT: 80}}]",
            "images[1].env.PORT: 80 is no text; put it in quotes",
        ),
        ("images: [{", "cannot be read as YAML or JSON"),
    ],
)
def test_a_mistake_in_a_table_is_named_by_its_field(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "images.yaml").write_text(text)
    with pytest.raises(ImageTableError) as refused:
        ImageTable.load(tmp_path / "images.yaml")
    assert said in str(refused.value)
    assert "images.yaml" in str(refused.value)
