"""Loads a model and its tokenizer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from kaito.inference.options import ModelOptions


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model that is ready to run.

    Attributes:
        model: in evaluation mode, on its device.
        tokenizer: its tokenizer.
        root: the folder or hub id that it came from.
        name: under which it is served.
        max_model_len: the model's context, in tokens.
        eos_token_ids: tokens that end an answer.
        defaults: what generation_config.json sets.
        vocab_size: columns of the logits.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    root: str
    name: str
    max_model_len: int
    eos_token_ids: frozenset[int]
    defaults: Mapping[str, Any]
    vocab_size: int


def load_model(options: ModelOptions, progress: Callable[[str], None]) -> LoadedModel:
    """Loads what the options name; blocks, so call it in a thread.

    Args:
        options: which model, and in what form.
        progress: told what is being done, for people.

    Raises:
        StartError: It cannot be served here.
    """
    progress(f"loading {options.model}")
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    model = AutoModelForCausalLM.from_pretrained(options.model).eval()
    defaults = model.generation_config.to_diff_dict()
    ends = defaults.get("eos_token_id") or tokenizer.eos_token_id
    return LoadedModel(
        model=model,
        tokenizer=tokenizer,
        root=options.model,
        name=options.served_name or Path(options.model).name,
        max_model_len=model.config.max_position_embeddings,
        eos_token_ids=frozenset(ends if isinstance(ends, list) else [ends]),
        defaults=defaults,
        vocab_size=model.config.vocab_size,
    )
