"""How many nodes serve a model, what is said when they cannot, and that the estimator agrees with KAITO's."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from kaito.catalog import Catalog, Gpu, GpuSku, ModelPreset
from kaito.sizing import CannotRun, DoesNotFit, Sizing, SizingError, fits, fitting, size, usable_runtimes
from tests.unit.catalog.reference_figures import CATALOG_0_12, NODE_SHAPES, Reference

CATALOG = Catalog.load()
WALK_THROUGH_SKU = CATALOG.sku("Standard_NC6s_v3")


def node(gpus: int, gpu_memory_gib: float, capability: tuple[int, int] = (9, 0), cloud: str = "test") -> GpuSku:
    gpu = Gpu(
        name="gpu",
        source=("test",),
        model="GPU",
        vendor="nvidia",
        memory_gib=gpu_memory_gib,
        cuda_capability=capability,
    )
    return GpuSku(name=f"{gpus}x{gpu_memory_gib:g}", source=("test",), cloud=cloud, gpu=gpu, gpu_count=gpus)


@pytest.mark.parametrize("row", CATALOG_0_12, ids=lambda row: row.huggingface_id)
def test_vllm_takes_as_many_nodes_as_kaitos_estimator_says(row: Reference) -> None:
    preset = CATALOG.model(row.huggingface_id)
    assert tuple(size(preset, node(*shape), runtime="vllm").nodes for shape in NODE_SHAPES) == row.nodes


def test_an_a10_takes_a_node_more_where_two_hundredths_of_its_memory_decide() -> None:
    a10, a10g = CATALOG.sku("Standard_NV36ads_A10_v5"), CATALOG.sku("g5.xlarge")
    nodes = {
        row.huggingface_id: (size(preset, a10).nodes, size(preset, a10g).nodes)
        for row in CATALOG_0_12
        if (preset := CATALOG.model(row.huggingface_id)) and row.nodes[0] < 10
    }
    assert {name: pair for name, pair in nodes.items() if pair[0] != pair[1]} == {
        "mistralai/Mistral-Small-4-119B-2603-NVFP4": (5, 4),
        "google/gemma-4-31B-it": (5, 4),
        "google/gemma-4-26B-A4B-it": (4, 3),
        "ibm-granite/granite-4.1-8b": (2, 1),
    }


@pytest.mark.parametrize("name", ["phi-3-mini-4k-instruct", "phi-3-mini-128k-instruct"])
def test_the_walk_through_takes_one_node_with_one_gpu(name: str) -> None:
    sizing = size(CATALOG.model(name), WALK_THROUGH_SKU)
    assert (sizing.nodes, sizing.minimum_nodes, sizing.gpus_per_node, sizing.runtime) == (1, 1, 1, "transformers")
    assert (sizing.needed_gib, sizing.available_gib) == (9, 16)


def test_the_walk_through_is_told_of_the_old_gpu_and_the_retired_type() -> None:
    retired, old = size(CATALOG.model("phi-3-mini-4k-instruct"), WALK_THROUGH_SKU).notes
    assert "Standard_NC6s_v3 was retired by azure on 2025-09-30" in retired
    assert "CUDA 7.0, below 8.0: no bfloat16" in old


def test_a_present_gpu_runs_vllm_without_a_note() -> None:
    sizing = size(CATALOG.model("phi-3-mini-4k-instruct"), CATALOG.sku("Standard_NC24ads_A100_v4"))
    assert (sizing.nodes, sizing.runtime, sizing.notes) == (1, "vllm", ())


def test_what_does_not_fit_is_told_needed_available_and_the_smallest_type_of_the_cloud_that_fits() -> None:
    with pytest.raises(DoesNotFit) as caught:
        size(CATALOG.model("falcon-40b"), WALK_THROUGH_SKU)
    error = caught.value
    assert (error.needed_gib, error.available_gib) == (90, 16)
    assert error.suggestions[0] == "Standard_NC48ads_A100_v4"
    for part in (
        "falcon-40b needs 90.0 GiB",
        "Standard_NC6s_v3 (1 x 16 GiB NVIDIA V100) has 16.0 GiB",
        "Standard_NC48ads",
    ):
        assert part in str(error)


def test_suggestions_come_from_the_given_catalogue() -> None:
    catalog = Catalog([], [node(2, 200)])
    with pytest.raises(DoesNotFit, match="choose 2x200"):
        size(CATALOG.model("falcon-40b"), node(1, 16), catalog=catalog)


def test_nothing_is_suggested_where_nothing_fits() -> None:
    with pytest.raises(DoesNotFit) as caught:
        size(CATALOG.model("falcon-40b"), node(1, 16), catalog=Catalog([], []))
    assert caught.value.suggestions == ()
    assert "choose" not in str(caught.value)


@pytest.mark.parametrize(
    ("model", "sku", "cause"),
    [
        ("phi-4-mini-instruct", "Standard_NC6s_v3", r"runs on vllm, which needs CUDA 8\.0; .* has CUDA 7\.0"),
        ("gpt-oss-20b", "Standard_NC6s_v3", r"is quantised \(mxfp4\) and so needs bfloat16"),
        ("gemma-3-4b-it", "Standard_NC6s_v3", "cannot be run in float16"),
        ("phi-4", "Standard_NG32ads_V620_v1", "only NVIDIA GPUs can; choose Standard_NV"),
    ],
)
def test_gpus_that_cannot_run_the_model_are_told_why(model: str, sku: str, cause: str) -> None:
    with pytest.raises(CannotRun, match=cause):
        size(CATALOG.model(model), CATALOG.sku(sku))


def test_a_runtime_that_was_asked_for_is_not_swapped_for_another() -> None:
    with pytest.raises(CannotRun, match=r"runs on vllm, which needs CUDA 8\.0"):
        size(CATALOG.model("phi-3-mini-4k-instruct"), WALK_THROUGH_SKU, runtime="vllm")
    with pytest.raises(CannotRun, match="does not run on transformers; it runs on vllm"):
        size(CATALOG.model("phi-4-mini-instruct"), CATALOG.sku("Standard_NC24ads_A100_v4"), runtime="transformers")


def test_a_context_longer_than_the_models_is_refused() -> None:
    with pytest.raises(CannotRun, match=r"takes 4096 tokens at most; lower max-model-len \(4097\)"):
        size(CATALOG.model("phi-3-mini-4k-instruct"), WALK_THROUGH_SKU, max_model_len=4097)


def test_a_long_context_counts_where_the_presets_figure_has_no_room_for_it() -> None:
    preset = CATALOG.model("phi-3-mini-128k-instruct")
    assert size(preset, WALK_THROUGH_SKU, max_model_len=8192).nodes == 1
    with pytest.raises(DoesNotFit, match="context 131072 tokens"):
        size(preset, WALK_THROUGH_SKU, max_model_len=131072)


def test_a_key_value_cache_that_fills_the_gpu_is_not_cured_by_more_nodes() -> None:
    with pytest.raises(DoesNotFit, match="more nodes would not help") as caught:
        size(CATALOG.model("phi-3-mini-128k-instruct"), CATALOG.sku("g5.xlarge"), max_model_len=131072)
    assert caught.value.needed_gib > caught.value.available_gib


def test_a_higher_count_is_kept_and_noted() -> None:
    sizing = size(CATALOG.model("phi-4"), CATALOG.sku("Standard_NC24ads_A100_v4"), count=3)
    assert (sizing.nodes, sizing.minimum_nodes) == (3, 1)
    assert "needs 1 node of Standard_NC24ads_A100_v4; 3 were asked for" in sizing.notes[0]


def test_a10_leaves_vllm_less_than_others_of_its_size() -> None:
    def available_gib(sku: str) -> float:
        return size(CATALOG.model("phi-3-mini-4k-instruct"), CATALOG.sku(sku)).available_gib

    assert available_gib("Standard_NV36ads_A10_v5") == pytest.approx(24 * 0.82)
    assert available_gib("g5.xlarge") == pytest.approx(24 * 0.84)


def test_the_gpu_count_and_the_memory_of_each_gpu_that_a_preset_asks_for_hold() -> None:
    preset = CATALOG.model("llama-3.3-70b-instruct")
    assert fits(preset, node(4, 80), runtime="transformers")
    assert not fits(preset, node(8, 40), runtime="transformers")
    assert not fits(preset, node(3, 141), runtime="transformers")


def test_one_node_is_preferred_to_a_smaller_type_that_needs_several() -> None:
    small, large = node(1, 24), node(1, 80)
    assert fitting(CATALOG.model("phi-4"), [small, large], runtime="vllm") == (large, small)


@pytest.mark.parametrize("arguments", [{"count": 0}, {"max_model_len": 0}])
def test_numbers_below_one_are_a_callers_mistake(arguments: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be 1 or more") as caught:
        size(CATALOG.model("phi-4"), WALK_THROUGH_SKU, **arguments)  # type: ignore[arg-type]
    assert not isinstance(caught.value, SizingError)


presets = st.sampled_from(sorted(CATALOG.models.values(), key=lambda preset: preset.name))
skus = st.sampled_from(sorted(CATALOG.skus.values(), key=lambda sku: sku.name))
gpu_counts = st.sampled_from([1, 2, 4, 8, 16])
memories_gib = st.floats(min_value=4, max_value=300)
growths = st.floats(min_value=1, max_value=4)
capabilities = st.sampled_from([(7, 0), (7, 5), (8, 0), (9, 0)])
contexts = st.none() | st.integers(min_value=1, max_value=200_000)


def nodes_of(preset: ModelPreset, sku: GpuSku, max_model_len: int | None) -> float:
    try:
        return size(preset, sku, max_model_len=max_model_len).nodes
    except SizingError:
        return float("inf")


@given(presets, gpu_counts, memories_gib, growths, capabilities, contexts)
def test_more_memory_never_takes_more_nodes(
    preset: ModelPreset, gpus: int, memory_gib: float, growth: float, capability: tuple[int, int], context: int | None
) -> None:
    before = nodes_of(preset, node(gpus, memory_gib, capability), context)
    assert nodes_of(preset, node(gpus, memory_gib * growth, capability), context) <= before


@given(presets, gpu_counts, memories_gib, capabilities, contexts)
def test_more_gpus_in_a_node_never_take_more_nodes(
    preset: ModelPreset, gpus: int, memory_gib: float, capability: tuple[int, int], context: int | None
) -> None:
    before = nodes_of(preset, node(gpus, memory_gib, capability), context)
    assert nodes_of(preset, node(gpus * 2, memory_gib, capability), context) <= before


@given(presets, skus, st.integers(min_value=1, max_value=100_000), st.integers(min_value=0, max_value=100_000))
def test_a_longer_context_never_takes_fewer_nodes(preset: ModelPreset, sku: GpuSku, context: int, more: int) -> None:
    assert nodes_of(preset, sku, context + more) >= nodes_of(preset, sku, context)


@given(presets, gpu_counts, memories_gib, st.sampled_from(["vllm", "transformers"]), growths)
def test_a_lighter_model_never_takes_more_nodes(
    preset: ModelPreset, gpus: int, memory_gib: float, runtime: str, growth: float
) -> None:
    lighter = preset.model_copy(update={"weights_gib": preset.weights_gib / growth, "runtimes": (runtime,)})
    heavier = preset.model_copy(update={"runtimes": (runtime,)})
    assert nodes_of(lighter, node(gpus, memory_gib), None) <= nodes_of(heavier, node(gpus, memory_gib), None)


@given(presets, skus, contexts, st.integers(min_value=1, max_value=20))
def test_what_is_sized_has_the_memory_it_needs_and_the_nodes_asked_for(
    preset: ModelPreset, sku: GpuSku, context: int | None, count: int
) -> None:
    try:
        sizing = size(preset, sku, max_model_len=context, count=count)
    except SizingError:
        assume(False)
    assert sizing.needed_gib <= sizing.available_gib + 1e-9  # the parts are summed in another order
    assert sizing.nodes == max(count, sizing.minimum_nodes)
    assert sizing.gpus_per_node == sku.gpu_count
    assert sizing.minimum_nodes == 1 or (preset.distributed and sizing.runtime == "vllm")
    assert sizing.runtime in usable_runtimes(preset, sku)
    assert fits(preset, sku, max_model_len=context) == (sizing.minimum_nodes == 1)


@given(presets, skus, contexts)
def test_every_suggestion_can_serve_the_model_and_comes_from_the_same_cloud(
    preset: ModelPreset, sku: GpuSku, context: int | None
) -> None:
    try:
        size(preset, sku, max_model_len=context)
    except SizingError as error:
        for name in error.suggestions:
            suggested = CATALOG.sku(name, cloud=sku.cloud)
            assert size(preset, suggested, max_model_len=context).nodes >= 1
    else:
        assume(False)


@given(presets, skus, contexts)
def test_equal_questions_get_equal_answers(preset: ModelPreset, sku: GpuSku, context: int | None) -> None:
    def answer() -> Sizing | str:
        try:
            return size(preset, sku, max_model_len=context)
        except SizingError as error:
            return str(error)

    assert answer() == answer()
