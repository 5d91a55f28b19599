"""Models and instance types by name, as users type them, and what they are told when a name is not known."""

from __future__ import annotations

import subprocess
import sys
from functools import partial

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError

from kaito.catalog import Catalog, GpuSku, ModelPreset, UnknownModel, UnknownSku
from kaito.sizing import fits

CATALOG = Catalog.load()
ENTRIES: list[ModelPreset | GpuSku] = [*CATALOG.models.values(), *CATALOG.skus.values()]
KNOWN = {key.lower() for entry in ENTRIES for key in entry.keys}

HISTORIC_PRESETS = [
    "falcon-7b",
    "falcon-7b-instruct",
    "falcon-40b",
    "falcon-40b-instruct",
    "mistral-7b",
    "mistral-7b-instruct",
    "phi-2",
    "phi-3-mini-4k-instruct",
    "phi-3-mini-128k-instruct",
    "phi-3.5-mini-instruct",
    "phi-3-medium-4k-instruct",
    "phi-3-medium-128k-instruct",
    "phi-4",
    "phi-4-mini-instruct",
    "qwen2.5-coder-7b-instruct",
    "qwen2.5-coder-32b-instruct",
    "deepseek-r1-distill-llama-8b",
    "deepseek-r1-distill-qwen-14b",
    "deepseek-r1-0528",
    "deepseek-v3-0324",
    "llama-3.1-8b-instruct",
    "llama-3.3-70b-instruct",
    "llama-2-7b",
    "llama-2-7b-chat",
    "llama-2-13b",
    "llama-2-13b-chat",
    "llama-2-70b",
    "llama-2-70b-chat",
    "gpt-oss-20b",
    "gpt-oss-120b",
    "gemma-3-4b-instruct",
    "gemma-3-27b-instruct",
    "ministral-3-3b-instruct",
    "ministral-3-8b-instruct",
    "ministral-3-14b-instruct",
    "mistral-large-3-675b-instruct",
]


@pytest.mark.parametrize("name", HISTORIC_PRESETS)
def test_every_preset_of_kaitos_releases_is_found(name: str) -> None:
    assert CATALOG.model(name).weights_gib > 0


@pytest.mark.parametrize(
    "name",
    [
        "phi-3-mini-4k-instruct",
        "Phi-3-Mini-4K-Instruct",
        "microsoft/Phi-3-mini-4k-instruct",
        "MICROSOFT/PHI-3-MINI-4K-INSTRUCT",
    ],
)
def test_a_model_is_found_by_name_and_hugging_face_id_in_any_case(name: str) -> None:
    assert CATALOG.model(name).name == "phi-3-mini-4k-instruct"


def test_an_alias_finds_the_model_under_its_present_name() -> None:
    assert CATALOG.model("mistral-7b").name == "mistral-7b-v0.3"


@pytest.mark.parametrize(("name", "context_tokens"), [("4k", 4096), ("128k", 131072)])
def test_the_presets_of_the_walk_through_are_complete(name: str, context_tokens: int) -> None:
    preset = CATALOG.model(f"phi-3-mini-{name}-instruct")
    missing = {field for field, value in preset if value is None}
    assert missing == {"quantization", "successor", "min_gpu_memory_gib", "tool_call_parser", "reasoning_parser"}
    assert (preset.context_tokens, preset.kv_bytes_per_token) == (context_tokens, 393216)
    assert set(preset.runtimes) == {"vllm", "transformers"}
    assert preset.readiness_timeout_s == 1800


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("phi-3-mini-4k-instrct", "phi-3-mini-4k-instruct"),
        ("phi-3-mini", "phi-3-mini-4k-instruct"),
        ("phi3mini4kinstruct", "phi-3-mini-4k-instruct"),
        ("falcon7b", "falcon-7b"),
        ("llama3.1", "llama-3.1-8b-instruct"),
        ("microsft/phi-4", "phi-4"),
    ],
)
def test_an_unknown_model_is_told_the_nearest_first(typed: str, meant: str) -> None:
    with pytest.raises(UnknownModel) as caught:
        CATALOG.model(typed)
    assert caught.value.nearest[0] == meant
    assert repr(typed) in str(caught.value)
    assert "did you mean " in str(caught.value)
    assert meant in str(caught.value).lower()
    assert "kaito models" in str(caught.value)


@pytest.mark.parametrize("typed", ["phi-22", "microsoft/phi2"])
def test_nobody_is_led_to_a_deprecated_model(typed: str) -> None:
    with pytest.raises(UnknownModel) as caught:
        CATALOG.model(typed)
    assert caught.value.did_you_mean != "phi-2"
    assert "phi-2" not in caught.value.nearest


def test_what_is_like_nothing_here_is_not_likened_to_anything() -> None:
    with pytest.raises(UnknownModel, match=r"^model 'bert' is not in the catalogue; see all with: kaito models$"):
        CATALOG.model("bert")
    with pytest.raises(UnknownSku, match=r"^instance type 'Standard_D4s_v3' is not .*; see all with: kaito skus$"):
        CATALOG.sku("Standard_D4s_v3", cloud="azure")


@given(st.text(max_size=3000))
def test_whatever_a_user_types_gets_an_answer_of_one_short_line(typed: str) -> None:
    assume(typed.lower() not in KNOWN)
    with pytest.raises(UnknownModel) as model:
        CATALOG.model(typed)
    with pytest.raises(UnknownSku) as sku:
        CATALOG.sku(typed)
    assert len(model.value.nearest) == len(sku.value.nearest) == 3
    for message in (str(model.value), str(sku.value)):
        assert len(message.splitlines()) == 1
        assert len(message) < 1500


def test_an_instance_type_is_found_in_any_case() -> None:
    assert CATALOG.sku("standard_nc6S_V3").name == "Standard_NC6s_v3"


def test_the_instance_type_of_the_walk_through_is_one_v100_without_bfloat16() -> None:
    sku = CATALOG.sku("Standard_NC6s_v3", cloud="azure")
    assert (sku.gpu_count, sku.total_gpu_memory_gib, sku.gpu.cuda_capability) == (1, 16, (7, 0))
    assert sku.gpu.product == "Tesla-V100-PCIE-16GB"
    assert not sku.gpu.has_bfloat16
    assert sku.schedulable


def test_an_unknown_instance_type_is_told_the_nearest_of_its_cloud() -> None:
    with pytest.raises(UnknownSku, match="Standard_NC6s_v3") as caught:
        CATALOG.sku("Standard_NC6_v3", cloud="azure")
    assert caught.value.nearest[0] == "Standard_NC6s_v3"
    assert {CATALOG.sku(name).cloud for name in caught.value.nearest} == {"azure"}
    assert "kaito skus" in str(caught.value)


def test_an_unknown_instance_type_is_told_the_smallest_that_fit_the_model() -> None:
    preset = CATALOG.model("falcon-40b")
    with pytest.raises(UnknownSku, match="smallest that fit the model") as caught:
        CATALOG.sku("Standard_D4s_v3", cloud="azure", fits=partial(fits, preset))
    assert len(caught.value.fitting) == 3
    sizes = [CATALOG.sku(name).total_gpu_memory_gib for name in caught.value.fitting]
    assert sizes == sorted(sizes)
    assert all(fits(preset, CATALOG.sku(name)) for name in caught.value.fitting)


@pytest.mark.parametrize(("name", "cloud"), [("Standard_NC6_v9", "azure"), ("g5.3xlarge", "aws")])
def test_types_that_fit_are_those_of_the_cloud_whose_names_look_like_the_given_one(name: str, cloud: str) -> None:
    with pytest.raises(UnknownSku) as caught:
        CATALOG.sku(name, fits=partial(fits, CATALOG.model("phi-3-mini-4k-instruct")))
    assert {CATALOG.sku(each).cloud for each in caught.value.fitting} == {cloud}


def test_an_instance_type_of_another_cloud_is_refused_by_saying_whose_it_is() -> None:
    with pytest.raises(UnknownSku, match=r"p5\.48xlarge.* is one of aws, not of azure"):
        CATALOG.sku("p5.48xlarge", cloud="azure")


def test_retired_and_foreign_types_are_not_offered() -> None:
    offered = {sku.name for sku in CATALOG.skus_of(None)}
    assert "Standard_NC6s_v3" not in offered
    assert "g4ad.xlarge" not in offered
    assert "Standard_NC24ads_A100_v4" in offered


def test_only_nvidia_types_are_schedulable() -> None:
    assert {sku.gpu.vendor for sku in CATALOG.skus.values() if sku.schedulable} == {"nvidia"}
    assert {sku.gpu.vendor for sku in CATALOG.skus.values() if not sku.schedulable} == {"amd", "aws"}


def test_entries_and_the_catalogue_cannot_be_changed() -> None:
    preset = CATALOG.model("phi-4")
    with pytest.raises(ValidationError, match="frozen"):
        preset.weights_gib = 1
    with pytest.raises(TypeError):
        CATALOG.models["mine"] = preset  # type: ignore[index]
    assert isinstance(hash(preset), int)


def test_the_files_are_not_read_on_import() -> None:
    program = "import sys, kaito.catalog, kaito.sizing; sys.exit('yaml' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_quantised_weights_say_their_own_dtype() -> None:
    def dtype(name: str) -> str:
        return CATALOG.model(name).dtype

    assert (dtype("gpt-oss-20b"), dtype("phi-4")) == ("auto", "bfloat16")


@pytest.mark.parametrize("preset", CATALOG.models.values(), ids=lambda preset: preset.name)
def test_every_model_fits_its_own_disk(preset: ModelPreset) -> None:
    assert preset.disk_gib > preset.weights_gib


@pytest.mark.parametrize(
    "preset", [preset for preset in CATALOG.models.values() if preset.deprecated], ids=lambda preset: preset.name
)
def test_a_deprecated_model_has_a_successor_that_runs_and_is_tuned_wherever_it_is(preset: ModelPreset) -> None:
    assert preset.successor is not None
    successor = CATALOG.model(preset.successor)
    assert set(preset.runtimes) <= set(successor.runtimes)
    assert successor.tuning is not None or preset.tuning is None
    served = {sku.name for sku in CATALOG.skus.values() if fits(preset, sku)}
    assert served <= {sku.name for sku in CATALOG.skus.values() if fits(successor, sku)}
