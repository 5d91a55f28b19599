"""Models in folders: any causal language model loads offline, and whatever is wrong with one is one line."""

from __future__ import annotations

import json
import logging
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    BloomConfig,
    FalconConfig,
    Gemma3Config,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    OPTConfig,
    Qwen2Config,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from kaito.inference.errors import StartError
from kaito.inference.loading import LoadedModel, load_model
from kaito.inference.lora import Adapters
from kaito.inference.options import ModelOptions

SMALL = {"vocab_size": 512, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
GROUPED = {**SMALL, "intermediate_size": 48, "num_key_value_heads": 1}
ARCHITECTURES: dict[str, tuple[Callable[[], Any], int]] = {
    "llama": (
        lambda: LlamaConfig(**GROUPED, max_position_embeddings=256),
        256,
    ),
    "mistral": (
        lambda: MistralConfig(**GROUPED, max_position_embeddings=300),
        300,
    ),
    "qwen2-tied": (
        lambda: Qwen2Config(**GROUPED, tie_word_embeddings=True),
        2048,
    ),
    "gpt2": (lambda: GPT2Config(vocab_size=512, n_embd=32, n_layer=2, n_head=2, n_positions=128), 128),
    "opt": (lambda: OPTConfig(**SMALL, ffn_dim=48, word_embed_proj_dim=32, max_position_embeddings=64), 64),
    "gpt-neox": (lambda: GPTNeoXConfig(**SMALL, intermediate_size=48, max_position_embeddings=80), 80),
    # Of the 4 billion parameters on, Gemma 3 reads pictures, too.
    "gemma3-with-pictures": (
        lambda: Gemma3Config(
            text_config={**GROUPED, "head_dim": 16, "max_position_embeddings": 90, "eos_token_id": 9},
            vision_config={**SMALL, "intermediate_size": 32, "image_size": 28, "patch_size": 14},
            mm_tokens_per_image=4,
        ),
        90,
    ),
    # Those without a limit of their own have the tokenizer's.
    "bloom": (lambda: BloomConfig(vocab_size=512, hidden_size=32, n_layer=2, n_head=2), 2048),
    "falcon": (lambda: FalconConfig(**SMALL, alibi=True, max_position_embeddings=4096), 2048),
}


def load(folder: Path, **settings: Any) -> LoadedModel:
    return load_model(ModelOptions(str(folder), **settings), lambda _: None)


def refusal(folder: Path, **settings: Any) -> str:
    with pytest.raises(StartError) as refused:
        load(folder, **settings)
    [line] = str(refused.value).splitlines()
    return line


@pytest.fixture
def folder(tiny: Path, tmp_path: Path) -> Path:
    """A model that may be spoilt."""
    shutil.copytree(tiny / "model", tmp_path / "phi")
    return tmp_path / "phi"


def edit(path: Path, **changes: Any) -> None:
    value = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: each for key, each in value.items() if each is not ...}))


def test_a_folder_is_loaded_with_what_it_says_of_itself(tiny: Path) -> None:
    loaded = load(tiny / "model")
    tokenizer = AutoTokenizer.from_pretrained(tiny / "model")
    assert (loaded.name, loaded.root) == ("model", str(tiny / "model"))
    assert (loaded.max_model_len, loaded.vocab_size) == (2048, len(tokenizer))
    assert loaded.eos_token_ids == {tokenizer.eos_token_id}
    assert loaded.model.dtype == torch.float32
    assert not loaded.model.training
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())


def test_a_folder_is_loaded_without_network_output_or_warning(
    tiny: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a folder needs no network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    load(tiny / "model")
    assert tuple(capfd.readouterr()) == ("", "")
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_any_causal_language_model_loads(name: str, tiny: Path, tmp_path: Path) -> None:
    make, context = ARCHITECTURES[name]
    config = make()
    model = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)](config).eval()
    model.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(tiny / "model").save_pretrained(tmp_path)
    loaded = load(tmp_path)
    tokens = torch.arange(8)[None] + 5
    assert torch.equal(loaded.model(tokens).logits, model(tokens).logits)
    assert (loaded.max_model_len, loaded.vocab_size) == (context, 512)


def test_shards_are_one_model(tiny: Path, folder: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny / "model")
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="200KB")
    shards = sorted(path.name for path in folder.glob("model-*.safetensors"))
    assert len(shards) > 2
    tokens = torch.arange(8)[None] + 5
    assert torch.equal(load(folder).model(tokens).logits, model(tokens).logits)
    (folder / shards[1]).unlink()
    assert f"1 of {len(shards)} weight files are missing: {shards[1]}; copy them too" in refusal(folder)


def test_the_models_end_tokens_are_all_taken(folder: Path) -> None:
    edit(folder / "generation_config.json", eos_token_id=[6, 2], temperature=0.6, do_sample=True)
    loaded = load(folder)
    assert loaded.eos_token_ids == {2, 6}
    assert (loaded.defaults["temperature"], loaded.defaults["do_sample"]) == (0.6, True)
    assert "transformers_version" not in loaded.defaults


def test_end_tokens_of_the_part_about_text_are_taken(tiny: Path, tmp_path: Path) -> None:
    config = ARCHITECTURES["gemma3-with-pictures"][0]()
    MODEL_FOR_CAUSAL_LM_MAPPING[Gemma3Config](config).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(tiny / "model").save_pretrained(tmp_path)
    edit(tmp_path / "generation_config.json", eos_token_id=...)
    assert load(tmp_path).eos_token_ids == {9}


def test_the_context_is_the_models_or_the_tokenizers_if_that_is_shorter(folder: Path) -> None:
    edit(folder / "tokenizer_config.json", model_max_length=512)
    assert load(folder).max_model_len == 512
    edit(folder / "tokenizer_config.json", model_max_length=10**30)
    assert load(folder).max_model_len == 2048


def test_a_served_name_is_taken(tiny: Path) -> None:
    assert load(tiny / "model", served_name="ours").name == "ours"


@pytest.mark.parametrize("as_file", [True, False])
def test_a_chat_template_may_be_given_as_a_file_or_as_itself(tiny: Path, tmp_path: Path, as_file: bool) -> None:
    template = "{% for message in messages %}[{{ message.content }}]{% endfor %}"
    (tmp_path / "template.jinja").write_text(template)
    loaded = load(tiny / "model", chat_template=str(tmp_path / "template.jinja") if as_file else template)
    assert loaded.tokenizer.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False) == "[hi]"


def test_a_chat_template_that_is_none_is_refused(tiny: Path) -> None:
    assert refusal(tiny / "model", chat_template="/none.jinja").startswith("the chat template /none.jinja cannot be")
    assert refusal(tiny / "model", chat_template="{% for %}").startswith("the chat template is no Jinja: ")


def test_a_model_without_a_chat_template_loads(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink()
    assert load(folder).tokenizer.chat_template is None


@pytest.mark.parametrize("name", ["/no/such/folder", "./model", "a/b/c", "~/nothing"])
def test_a_folder_that_is_not_there_is_refused(name: str) -> None:
    assert refusal(name) == (  # type: ignore[arg-type]
        f"there is no folder {name}; give one with config.json and safetensors, or a Hugging Face id such as "
        "microsoft/Phi-3-mini-4k-instruct"
    )


def spoil_bert(folder: Path) -> None:
    BertForMaskedLM(BertConfig(**SMALL, intermediate_size=48)).save_pretrained(folder)


def spoil_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors")


def remove(pattern: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        for path in folder.glob(pattern):
            path.unlink()

    return spoil


def cut(path: Path, length: int) -> None:
    path.write_bytes(path.read_bytes()[:length])


SPOILT: dict[str, tuple[Callable[[Path], Any], str]] = {
    "empty": (remove("*"), "has no config.json, so it is no model's"),
    "no-config": (lambda folder: (folder / "config.json").unlink(), "has no config.json, so it is no model's folder"),
    "an-adapter": (
        lambda folder: (folder / "config.json").rename(folder / "adapter_config.json"),
        "is an adapter, no model; give its base model, and the adapter's parent folder",
    ),
    "config-no-json": (lambda folder: (folder / "config.json").write_text("{"), "config.json cannot be read: "),
    "config-a-list": (lambda folder: (folder / "config.json").write_text("[]"), "config.json is no JSON object"),
    "config-wrong": (
        lambda folder: edit(folder / "config.json", num_attention_heads="four"),
        "config.json is refused by transformers: ",
    ),
    "unknown": (
        lambda folder: edit(folder / "config.json", model_type="tomorrow"),
        'transformers knows no architecture "tomorrow" (model_type in config.json); a newer transformers may',
    ),
    "no-type": (lambda folder: edit(folder / "config.json", model_type=...), "knows no architecture null"),
    "own-code": (
        lambda folder: edit(
            folder / "config.json", model_type="own", auto_map={"AutoModelForCausalLM": "modeling_own.Own"}
        ),
        "architecture own is not part of transformers but comes with code of its own, which may do anything; if you "
        "trust it, allow that with --trust-remote-code",
    ),
    "encoder": (spoil_bert, "holds BertForMaskedLM, which is no causal language model and cannot continue text"),
    "no-head": (
        lambda folder: edit(folder / "config.json", architectures=["Phi3Model"]),
        "holds Phi3Model, which is no causal language model",
    ),
    "no-weights": (
        lambda folder: (folder / "model.safetensors").unlink(),
        "has no model.safetensors and no model.safetensors.index.json: it holds chat_template.jinja, config.json",
    ),
    "pickles": (
        lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"),
        "has no safetensors but pytorch_model.bin, which can run code when it is read; convert it",
    ),
    "cut-short": (
        lambda folder: cut(folder / "model.safetensors", 100_000),
        "is cut short or damaged: it has 100.0 kB",
    ),
    "cut-in-header": (lambda folder: cut(folder / "model.safetensors", 100), "is no safetensors file, or damaged"),
    "nothing-in-it": (lambda folder: cut(folder / "model.safetensors", 0), "is no safetensors file, or damaged"),
    "no-safetensors": (
        lambda folder: (folder / "model.safetensors").write_bytes(b"\x10" + bytes(7) + b"x" * 16),
        "is no safetensors file, or damaged; copy it again",
    ),
    "lfs-pointer": (
        lambda folder: (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid …"),
        "is only a pointer of Git LFS; fetch what it points to: git lfs pull",
    ),
    "a-tensor-less": (
        lambda folder: spoil_weights(folder, lambda weights: weights.pop("lm_head.weight")),
        "lacks weights of its Phi3ForCausalLM: lm_head.weight; copy all of its files",
    ),
    "another-shape": (
        lambda folder: spoil_weights(folder, lambda weights: weights.update({"lm_head.weight": torch.ones(3, 3)})),
        "its weights have other shapes than its config.json says",
    ),
    "no-tokenizer": (
        remove("tokenizer*"),
        "has no tokenizer: none of tokenizer.json, tokenizer.model and vocab.json is there; copy the tokenizer's files",
    ),
    "tokenizer-damaged": (lambda folder: cut(folder / "tokenizer.json", 100), "the tokenizer in "),
}


@pytest.mark.parametrize("name", SPOILT)
def test_what_is_wrong_with_a_folder_is_said_in_one_line(name: str, folder: Path) -> None:
    spoil, says = SPOILT[name]
    spoil(folder)
    line = refusal(folder)
    assert says in line
    assert str(folder) in line


def test_code_of_a_model_runs_only_when_it_is_allowed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    ran = tmp_path / "ran"
    (folder / "own.py").write_text(
        "from transformers import Phi3Config, Phi3ForCausalLM\n"
        f"open({str(ran)!r}, 'w').close()\n"
        "class OwnConfig(Phi3Config):\n    model_type = 'own'\n"
        "class Own(Phi3ForCausalLM):\n    config_class = OwnConfig\n"
    )
    own = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.Own"}
    edit(folder / "config.json", model_type="own", architectures=["Own"], auto_map=own)
    assert "--trust-remote-code" in refusal(folder)
    assert not ran.exists()
    assert type(load(folder, trust_remote_code=True).model).__name__ == "Own"
    assert ran.exists()


def test_code_of_a_model_that_transformers_knows_is_left_alone(folder: Path) -> None:
    edit(folder / "config.json", auto_map={"AutoModelForCausalLM": "modeling_phi3.Phi3ForCausalLM"})
    assert type(load(folder).model).__module__ == "transformers.models.phi3.modeling_phi3"


def test_adapters_go_onto_quantised_layers(tiny: Path) -> None:
    plain, quantised = load(tiny / "model"), load(tiny / "model", dtype="int8")
    tokens = torch.arange(24).view(2, 12) + 20
    answers = []
    for loaded in (plain, quantised):
        adapters = Adapters.attach(loaded.model, tiny / "adapters", {})
        with torch.inference_mode(), adapters.applied(adapters.weights([{"one": 1.0}, {"two": 0.5}])):
            answers.append(loaded.model(tokens).logits)
    assert (answers[0] - answers[1]).norm() < 0.15 * answers[0].norm()
