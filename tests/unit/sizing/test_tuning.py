"""Whether a node fine-tunes a model: the original manifests pass, and the estimate agrees with what was published."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaito.catalog import Catalog, Gpu, GpuSku, ModelPreset, Network
from kaito.sizing import CannotRun, size_tuning

CATALOG = Catalog.load()
V100 = CATALOG.sku("Standard_NC6s_v3")
A100 = CATALOG.sku("Standard_NC24ads_A100_v4")
TUNABLE = [preset for preset in CATALOG.models.values() if preset.tuning is not None]


def node(gpus: int, gpu_memory_gib: float) -> GpuSku:
    gpu = Gpu(
        name="gpu", source=("test",), model="GPU", vendor="nvidia", memory_gib=gpu_memory_gib, cuda_capability=(9, 0)
    )
    return GpuSku(name="node", source=("test",), cloud="test", gpu=gpu, gpu_count=gpus)


@pytest.mark.parametrize("name", ["phi-3-mini-4k-instruct", "phi-3-mini-128k-instruct"])
def test_the_original_tuning_manifests_fit_their_one_v100_and_are_told_of_float16(name: str) -> None:
    sizing = size_tuning(CATALOG.model(name), V100, "qlora")
    assert sizing.fits
    assert (sizing.scope, sizing.available_gib) == ("gpu", 15)
    assert sizing.needed_gib == pytest.approx(5.68, abs=0.01)
    assert "no bfloat16, so the 4-bit weights are computed with in float16" in sizing.notes[-1]


def test_lora_goes_by_the_presets_figure_and_says_by_how_much_it_fails() -> None:
    sizing = size_tuning(CATALOG.model("phi-3-mini-4k-instruct"), V100, "lora")
    assert (sizing.fits, sizing.scope, sizing.needed_gib, sizing.available_gib) == (False, "node", 72, 16)
    assert size_tuning(CATALOG.model("phi-3-mini-4k-instruct"), A100, "lora").fits


def test_lora_names_the_single_gpu_where_only_that_is_too_small() -> None:
    sizing = size_tuning(CATALOG.model("qwen2.5-coder-32b-instruct"), node(4, 48), "lora")
    assert (sizing.fits, sizing.scope, sizing.needed_gib, sizing.available_gib) == (False, "gpu", 70, 48)


# Llama's dimensions, and what the QLoRA paper says that Guanaco takes, in 10^9 bytes.
@pytest.mark.parametrize(
    ("parameters", "layers", "hidden", "inner", "published_gb"),
    [
        (6.74e9, 32, 4096, 11008, 5),
        (13.0e9, 40, 5120, 13824, 10),
        (32.5e9, 60, 6656, 17920, 21),
        (65.2e9, 80, 8192, 22016, 41),
    ],
)
def test_weights_and_adapter_in_4_bits_agree_with_the_qlora_paper(
    parameters: float, layers: int, hidden: int, inner: int, published_gb: float
) -> None:
    network = Network(layers=layers, hidden_size=hidden, feed_forward_size=inner, vocabulary=32000)
    phi = CATALOG.model("phi-3-mini-4k-instruct")
    assert phi.tuning is not None
    llama = phi.model_copy(
        update={"weights_gib": parameters * 2 / 2**30, "tuning": phi.tuning.model_copy(update={"network": network})}
    )
    sizing = size_tuning(llama, A100, "qlora")
    at_rest_gb = sum(part.gib for part in sizing.parts[:3]) * 2**30 / 1e9
    assert at_rest_gb == pytest.approx(published_gb, rel=0.2)
    assert sizing.needed_gib * 2**30 / 1e9 > published_gb


@pytest.mark.parametrize(
    ("model", "sku", "cause"),
    [
        ("gpt-oss-20b", "Standard_NC24ads_A100_v4", "cannot be fine-tuned; see those that can: kaito models --tunable"),
        ("phi-4", "Standard_NG32ads_V620_v1", "only NVIDIA GPUs can"),
    ],
)
def test_what_cannot_be_tuned_at_all_is_told_why(model: str, sku: str, cause: str) -> None:
    with pytest.raises(CannotRun, match=cause):
        size_tuning(CATALOG.model(model), CATALOG.sku(sku), "qlora")


@pytest.mark.parametrize(
    ("change", "cause"),
    [({"quantization": "awq"}, r"is quantised \(awq\) already"), ({"float16": False}, "cannot be tuned in float16")],
)
def test_weights_of_a_kind_that_cannot_be_tuned_are_told_why(change: dict[str, object], cause: str) -> None:
    with pytest.raises(CannotRun, match=cause):
        size_tuning(CATALOG.model("phi-4").model_copy(update=change), V100, "qlora")


def test_a_method_that_the_model_is_not_tuned_with_is_refused_by_naming_those_that_it_is() -> None:
    phi = CATALOG.model("phi-4")
    assert phi.tuning is not None
    only_lora = phi.model_copy(update={"tuning": phi.tuning.model_copy(update={"methods": ("lora",)})})
    with pytest.raises(CannotRun, match="is not tuned with qlora; choose lora"):
        size_tuning(only_lora, A100, "qlora")


def test_without_the_networks_dimensions_qlora_is_counted_as_lora_and_says_so() -> None:
    phi = CATALOG.model("phi-4")
    assert phi.tuning is not None
    unknown = phi.model_copy(update={"tuning": phi.tuning.model_copy(update={"network": None})})
    sizing = size_tuning(unknown, A100, "qlora")
    assert sizing.needed_gib == size_tuning(phi, A100, "lora").needed_gib
    assert "counted as lora" in sizing.notes[0]


@pytest.mark.parametrize("arguments", [{"batch_size": 0}, {"sequence_tokens": 0}])
def test_numbers_below_one_are_a_callers_mistake(arguments: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be 1 or more"):
        size_tuning(CATALOG.model("phi-4"), A100, "qlora", **arguments)


tunable = st.sampled_from(TUNABLE)
methods = st.sampled_from(["lora", "qlora"])
memories_gib = st.floats(min_value=4, max_value=300)
gpu_counts = st.sampled_from([1, 2, 4, 8])


@given(tunable, methods, gpu_counts, memories_gib, st.floats(min_value=1, max_value=4))
def test_what_fits_fits_more_memory_and_more_gpus_too(
    preset: ModelPreset, method: str, gpus: int, memory_gib: float, growth: float
) -> None:
    before = size_tuning(preset, node(gpus, memory_gib), method)  # type: ignore[arg-type]
    for larger in (node(gpus, memory_gib * growth), node(gpus * 2, memory_gib)):
        assert size_tuning(preset, larger, method).fits >= before.fits  # type: ignore[arg-type]


@given(tunable, st.integers(1, 8192), st.integers(0, 8192), st.integers(1, 8), st.floats(min_value=1, max_value=4))
def test_longer_examples_larger_batches_and_heavier_models_never_need_less(
    preset: ModelPreset, tokens: int, more: int, batch: int, growth: float
) -> None:
    needed_gib = size_tuning(preset, A100, "qlora", sequence_tokens=tokens).needed_gib
    heavier = preset.model_copy(update={"weights_gib": preset.weights_gib * growth})
    assert size_tuning(preset, A100, "qlora", sequence_tokens=tokens + more).needed_gib >= needed_gib
    assert size_tuning(preset, A100, "qlora", sequence_tokens=tokens, batch_size=batch).needed_gib >= needed_gib
    assert size_tuning(heavier, A100, "qlora", sequence_tokens=tokens).needed_gib >= needed_gib
