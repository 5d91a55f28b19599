"""Adapters as PEFT writes them, of any architecture, and those that are refused with what to do."""

from __future__ import annotations

import copy
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, OPTConfig, Phi3Config, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from kaito.inference.errors import StartError
from kaito.inference.lora import Adapters

# PEFT asks transformers for something by its old name.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")

TOKENS = torch.arange(12).view(2, 6) + 3
SMALL = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
CONFIGS: dict[str, Callable[[], Any]] = {
    "llama": lambda: LlamaConfig(**SMALL, intermediate_size=48, num_key_value_heads=1),
    # Conv1D, which keeps its weights the other way round.
    "gpt2": lambda: GPT2Config(vocab_size=64, n_embd=32, n_layer=2, n_head=2, n_positions=64),
    # Flattens batch and sequence into one dimension before fc1.
    "opt": lambda: OPTConfig(**SMALL, ffn_dim=48, word_embed_proj_dim=32, max_position_embeddings=64),
    "phi3": lambda: Phi3Config(**SMALL, intermediate_size=48, pad_token_id=0),
}
ADAPTERS: dict[str, tuple[str, dict[str, Any]]] = {
    "a-list-of-modules": ("llama", {"target_modules": ["q_proj", "down_proj"]}),
    "a-pattern-of-modules": ("llama", {"target_modules": r".*\.1\.(self_attn|mlp)\.(k|v|up)_proj"}),
    "all-linear": ("llama", {"target_modules": "all-linear"}),
    "some-layers": ("llama", {"target_modules": ["o_proj"], "layers_to_transform": [1], "layers_pattern": "layers"}),
    "rslora": ("llama", {"target_modules": ["q_proj"], "use_rslora": True, "lora_alpha": 3}),
    "patterns": (
        "llama",
        {
            "target_modules": ["q_proj", "v_proj"],
            "rank_pattern": {r"layers\.0\.self_attn\.q_proj": 2, "v_proj": 6},
            "alpha_pattern": {"v_proj": 12},
        },
    ),
    "conv1d": ("gpt2", {"target_modules": ["c_attn", "c_proj", "c_fc"], "fan_in_fan_out": True}),
    "flat": ("opt", {"target_modules": ["q_proj", "fc1", "fc2"]}),
    # KAITO's own names for Phi-3, of which the fused model has only two.
    "names-of-unfused": (
        "phi3",
        {"target_modules": ["k_proj", "q_proj", "v_proj", "o_proj", "gate_proj", "down_proj", "up_proj"]},
    ),
    "dots.in:its.name": ("llama", {"target_modules": ["q_proj"]}),
}


def small_model(kind: str) -> PreTrainedModel:
    torch.manual_seed(0)
    config = CONFIGS[kind]()
    model: PreTrainedModel = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)](config).eval()
    return model


def save(model: PreTrainedModel, folder: Path, **settings: Any) -> Path:
    config = LoraConfig(**{"task_type": "CAUSAL_LM", "r": 4, "init_lora_weights": False, **settings})
    get_peft_model(copy.deepcopy(model), config).save_pretrained(folder)
    return folder


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = model(TOKENS).logits
    return found


@pytest.mark.parametrize("name", ADAPTERS)
def test_any_adapter_that_peft_writes_computes_what_peft_computes(name: str, tmp_path: Path) -> None:
    kind, settings = ADAPTERS[name]
    model = small_model(kind)
    folder = save(model, tmp_path / name, **settings)
    theirs = logits(PeftModel.from_pretrained(copy.deepcopy(model), folder, adapter_name="any").eval())
    base = logits(model)
    adapters = Adapters.attach(model, tmp_path, {})
    with adapters.applied(adapters.weights([{}, {name: 1.0}])):
        mixed = logits(model)
    torch.testing.assert_close(mixed[1], theirs[1], rtol=0, atol=1e-5)
    torch.testing.assert_close(mixed[0], base[0], rtol=0, atol=1e-5)
    assert (mixed[1] - base[1]).abs().max() > 1e-3


def test_adapters_that_share_only_some_modules_are_exact_together(tmp_path: Path) -> None:
    model = small_model("llama")
    save(model, tmp_path / "a", target_modules=["q_proj", "up_proj"], r=3)
    save(model, tmp_path / "b", target_modules=["up_proj", "down_proj"], r=5, use_rslora=True, lora_alpha=2)
    theirs = PeftModel.from_pretrained(copy.deepcopy(model), tmp_path / "a", adapter_name="a")
    theirs.load_adapter(tmp_path / "b", adapter_name="b")
    theirs.base_model.set_adapter(["a", "b"])
    adapters = Adapters.attach(model, tmp_path, {})
    with adapters.applied(adapters.weights([{"a": 1.0, "b": 1.0}] * 2)):
        torch.testing.assert_close(logits(model), logits(theirs.eval()), rtol=0, atol=1e-5)


def test_bfloat16_models_add_adapters_in_float32_as_peft_does(tmp_path: Path) -> None:
    model = small_model("llama").to(torch.bfloat16)
    folder = save(model, tmp_path / "a", target_modules="all-linear")
    theirs = logits(PeftModel.from_pretrained(copy.deepcopy(model), folder, adapter_name="a").eval())
    adapters = Adapters.attach(model, tmp_path, {})
    with adapters.applied(adapters.weights([{"a": 1.0}] * 2)):
        found = logits(model)
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, theirs)


@pytest.fixture
def adapter(tiny: Path, tmp_path: Path) -> Path:
    """A folder of adapters with one that may be spoilt."""
    shutil.copytree(tiny / "adapters" / "two", tmp_path / "adapters" / "legal")
    return tmp_path / "adapters" / "legal"


def refusal(tiny: Path, adapter: Path, **strengths: float) -> str:
    model = AutoModelForCausalLM.from_pretrained(tiny / "model")
    before = str(model)
    with pytest.raises(StartError) as refused:
        Adapters.attach(model, adapter.parent, strengths)
    assert str(model) == before, "nothing is put into the model before all is known to fit"
    [line] = str(refused.value).splitlines()
    return line


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"use_dora": True}, "adapter legal: use_dora is set, and only plain LoRA is served; train it without"),
        ({"lora_bias": True}, "lora_bias is set"),
        ({"use_bdlora": {"nblocks": 2}}, "use_bdlora is set"),
        ({"velora_config": {"num_groups": 2}}, "velora_config is set"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save is set"),
        ({"layer_replication": [[0, 2], [1, 2]]}, "layer_replication is set"),
        ({"bias": "all"}, 'bias is "all"; only "none" is served'),
        ({"peft_type": "IA3"}, 'peft_type is "IA3"; only LORA is served'),
        ({"init_lora_weights": "pissa_niter_4"}, "path_initial_model_for_weight_conversion"),
        ({"r": 6}, "its rank in adapter_config.json is 6"),
        ({"lora_alpha": "8"}, 'is "8"; it must be a number above 0'),
        ({"rank_pattern": {"qkv_(proj": 4}}, "is no regular expression"),
        ({"rank_pattern": ["qkv_proj"]}, "rank_pattern must be an object"),
    ],
)
def test_what_is_more_than_plain_lora_is_refused_by_its_key(
    tiny: Path, adapter: Path, changes: dict[str, Any], says: str
) -> None:
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps(config | changes))
    assert says in refusal(tiny, adapter)


def test_keys_of_a_newer_peft_are_ignored(tiny: Path, adapter: Path) -> None:
    config = json.loads((adapter / "adapter_config.json").read_text())
    unset = {"use_dora": False, "modules_to_save": [], "velora_config": None, "init_lora_weights": "gaussian"}
    (adapter / "adapter_config.json").write_text(json.dumps(config | unset | {"peft_version": "9", "tomorrow": [1]}))
    model = AutoModelForCausalLM.from_pretrained(tiny / "model")
    assert [each.name for each in Adapters.attach(model, adapter.parent, {}).all] == ["legal"]


def test_names_without_the_prefix_of_peft_are_taken_too(tiny: Path, adapter: Path) -> None:
    weights = load_file(adapter / "adapter_model.safetensors")
    bare = {key.removeprefix("base_model.model."): value for key, value in weights.items()}
    save_file(bare, adapter / "adapter_model.safetensors")
    model = AutoModelForCausalLM.from_pretrained(tiny / "model")
    assert [each.rank for each in Adapters.attach(model, adapter.parent, {}).all] == [4]


@pytest.mark.parametrize("text", ["{", "[]", "\N{SNOWMAN}"])
def test_a_config_that_is_no_json_object_is_refused(tiny: Path, adapter: Path, text: str) -> None:
    (adapter / "adapter_config.json").write_text(text)
    assert refusal(tiny, adapter).startswith("adapter legal: adapter_config.json ")


def rewrite(adapter: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    weights = load_file(adapter / "adapter_model.safetensors")
    change(weights)
    save_file(weights, adapter / "adapter_model.safetensors")


KEY = "base_model.model.model.layers.0.self_attn.qkv_proj.lora_{}.weight"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            lambda weights: weights.update({KEY.format("magnitude_vector"): torch.ones(3)}),
            "has base_model.model.model.layers.0.self_attn.qkv_proj.lora_magnitude_vector.weight, where only lora_A",
        ),
        (lambda weights: weights.pop(KEY.format("B")), "has no model.layers.0.self_attn.qkv_proj.lora_B.weight"),
        (lambda weights: weights.clear(), "has no weights"),
        (lambda weights: weights.update({KEY.format("A"): torch.ones(4, 65)}), "takes 64 features"),
        (lambda weights: weights.update({KEY.format("A"): torch.ones(4)}), "has lora_A of shape [4]"),
        (
            lambda weights: weights.update(
                {
                    f"base_model.model.model.layers.{layer}.self_attn.q_proj.lora_{half}.weight": torch.ones(4, 4)
                    for layer in range(5)
                    for half in "AB"
                }
            ),
            "the model has no model.layers.0.self_attn.q_proj, model.layers.1.self_attn.q_proj, "
            "model.layers.2.self_attn.q_proj and 2 more; it has linear layers such as "
            "model.layers.0.self_attn.o_proj, model.layers.0.self_attn.qkv_proj",
        ),
        (
            lambda weights: weights.update(
                {f"base_model.model.lm_head.lora_{half}.weight": torch.ones(4, 4) for half in "AB"}
            ),
            "it changes lm_head, a Linear; only linear layers are served, without lm_head",
        ),
        (
            lambda weights: weights.update(
                {f"base_model.model.model.norm.lora_{half}.weight": torch.ones(4, 4) for half in "AB"}
            ),
            "it changes model.norm, a Phi3RMSNorm; only linear layers are served",
        ),
    ],
    ids=["another-tensor", "half", "nothing", "width", "vector", "unknown-modules", "lm_head", "norm"],
)
def test_weights_that_do_not_fit_are_refused_by_name(
    tiny: Path, adapter: Path, change: Callable[[dict[str, torch.Tensor]], Any], says: str
) -> None:
    rewrite(adapter, change)
    assert says in refusal(tiny, adapter)


def test_damaged_weights_are_refused(tiny: Path, adapter: Path) -> None:
    path = adapter / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    assert re.match(
        r"adapter legal: adapter_model.safetensors is damaged \(.+\); copy it again", refusal(tiny, adapter)
    )


def test_a_folder_without_weights_is_refused(tiny: Path, adapter: Path) -> None:
    (adapter / "adapter_model.safetensors").unlink()
    assert "there is no adapter_model.safetensors beside adapter_config.json" in refusal(tiny, adapter)


def test_a_pickle_is_not_read_and_the_refusal_converts_it(tiny: Path, adapter: Path, tmp_path: Path) -> None:
    weights = load_file(adapter / "adapter_model.safetensors")
    (adapter / "adapter_model.safetensors").unlink()
    torch.save(weights, adapter / "adapter_model.bin")
    line = refusal(tiny, adapter)
    assert "adapter_model.bin, a pickle, which can run code" in line
    [code] = re.findall(r'python -c "(.+)"', line)
    exec(code.replace("'adapter_model", f"'{adapter}/adapter_model"))
    assert load_file(adapter / "adapter_model.safetensors").keys() == weights.keys()


def test_a_strength_for_no_adapter_is_refused_with_what_may_be_meant(tiny: Path, adapter: Path) -> None:
    assert refusal(tiny, adapter, legla=0.5) == (
        "a strength is given for adapter legla, which is not there; there are: legal; did you mean legal?"
    )


@pytest.mark.parametrize("strength", [float("nan"), float("inf")])
def test_a_strength_is_a_finite_number(tiny: Path, adapter: Path, strength: float) -> None:
    assert refusal(tiny, adapter, legal=strength).startswith(f"adapter legal: its strength is {strength}; it must")


def test_a_folder_of_adapters_that_is_not_there_is_refused(tiny: Path, adapter: Path) -> None:
    assert "cannot be read: No such file or directory" in refusal(tiny, adapter / "x" / "y")


def test_folders_that_are_no_adapters_are_passed_over(tiny: Path, adapter: Path) -> None:
    for name in ("lost+found", "notes"):
        (adapter.parent / name).mkdir()
    shutil.copytree(adapter, adapter.parent / ".hidden")
    (adapter.parent / "README").write_text("not a folder")
    model = AutoModelForCausalLM.from_pretrained(tiny / "model")
    assert [each.name for each in Adapters.attach(model, adapter.parent, {}).all] == ["legal"]


def test_what_a_file_system_keeps_at_the_top_of_a_volume_is_not_looked_into(tiny: Path, adapter: Path) -> None:
    shutil.copytree(adapter, adapter.parent / "lost+found")
    model = AutoModelForCausalLM.from_pretrained(tiny / "model")
    assert [each.name for each in Adapters.attach(model, adapter.parent, {}).all] == ["legal"]


def test_a_folder_that_cannot_be_looked_into_is_named(tiny: Path, adapter: Path) -> None:
    torn = adapter.parent / "torn"
    torn.mkdir()
    # Root may look into any; so nobody can follow this.
    (torn / "adapter_config.json").symlink_to("x" * 300)
    assert "adapter torn: its folder cannot be read: File name too long" in refusal(tiny, adapter)
