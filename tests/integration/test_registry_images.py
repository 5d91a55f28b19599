"""What images hold, from a registry to the adapter's folder: hostile names, kinds of layers, folders of a training."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import pytest

from kaito.devcluster import Registry as RegistryProgram
from kaito.inference.adapter_image import pull_adapter
from kaito.inference.errors import StartError
from kaito.oci.client import Registry
from kaito.oci.digest import Digest
from kaito.oci.errors import LayerError, ManifestError, OciError
from kaito.oci.manifests import OCI_CONFIG, OCI_LAYER, OCI_MANIFEST
from kaito.oci.pull import resolve
from kaito.oci.push import Extras, push_image
from kaito.oci.reference import Reference
from kaito.oci.retries import Retries
from tests.operating.registry_proxy import Fault, RegistryProxy, answer

QUICK = Retries(attempts=2, first_s=0.01)
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
Entry = tuple[str, bytes | str]
"""Bytes are a file's, text is where a link leads."""
DOCKER = {
    OCI_MANIFEST: "application/vnd.docker.distribution.manifest.v2+json",
    OCI_CONFIG: "application/vnd.docker.container.image.v1+json",
    OCI_LAYER: "application/vnd.docker.image.rootfs.diff.tar.gzip",
}


@pytest.fixture(scope="module")
async def program(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RegistryProgram]:
    async with RegistryProgram(tmp_path_factory.mktemp("registry")) as running:
        yield running


def layer(entries: Iterable[Entry]) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        for name, content in entries:
            entry = tarfile.TarInfo(name)
            if isinstance(content, str):
                entry.type, entry.linkname, content = tarfile.SYMTYPE, content, b""
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return raw.getvalue()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def put_blob(registry: Registry, content: bytes, media_type: str) -> dict[str, Any]:
    digest = Digest.of(content)
    async with registry.request("POST", "blobs/uploads/", what="blob", expected=(202,)) as response:
        url = response.headers["Location"]
    async with registry.request("PUT", f"{url}&digest={digest}", what="blob", expected=(201,), data=content):
        return {"mediaType": media_type, "digest": str(digest), "size": len(content)}


async def put_image(program: RegistryProgram, name: str, *layers: bytes, docker: bool = False) -> str:
    """An image of ready layers; gives its reference."""
    kinds = DOCKER if docker else {kind: kind for kind in DOCKER}
    reference = f"{program.address}/{name}"
    async with Registry(Reference.parse(reference), retries=QUICK) as registry:
        registry.allow_push()
        manifest = {
            "schemaVersion": 2,
            "mediaType": kinds[OCI_MANIFEST],
            "config": await put_blob(registry, b"{}", kinds[OCI_CONFIG]),
            "layers": [await put_blob(registry, each, kinds[OCI_LAYER]) for each in layers],
        }
        made, headers = json.dumps(manifest).encode(), {"Content-Type": kinds[OCI_MANIFEST]}
        async with registry.request("PUT", "manifests/1", what=name, expected=(201,), headers=headers, data=made):
            return f"{reference}:1"


async def pull(reference: str, folder: Path) -> list[str]:
    async with Registry(Reference.parse(reference), retries=QUICK) as registry:
        pulled = await pull_adapter(registry, folder, path="/data")
    return sorted(pulled.record.files)


ADAPTER: list[Entry] = [(f"data/{CONFIG}", b"{}"), (f"data/{WEIGHTS}", b"weights")]
BELOW: list[Entry] = [(f"data/sub/{CONFIG}", b"{}"), (f"data/sub/{WEIGHTS}", b"weights")]


async def test_an_image_as_docker_builds_it_is_taken(program: RegistryProgram, tmp_path: Path) -> None:
    base = gzip.compress(layer([("bin/sh", b"sh"), ("data/old", b"old")]), mtime=0)
    empty = gzip.compress(b"\0" * 1024, mtime=0)
    last = gzip.compress(layer([*ADAPTER, ("data/.wh.old", b"")]), mtime=0)
    image = await put_image(program, "docker", base, empty, last, docker=True)
    assert await pull(image, tmp_path / "one") == [CONFIG, WEIGHTS]


@pytest.mark.parametrize("is_there", [True, False])
@pytest.mark.parametrize(
    ("name", "entries", "said"),
    [
        # Below the folder that is unpacked to, but beside the one that is moved.
        ("beside", [*BELOW, ("data/sub/leak", "../etc/passwd")], "the link leak leads out of the folder"),
        ("record", [*ADAPTER, ("data/.kaito-pull.json", b"{}")], "holds .kaito-pull.json, which is a name of the pull"),
        ("linked", [*ADAPTER, ("data/.kaito-pull", "sub")], "holds .kaito-pull, which is a name of the puller's own"),
        ("outside", [*ADAPTER, ("data/a", "/etc/passwd")], "'data/a' is a link to '/etc/passwd', which is outside"),
        ("above", [*ADAPTER, ("data/../../evil", b"x")], "'data/../../evil' leads out of the archive"),
    ],
)
async def test_what_reaches_out_of_the_adapters_folder_is_refused_and_nothing_is_seen_of_it(
    program: RegistryProgram, tmp_path: Path, name: str, entries: list[Entry], said: str, is_there: bool
) -> None:
    target = tmp_path / "adapters" / "one"
    (target if is_there else target.parent).mkdir(parents=True)
    image = await put_image(program, name, layer(entries))
    with pytest.raises((LayerError, StartError), match=said):
        await pull(image, target)
    assert names(tmp_path) == ["adapters"]
    assert names(target) == [".kaito-pull"] if is_there else not target.exists()


FOREIGN = {
    "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
    "digest": f"sha256:{'0' * 64}",
    "size": 10,
    "urls": ["https://example.com/layer"],
}
ZSTD = {**FOREIGN, "mediaType": "application/vnd.oci.image.layer.v1.tar+zstd"}


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (FOREIGN, "it is a foreign layer, which is not fetched from elsewhere"),
        (ZSTD, "is compressed with zstd; push the image with gzip"),
        (
            {**FOREIGN, "size": 1 << 40},
            r"its layers have 1099511627776 bytes, more than the 687",
        ),
        ({**FOREIGN, "digest": "sha256:../../../etc/passwd"}, "is no digest"),
        ({**FOREIGN, "size": -1}, "should be greater than or equal to 0"),
    ],
)
async def test_layers_that_cannot_be_had_are_told_as_such(
    program: RegistryProgram, tmp_path: Path, kind: dict[str, Any], said: str
) -> None:
    manifest = json.dumps({"schemaVersion": 2, "config": {**FOREIGN, "urls": None}, "layers": [kind]})
    async with RegistryProxy(program.address, Fault("/manifests/", answer(200, manifest))) as proxy:
        with pytest.raises((LayerError, ManifestError, OciError), match=said) as caught:
            await pull(f"{proxy.address}/x:1", tmp_path / "one")
    assert len(str(caught.value).splitlines()) == 1
    assert not (tmp_path / "one").exists()


async def test_the_output_of_a_training_is_pushed_without_its_checkpoints_and_twice_the_same(
    program: RegistryProgram, tmp_path: Path
) -> None:
    folder = tmp_path / "output"
    (folder / "checkpoint-10").mkdir(parents=True)
    (folder / "checkpoint-10" / "optimizer.pt").write_bytes(b"x" * 1000)
    (folder / CONFIG).write_text("{}")
    (folder / WEIGHTS).write_bytes(b"weights")
    extras = Extras(annotations={"sh.kaito.model.name": "phi-3-mini-4k-instruct"})
    digests = set()
    for tag in ("1", "2"):
        async with Registry(Reference.parse(f"{program.address}/trained:{tag}")) as registry:
            digests.add(await push_image(registry, folder, extras))
            manifest = (await resolve(registry)).manifest
    assert len(digests) == 1
    assert manifest.annotations == extras.annotations
    # As KAITO's own puller takes it: every layer unpacked by tar, then data/ is moved.
    assert [each.media_type for each in manifest.layers] == [OCI_LAYER]
    async with (
        Registry(Reference.parse(f"{program.address}/trained:1")) as registry,
        registry.request("GET", f"blobs/{manifest.layers[0].digest}", what="layer") as response,
    ):
        content = await response.read()
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as tar:
        assert tar.getnames() == ["data", f"data/{CONFIG}", f"data/{WEIGHTS}"]
