"""A model small enough for tests: random weights, a real tokenizer, a chat template, LoRA adapters."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import Phi3Config, Phi3ForCausalLM, PreTrainedTokenizerFast

_SPECIAL = ("<pad>", "<s>", "</s>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>")
_CORPUS = (
    "the quick brown fox jumps over the lazy dog and then walks home along the river to its den",
    "a workspace asks for nodes, the nodes run a model, and the model answers what a person asks",
    "one two three four five six seven eight nine ten eleven twelve; yes, no, perhaps: who can tell?",
    "Größe, naïve, façade, jalapeño, 東京, Привет, ελληνικά, 🙂 0123456789 () [] {} <> = + - * / % $ # @ ! ?",
)
_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] not in ['system', 'user', 'assistant'] %}"
    "{{ raise_exception('only the roles system, user and assistant are known here') }}{% endif %}"
    "<|{{ message['role'] }}|>{{ message['content'] }}<|end|>"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def tiny_model(
    directory: Path,
    *,
    adapters: Mapping[str, int] | None = None,
    hidden_size: int = 64,
    intermediate_size: int | None = None,
    layers: int = 2,
    max_model_len: int = 2048,
    seed: int = 0,
) -> Path:
    """Writes `model/` and `adapters/NAME/` into a folder: a Phi-3 with random weights, 120,000 parameters by default.

    The weights are spread widely enough that the likeliest token is rarely close to the next one, so that greedy
    answers can be compared. The tokenizer is a byte-level BPE: any text goes through it and comes back whole.

    Args:
        directory: where to write; made if it is not there.
        adapters: rank by adapter name; none: ``one`` of rank 8 and ``two`` of rank 4.
        hidden_size: of the model, a multiple of 32.
        intermediate_size: of its feed-forward part; none: twice as wide.
        layers: how many.
        max_model_len: context of the model, in tokens.
        seed: of the weights.

    Returns:
        The model's folder; the adapters' is beside it.
    """
    model_dir = directory / "model"
    tokenizer = _tokenizer(max_model_len)
    tokenizer.save_pretrained(model_dir)
    generator = torch.Generator().manual_seed(seed)
    model = _model(
        tokenizer,
        generator,
        hidden_size=hidden_size,
        intermediate_size=intermediate_size or 2 * hidden_size,
        num_hidden_layers=layers,
        max_position_embeddings=max_model_len,
        original_max_position_embeddings=max_model_len,
    )
    _save(model, model_dir)
    for name, rank in (adapters if adapters is not None else {"one": 8, "two": 4}).items():
        _adapter(directory / "adapters" / name, model, rank, generator)
    return model_dir


def _model(
    tokenizer: PreTrainedTokenizerFast, generator: torch.Generator, *, hidden_size: int, **sizes: int
) -> Phi3ForCausalLM:
    config = Phi3Config(
        architectures=["Phi3ForCausalLM"],
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        num_attention_heads=max(4, hidden_size // 64),
        num_key_value_heads=max(2, hidden_size // 128),
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        tie_word_embeddings=False,
        **sizes,
    )
    model = Phi3ForCausalLM(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0.0, 1.5 / parameter.shape[1] ** 0.5, generator=generator)
    return model


def _save(model: Phi3ForCausalLM, directory: Path) -> None:
    """What `save_pretrained` writes, without its progress bar."""
    model.config.dtype = torch.float32
    model.config.save_pretrained(directory)
    model.generation_config.save_pretrained(directory)
    save_file(model.state_dict(), directory / "model.safetensors", metadata={"format": "pt"})


def _tokenizer(max_model_len: int) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1024,
        special_tokens=list(_SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_CORPUS, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="<|end|>",
        model_max_length=max_model_len,
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = _TEMPLATE
    return fast


def _adapter(directory: Path, model: Phi3ForCausalLM, rank: int, generator: torch.Generator) -> None:
    """As PEFT writes it, with both halves random: a fresh one from PEFT would change nothing."""
    directory.mkdir(parents=True, exist_ok=True)
    targets = ("qkv_proj", "o_proj", "gate_up_proj", "down_proj")
    config: dict[str, Any] = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "tiny",
        "r": rank,
        "lora_alpha": 2 * rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": list(targets),
    }
    (directory / "adapter_config.json").write_text(json.dumps(config, indent=2))
    weights: dict[str, torch.Tensor] = {}
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) and name.rsplit(".", 1)[-1] in targets:
            for half, shape in (("A", (rank, module.in_features)), ("B", (module.out_features, rank))):
                spread = 0.5 / shape[1] ** 0.5
                weights[f"base_model.model.{name}.lora_{half}.weight"] = (
                    torch.randn(shape, generator=generator) * spread
                )
    save_file(weights, directory / "adapter_model.safetensors")
