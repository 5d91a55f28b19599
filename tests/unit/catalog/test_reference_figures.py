"""The catalogue has every figure of KAITO's own tables."""

from __future__ import annotations

import pytest

from kaito.catalog import Catalog
from tests.unit.catalog.reference_figures import (
    ALIASES,
    CATALOG_0_12,
    PRESETS_0_6,
    SKUS_0_12,
    TRANSFORMERS_0_12,
    Reference,
)

CATALOG = Catalog.load()
QUANTISED = {
    "mxfp4": ["gpt-oss"],
    "fp8": [
        "ministral-3",
        "deepseek-r1-0528",
        "deepseek-v3",
        "deepseek-v4",
        "minimax",
        "glm",
        "mistral-medium",
        "-fp8",
    ],
    "float-quantized": ["mistral-large-3"],
    "awq": ["qwen3-8b-awq"],
    "gptq": ["gptq-int4"],
    "pack-quantized": ["kimi"],
    "mixed": ["nemotron-3-ultra"],
    "nvfp4": ["mistral-small-4-119b-2603-nvfp4"],
}


def quantization_of(name: str) -> str | None:
    if name == "mistral-small-4-119b-2603":
        return "fp8"
    return next((how for how, parts in QUANTISED.items() if any(part in name for part in parts)), None)


@pytest.mark.parametrize("row", CATALOG_0_12, ids=lambda row: row.huggingface_id)
def test_a_model_has_the_figures_of_kaitos_catalogue(row: Reference) -> None:
    preset = CATALOG.model(row.huggingface_id)
    has = (
        preset.huggingface_id,
        preset.weights_gib,
        preset.context_tokens,
        preset.attention,
        preset.kv_bytes_per_token,
        preset.disk_gib,
        preset.readiness_timeout_minutes,
        preset.tool_call_parser,
        preset.reasoning_parser,
        preset.license,
    )
    assert has == row[:-1]
    assert preset.name == row.huggingface_id.partition("/")[2].lower()
    assert preset.quantization == quantization_of(preset.name)
    assert preset.distributed
    assert preset.runtimes == (("vllm", "transformers") if preset.name in TRANSFORMERS_0_12 else ("vllm",))


def test_the_table_is_whole() -> None:
    assert (len(CATALOG_0_12), len(ALIASES), len(SKUS_0_12)) == (60, 25, 57)


@pytest.mark.parametrize("name", ALIASES)
def test_a_short_name_finds_a_model_of_that_catalogue(name: str) -> None:
    assert CATALOG.model(name).huggingface_id in {row.huggingface_id for row in CATALOG_0_12}


@pytest.mark.parametrize("name", PRESETS_0_6)
def test_a_preset_has_the_gpus_and_memory_of_kaitos_releases(name: str) -> None:
    preset = CATALOG.model(name)
    tuning = preset.tuning
    gpus, memory_gib, tuned = PRESETS_0_6[name]
    assert (preset.min_gpus, preset.min_total_gpu_memory_gib) == (gpus, memory_gib)
    assert tuned == (
        None if tuning is None else (tuning.disk_gib, tuning.min_total_gpu_memory_gib, tuning.min_gpu_memory_gib)
    )


def test_only_presets_that_kaito_tunes_are_tunable_and_only_phi_2_is_deprecated() -> None:
    tunable = {CATALOG.model(name).name for name, (_, _, tuned) in PRESETS_0_6.items() if tuned}
    assert {preset.name for preset in CATALOG.models.values() if preset.tuning} == tunable
    assert [preset.name for preset in CATALOG.models.values() if preset.deprecated] == ["phi-2"]


def test_gated_are_those_of_kaitos_list_and_whatever_the_hub_asks_a_licence_for() -> None:
    gated = {preset.name for preset in CATALOG.models.values() if preset.gated}
    assert {"llama-3.1-8b-instruct", "llama-3.3-70b-instruct"} <= gated
    assert {CATALOG.model(name).license for name in gated} == {"llama2", "llama3.1", "llama3.3", "gemma"}


@pytest.mark.parametrize("line", SKUS_0_12)
def test_an_instance_type_has_the_gpus_of_kaitos_table(line: str) -> None:
    cloud, name, gpus, memory_gib, *nvme = line.split()
    sku = CATALOG.sku(name, cloud=cloud)
    assert (sku.gpu_count, sku.total_gpu_memory_gib) == (int(gpus), float(memory_gib))
    # Of AWS KAITO does not say it, and its own documentation does.
    assert sku.nvme == bool(nvme) or cloud == "aws"


@pytest.mark.parametrize(
    ("gpu", "dtypes"),
    [
        ("V100-PCIE-16GB", ("float16",)),
        ("T4", ("float16", "int8")),
        ("A100-80GB-PCIe", ("float16", "int8", "bfloat16")),
        ("L40S", ("float16", "int8", "bfloat16", "float8")),
        ("H200", ("float16", "int8", "bfloat16", "float8")),
    ],
)
def test_number_formats_follow_from_the_compute_capability(gpu: str, dtypes: tuple[str, ...]) -> None:
    assert CATALOG.gpu(gpu.lower()).dtypes == dtypes
