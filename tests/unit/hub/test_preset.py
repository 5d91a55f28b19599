"""preset_of: a catalogue entry from files and config.json, or why there can be none."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaito.catalog import ModelPreset
from kaito.hub import ModelUnusable
from kaito.hub.figures import HubFile
from kaito.hub.preset import preset_of
from tests.operating.fake_hub import LLAMA

DEEPSEEK = {
    "architectures": ["DeepseekV3ForCausalLM"],
    "num_hidden_layers": 61,
    "kv_lora_rank": 512,
    "qk_rope_head_dim": 64,
    "max_position_embeddings": 163840,
    "quantization_config": {"quant_method": "fp8"},
}


def made(config: dict[str, object], gib: float = 15.0, model_id: str = "Org/Some-Model") -> ModelPreset:
    return preset_of(model_id, [HubFile("model.safetensors", int(gib * 2**30))], config, "a test")


def test_an_entry_has_the_figures_that_kaito_gives_such_a_model() -> None:
    found = made(LLAMA, 14.96)
    assert (found.name, found.huggingface_id) == ("some-model", "Org/Some-Model")
    assert (found.weights_gib, found.disk_gib, found.readiness_timeout_minutes) == (14.96, 94, 30)
    assert (found.attention, found.kv_bytes_per_token, found.context_tokens) == ("GQA", 131072, 8192)
    assert (found.quantization, found.dtype, found.license) == (None, "bfloat16", "unknown")


@pytest.mark.parametrize(("gib", "minutes"), [(7, 30), (61.03, 33), (131.42, 54), (328.13, 113), (641.3, 180)])
def test_big_weights_take_their_time_to_load(gib: float, minutes: int) -> None:
    assert made(LLAMA, gib).readiness_timeout_minutes == minutes


@pytest.mark.parametrize(
    ("changes", "runtimes"),
    [
        ({}, ("vllm", "transformers")),
        ({"auto_map": {"AutoModel": "own.Code"}}, ("vllm",)),
        ({"quantization_config": {"quant_method": "awq"}}, ("vllm",)),
        ({"architectures": ["Gemma3ForConditionalGeneration"], "text_config": LLAMA}, ("vllm",)),
    ],
    ids=["plain", "code of its own", "quantised", "with pictures"],
)
def test_transformers_is_for_plain_text_models(changes: dict[str, object], runtimes: tuple[str, ...]) -> None:
    assert made({**LLAMA, **changes}).runtimes == runtimes


@pytest.mark.parametrize(
    ("changes", "float16"),
    [
        ({}, False),
        ({"torch_dtype": "float16"}, True),
        ({"torch_dtype": None, "dtype": "float16"}, True),
        ({"torch_dtype": None, "text_config": {"torch_dtype": "float16"}}, True),
        ({"torch_dtype": None}, False),
        ({"torch_dtype": ["float16"]}, False),
    ],
)
def test_only_float16_weights_are_run_in_float16(changes: dict[str, object], float16: bool) -> None:
    assert made({**LLAMA, **changes}).float16 == float16


def test_a_model_with_compressed_attention_is_told_as_such() -> None:
    found = made(DEEPSEEK, 641.3)
    assert (found.attention, found.kv_bytes_per_token) == ("MLA", 70272)
    assert (found.quantization, found.dtype, found.runtimes) == ("fp8", "auto", ("vllm",))


@pytest.mark.parametrize("model_id", ["a/b", "Org/Model_", "0-1/2.3-", "a/" + "x" * 96])
def test_whatever_an_id_looks_like_an_entry_can_be_made_of_it(model_id: str) -> None:
    assert made(LLAMA, model_id=model_id).huggingface_id == model_id


@pytest.mark.parametrize(
    ("config", "gib", "said"),
    [
        ({**LLAMA, "architectures": ["BertModel"]}, 1, 'architecture "BertModel", and only *ForCausalLM'),
        ({**LLAMA, "architectures": []}, 1, "no architecture in its config.json"),
        ({**LLAMA, "architectures": "LlamaForCausalLM"}, 1, "no architecture"),
        ({"architectures": ["XForCausalLM"]}, 1, "none of num_hidden_layers"),
        (LLAMA, 0, "no weights (*.safetensors or *.bin); a repository of GGUF"),
        (LLAMA, 5000, "5000 GiB, and more than 4096 are taken for a mistake"),
    ],
    ids=["other architecture", "none", "a text", "no layers", "no weights", "too big"],
)
def test_what_cannot_be_served_is_told_with_its_name_and_cause(
    config: dict[str, object], gib: float, said: str
) -> None:
    with pytest.raises(ModelUnusable) as refused:
        made(config, gib)
    assert str(refused.value).startswith("Org/Some-Model: ")
    assert said in str(refused.value)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["float16", "LlamaForCausalLM", "x" * 200]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(sorted(LLAMA)), inner, max_size=4),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from([*LLAMA, "text_config", "quantization_config", "auto_map"]), JSON))
def test_whatever_a_config_says_there_is_an_entry_or_a_reason(changes: dict[str, object]) -> None:
    with contextlib.suppress(ModelUnusable):
        entry = made({**LLAMA, **changes})
        assert ModelPreset.model_validate_json(entry.model_dump_json(exclude_defaults=True)) == entry
