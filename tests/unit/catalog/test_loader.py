"""The catalogue's files: what the built-in ones promise, what one's own can do, and errors that name the place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from kaito.catalog import Catalog, CatalogError
from kaito.catalog.loader import built_in_files

Write = Callable[[str], Path]

OWN_MODEL = """
models:
  our-model:
    huggingface_id: ours/Our-Model
    aliases: [om]
    weights_gib: 3.5
    context_tokens: 8192
    attention: GQA
    kv_bytes_per_token: 65536
    disk_gib: 90
    runtimes: [transformers]
    license: proprietary
    readiness_timeout_minutes: 10
    source: [measured by us]
"""


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_file(text: str) -> Path:
        path = tmp_path / "extra.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write_file


def test_every_built_in_figure_has_a_declared_source() -> None:
    documents = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in built_in_files]
    used = 0
    for document in documents:
        for section in ("gpus", "models", "skus"):
            for name, entry in document.get(section, {}).items():
                assert set(entry["source"]) <= set(document["sources"]), name
                used += 1
    assert used > 150


def test_source_keys_are_spelled_out() -> None:
    assert any("Azure documentation" in text for text in Catalog.load().sku("Standard_NC6s_v3").source)


def test_a_file_adds_a_model(write: Write) -> None:
    catalog = Catalog.load(write(OWN_MODEL))
    assert catalog.model("OM").huggingface_id == "ours/Our-Model"
    assert catalog.model("phi-4").weights_gib == Catalog.load().model("phi-4").weights_gib


def test_a_file_changes_one_field_of_a_built_in_entry_and_keeps_the_others(write: Write) -> None:
    mine = Catalog.load(write("models: {phi-4: {disk_gib: 200, tuning: {disk_gib: 300}}}")).model("phi-4")
    theirs = Catalog.load().model("phi-4")
    assert mine.disk_gib == 200
    assert mine.tuning is not None
    assert theirs.tuning is not None
    assert mine.tuning == theirs.tuning.model_copy(update={"disk_gib": 300.0})
    assert mine.model_copy(update={"disk_gib": theirs.disk_gib, "tuning": theirs.tuning}) == theirs


def test_a_file_of_ones_own_leaves_the_built_in_catalogue_as_it_is(write: Write) -> None:
    Catalog.load(write("models: {phi-4: {disk_gib: 200}}"))
    assert Catalog.load().model("phi-4").disk_gib == 107


def test_a_file_adds_an_instance_type_of_a_known_gpu_and_one_of_its_own(write: Write) -> None:
    catalog = Catalog.load(
        write(
            """
gpus: {RTX-4090: {model: NVIDIA RTX 4090, vendor: nvidia, memory_gib: 24, cuda_capability: "8.9", source: [ours]}}
skus:
  rack-a: {cloud: onprem, gpu: L40S, gpu_count: 2, source: [ours]}
  rack-b: {cloud: onprem, gpu: RTX-4090, gpu_count: 4, source: [ours]}
"""
        )
    )
    assert catalog.sku("rack-a").total_gpu_memory_gib == 96
    assert catalog.sku("RACK-B", cloud="onprem").gpu.cuda_capability == (8, 9)
    assert [sku.name for sku in catalog.skus_of("onprem")] == ["rack-a", "rack-b"]


def test_an_empty_file_changes_nothing(write: Write) -> None:
    assert dict(Catalog.load(write("")).models) == dict(Catalog.load().models)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "models: {phi-4: {weights_gib: -1}}",
            r"extra\.yaml: models\.phi-4\.weights_gib: .*greater than 0 \(given -1\)",
        ),
        ("models: {phi-4: {weigths_gib: 2}}", r"extra\.yaml: models\.phi-4\.weigths_gib: Extra inputs"),
        ("models: {phi-4: {runtimes: [tgi]}}", r"models\.phi-4\.runtimes\.0: .*'vllm' or 'transformers'.*'tgi'"),
        ("models: {phi-4: {tuning: {disk_gib: x}}}", r"models\.phi-4\.tuning\.disk_gib: .*'x'"),
        ("models: {phi-4: {min_gpu_memory_gib: 99}}", r"models\.phi-4: min_gpu_memory_gib 99 is more than"),
        ("models: {mine: {}}", r"extra\.yaml: models\.mine\.huggingface_id: Field required"),
        ("models: {Mine: 3}", r"extra\.yaml: models\.Mine: must be a mapping"),
        (OWN_MODEL.replace("[om]", "[phi-4]"), r"models\.our-model: 'phi-4' finds models\.phi-4 already"),
        (
            "skus: {n1: {cloud: c, gpu: L40, gpu_count: 1, source: [s]}}",
            r"skus\.n1\.gpu: 'L40' is none of gpus; nearest: L4",
        ),
        ("skus: {n1: {cloud: c, gpu_count: 1, source: [s]}}", r"skus\.n1\.gpu: Field required"),
        (
            "skus: {standard_nc6s_v3: {cloud: c, gpu: T4, gpu_count: 1, source: [s]}}",
            r"finds skus\.Standard_NC6s_v3 already",
        ),
        ("gpus: {T4: {cuda_capability: '75'}}", r"gpus\.T4\.cuda_capability: '75' is no compute capability"),
        ("gpus: {T4: {cuda_capability: null}}", r"gpus\.T4: an nvidia GPU needs its cuda_capability"),
        (
            "models: {falcon-7b: {deprecated: true, successor: falcon-40}}",
            r"extra\.yaml: models\.falcon-7b\.successor: 'falcon-40' is none of models; did you mean falcon-40b\?",
        ),
        (
            "models: {falcon-7b: {deprecated: true, successor: phi-2}}",
            r"models\.falcon-7b\.successor: 'phi-2' is deprecated itself",
        ),
        ("models: {falcon-7b: {successor: phi-4}}", r"models\.falcon-7b: successor 'phi-4' is for deprecated models"),
        ("sources: {ours: [1]}", r"extra\.yaml: sources\.ours: must be text"),
        ("modles: {}", r"extra\.yaml: modles: no section of a catalogue; choose among sources, gpus, models, skus"),
        ("models: [phi-4]", r"extra\.yaml: models: must be a mapping from name to entry"),
        ("models: {4: {}}", r"extra\.yaml: models\.4: a name must be text"),
        ("- phi-4", r"extra\.yaml: must be a mapping with any of"),
        (
            "models: {phi-4: {disk_gib: 1}, phi-4: {disk_gib: 2}}",
            r"extra\.yaml: not YAML: 'phi-4' is there twice .*line 1",
        ),
        ("models: {phi-4: [}", r"extra\.yaml: not YAML: .*line 1"),
        ("skus: {g5.xlarge: {retired: 2025-13-45}}", r"extra\.yaml: not YAML: month must be"),
        ("[" * 100_000, r"extra\.yaml: not YAML: more than 20 levels deep .*line 1, column 21"),
        ("- " * 100_000, r"extra\.yaml: not YAML: more than 20 levels deep"),
        ("models: {? [a] : 1}", r"extra\.yaml: not YAML: .*unhashable"),
    ],
)
def test_a_fault_is_told_with_its_file_entry_and_field(write: Write, text: str, told: str) -> None:
    with pytest.raises(CatalogError, match=told):
        Catalog.load(write(text))


def test_a_faulty_gpu_is_told_once_not_with_every_type_that_has_it(write: Write) -> None:
    with pytest.raises(CatalogError) as caught:
        Catalog.load(write("gpus: {T4: {memory_gib: 0}}"))
    assert len(caught.value.faults) == 1


def test_a_faulty_successor_is_told_once(write: Write) -> None:
    with pytest.raises(CatalogError) as caught:
        Catalog.load(write("models: {phi-3.5-mini-instruct: {disk_gib: 0}}"))
    assert len(caught.value.faults) == 1


def test_all_faults_are_told_at_once(write: Write) -> None:
    with pytest.raises(CatalogError) as caught:
        Catalog.load(write("models: {phi-4: {disk_gib: 0, weights_gib: 0}, phi-2: {attention: none}}"))
    assert len(caught.value.faults) == 3


def test_a_file_that_is_not_there_is_told_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match=r"absent\.yaml: cannot be read .*--catalog"):
        Catalog.load(tmp_path / "absent.yaml")


def test_a_file_that_is_not_text_is_told_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "binary.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CatalogError, match=r"binary\.yaml: cannot be read"):
        Catalog.load(path)


def test_texts_are_laid_over_the_file_in_their_order(write: Write) -> None:
    catalog = Catalog.load(
        write(OWN_MODEL),
        [
            ("a", "models: {our-model: {disk_gib: 91, context_tokens: 4096}}"),
            ("b", "models: {our-model: {disk_gib: 92}}"),
        ],
    )
    assert (catalog.model("om").disk_gib, catalog.model("om").context_tokens) == (92, 4096)


def test_a_fault_in_a_text_is_told_with_what_it_is_called() -> None:
    with pytest.raises(CatalogError, match=r"^ConfigMap x/y: b\.yaml: models\.phi-4\.disk_gib: .*given 0"):
        Catalog.load(overlays=[("ConfigMap x/y: b.yaml", "models: {phi-4: {disk_gib: 0}}")])
