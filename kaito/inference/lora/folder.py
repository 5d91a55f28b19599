"""Reads an adapter's folder as PEFT writes it: adapter_config.json and adapter_model.safetensors."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from kaito.inference.errors import StartError
from kaito.inference.wording import some

CONFIG, WEIGHTS, PICKLE = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"
# At the top of a volume, where nobody but root may look into it.
_OF_FILE_SYSTEM = "lost+found"

_KEY = re.compile(r"(?:base_model\.model\.)?(?P<module>.+)\.lora_(?P<half>[AB])\.weight")

# What makes more, or something else, of an adapter than the two matrices of each layer, if it is set.
_NOT_PLAIN = (
    "use_dora",
    "lora_bias",
    "modules_to_save",
    "trainable_token_indices",
    "target_parameters",
    "layer_replication",
    "alora_invocation_tokens",
    "use_qalora",
    "use_bdlora",
    "arrow_config",
    "kasa_config",
    "monteclora_config",
    "velora_config",
)
# Their training starts from changed weights of the base model, which the adapter then needs.
_CHANGES_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")


@dataclass(frozen=True, slots=True)
class Matrices:
    """What an adapter adds to one linear layer: ``scaling * up @ down``.

    Attributes:
        down: A, float32, shape [rank, in_features].
        up: B, float32, shape [out_features, rank].
        scaling: alpha / rank, or alpha / √rank with rsLoRA.
    """

    down: torch.Tensor
    up: torch.Tensor
    scaling: float


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter; what is hidden, such as a volume's own folders, does not.

    Raises:
        StartError: It cannot be looked into.
    """
    if folder.name.startswith(".") or folder.name == _OF_FILE_SYSTEM:
        return False
    try:
        return (folder / CONFIG).is_file()
    except OSError as error:
        raise _refused(
            folder,
            f"its folder cannot be read: {error.strerror}; give the server's user the right to, or move it elsewhere",
        ) from error


def read_adapter(folder: Path) -> dict[str, Matrices]:
    """An adapter's matrices by the name of the module that they belong to.

    Which modules it has is what its weights say: `target_modules`, `layers_to_transform` and their kin tell PEFT where
    to put layers before it reads the same names from the file.

    Raises:
        StartError: It is no LoRA adapter, or one that is more than two matrices for each layer.
    """
    config = _config(folder)
    _check_plain(folder, config)
    halves = _halves(folder, _tensors(folder))
    return {name: _matrices(folder, config, name, pair) for name, pair in halves.items()}


def _config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / CONFIG).read_text())
    except (OSError, ValueError) as error:
        raise _refused(folder, f"{CONFIG} cannot be read: {error}") from error
    if not isinstance(config, dict):
        raise _refused(folder, f"{CONFIG} is no JSON object")
    return config


def _check_plain(folder: Path, config: Mapping[str, Any]) -> None:
    # Keys that are not named here, those of newer PEFT among them, are for training, or come with weights of their
    # own, which are refused where they are read.
    if (kind := config.get("peft_type")) != "LORA":
        raise _refused(folder, f"peft_type is {json.dumps(kind)}; only LORA is served")
    if (bias := config.get("bias", "none")) != "none":
        raise _refused(folder, f'bias is {json.dumps(bias)}; only "none" is served')
    for key in _NOT_PLAIN:
        if config.get(key):
            raise _refused(
                folder,
                f"{key} is set, and only plain LoRA is served; train it without, or merge it into the model",
            )
    start = config.get("init_lora_weights", True)
    if isinstance(start, str) and start.lower().startswith(_CHANGES_BASE):
        raise _refused(
            folder,
            f'init_lora_weights is "{start}", which changed the base model in training; save it as plain LoRA with '
            "save_pretrained(path_initial_model_for_weight_conversion=…)",
        )


def _tensors(folder: Path) -> dict[str, torch.Tensor]:
    path = folder / WEIGHTS
    if not path.is_file():
        if (folder / PICKLE).is_file():
            raise _refused(
                folder,
                f"its weights are in {PICKLE}, a pickle, which can run code when it is read; convert it: python -c "
                f"\"import torch, safetensors.torch as s; s.save_file(torch.load('{PICKLE}', weights_only=True), "
                f"'{WEIGHTS}')\"",
            )
        raise _refused(folder, f"there is no {WEIGHTS} beside {CONFIG}")
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise _refused(folder, f"{WEIGHTS} is damaged ({error}); copy it again") from error


def _halves(folder: Path, tensors: Mapping[str, torch.Tensor]) -> dict[str, dict[str, torch.Tensor]]:
    halves: dict[str, dict[str, torch.Tensor]] = {}
    others = []
    for key in sorted(tensors):
        if match := _KEY.fullmatch(key):
            halves.setdefault(match["module"], {})[match["half"]] = tensors[key]
        else:
            others.append(key)
    if others:
        raise _refused(
            folder,
            f"{WEIGHTS} has {some(others)}, where only lora_A and lora_B of linear layers are served; "
            "train it without embeddings, biases and further modules, or merge it into the model",
        )
    if not halves:
        raise _refused(folder, f"{WEIGHTS} has no weights")
    return halves


def _matrices(folder: Path, config: Mapping[str, Any], module: str, halves: Mapping[str, torch.Tensor]) -> Matrices:
    for half in "AB":
        if half not in halves:
            raise _refused(folder, f"{WEIGHTS} has no {module}.lora_{half}.weight beside the other half")
    down, up = halves["A"].float(), halves["B"].float()
    rank = _of_module(folder, config, "r", "rank_pattern", module)
    alpha = _of_module(folder, config, "lora_alpha", "alpha_pattern", module)
    if down.dim() != 2 or up.dim() != 2 or not down.shape[0] == up.shape[1] == rank:
        raise _refused(
            folder,
            f"{module} has lora_A of shape {list(down.shape)} and lora_B of shape {list(up.shape)}, "
            f"but its rank in {CONFIG} is {rank:g}",
        )
    return Matrices(down, up, alpha / (math.sqrt(rank) if config.get("use_rslora") else rank))


def _of_module(folder: Path, config: Mapping[str, Any], key: str, pattern_key: str, module: str) -> float:
    """What a module has of `key`: by the first pattern that its name ends with, as PEFT looks it up."""
    value, patterns = config.get(key, 8), config.get(pattern_key) or {}
    if not isinstance(patterns, dict):
        raise _refused(folder, f"{pattern_key} must be an object, from patterns of module names to numbers")
    for pattern, other in patterns.items():
        try:
            matches = re.match(rf"(.*\.)?({pattern})$", module)
        except re.error as error:
            raise _refused(folder, f"{pattern} in {pattern_key} is no regular expression: {error}") from error
        if matches:
            value = other
            break
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        raise _refused(folder, f"{key} of {module} is {json.dumps(value)}; it must be a number above 0")
    return value


def _refused(folder: Path, why: str) -> StartError:
    return StartError(f"adapter {folder.name}: {why}")
