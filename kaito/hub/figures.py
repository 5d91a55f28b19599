"""Figures: what a model weighs and needs, from its list of files and its config.json. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Literal, NamedTuple

Attention = Literal["MHA", "GQA", "MQA", "MLA"]
DEFAULT_CONTEXT_TOKENS = 2048
BYTES_PER_VALUE = 2
LARGEST = 10**9
"""No count of layers, heads or tokens is larger; what claims to be is taken for missing."""
_NESTED = ("text_config", "llm_config")
_CONTEXT = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "max_sequence_length", "n_ctx")
_LAYERS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")
_HEADS = ("num_attention_heads", "n_head", "num_heads", "n_heads")
_KV_HEADS = ("num_key_value_heads", "n_head_kv", "num_kv_heads", "n_kv_heads", "multi_query_group_num")
_HIDDEN = ("hidden_size", "n_embd", "d_model", "dim")
# In this order: Mistral's own files, the usual ones, and those of old. `training_args.bin` and the like are no weights.
_WEIGHTS = ("consolidated*.safetensors", "*.safetensors", "*.bin")
_NO_WEIGHTS = ("training_args*", "optimizer*", "scheduler*", "adapter_model*")


class HubFile(NamedTuple):
    """A file of a model: its path, and its size in bytes."""

    path: str
    size: int


class MissingFigure(ValueError):
    """A config.json lacks what sizing needs; the message names the keys that were looked for."""


class ConfigFigures(NamedTuple):
    """What a config.json tells: context in tokens, kind of attention, bytes of KV cache per token, quantisation."""

    context_tokens: int
    attention: Attention
    kv_bytes_per_token: int
    quantization: str | None


def weight_files(files: Iterable[HubFile]) -> tuple[HubFile, ...]:
    """The files that hold the weights: of the first form of which there are any; empty if there are none."""
    files = tuple(files)
    for pattern in _WEIGHTS:
        found = tuple(file for file in files if _matches(file, pattern))
        if found:
            return found
    return ()


def config_figures(config: Mapping[str, object]) -> ConfigFigures:
    """Reads a config.json, of whichever family of models.

    Raises:
        MissingFigure: without layers, heads or their size nobody can tell what memory the model needs.
    """
    config = _flat(config)
    layers, context = _needed(config, _LAYERS), _number(config, _CONTEXT) or DEFAULT_CONTEXT_TOKENS
    quantization = _quantization(config)
    rank, rope = _number(config, ("kv_lora_rank",)), _number(config, ("qk_rope_head_dim",))
    if rank and rope:
        return ConfigFigures(context, "MLA", (rank + rope) * layers * BYTES_PER_VALUE, quantization)
    heads = _needed(config, _HEADS)
    kv_heads = 1 if config.get("multi_query") is True else _number(config, _KV_HEADS) or heads
    head_dim = _number(config, ("head_dim",)) or max(1, _needed(config, _HIDDEN) // heads)
    kind: Attention = "MHA" if kv_heads == heads else "MQA" if kv_heads == 1 else "GQA"
    return ConfigFigures(context, kind, 2 * kv_heads * head_dim * layers * BYTES_PER_VALUE, quantization)


def _matches(file: HubFile, pattern: str) -> bool:
    name = file.path.rpartition("/")[2]
    return fnmatchcase(name, pattern) and not any(fnmatchcase(name, other) for other in _NO_WEIGHTS)


def _flat(config: Mapping[str, object]) -> Mapping[str, object]:
    nested = next((inner for name in _NESTED if isinstance(inner := config.get(name), Mapping)), {})
    return {**config, **nested}


def _needed(config: Mapping[str, object], names: tuple[str, ...]) -> int:
    found = _number(config, names)
    if found is None:
        raise MissingFigure(f"config.json has none of {', '.join(names)}")
    return found


def _number(config: Mapping[str, object], names: tuple[str, ...]) -> int | None:
    """The first that is a sound number: NaN, Infinity, texts and truth values are none."""
    for value in map(config.get, names):
        if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value <= LARGEST:
            return int(value) or None
    return None


def _quantization(config: Mapping[str, object]) -> str | None:
    given = config.get("quantization_config")
    method = given.get("quant_method") if isinstance(given, Mapping) else None
    return method if isinstance(method, str) and method else None
