"""What is in a model's folder, before anything of it is loaded: enough to say what is wrong with it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import AutoConfig, PreTrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from kaito.inference.errors import StartError
from kaito.inference.wording import first_line, size, some

_SINGLE, _INDEX = "model.safetensors", "model.safetensors.index.json"
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.*", "*.tiktoken", "spiece.model", "*.spm", "tekken.json")
_MAX_HEADER_BYTES = 100_000_000  # as safetensors itself limits it


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor of a checkpoint, as its file's header has it."""

    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model's folder that looks sound.

    Attributes:
        folder: where it is.
        config: its config.json.
        tensors: by name, of all its files.
    """

    folder: Path
    config: PreTrainedConfig
    tensors: Mapping[str, Tensor]


def read_checkpoint(folder: Path, *, trust_remote_code: bool) -> Checkpoint:
    """Reads what a folder says about its model.

    Raises:
        StartError: There is no model that can be served, or a part of it is missing or cut short.
    """
    raw = _json(folder / "config.json", folder)
    config = _config(folder, raw, trust_remote_code)
    files = _weight_files(folder)
    if not any(True for pattern in _TOKENIZERS for _ in folder.glob(pattern)):
        raise StartError(
            f"{folder} has no tokenizer: none of tokenizer.json, tokenizer.model and vocab.json is there; "
            "copy the tokenizer's files of the base model into it"
        )
    return Checkpoint(folder, config, {name: tensor for file in files for name, tensor in _header(file).items()})


def _json(path: Path, folder: Path) -> dict[str, Any]:
    if not path.is_file():
        if (folder / "adapter_config.json").is_file():
            raise StartError(f"{folder} is an adapter, no model; give its base model, and the adapter's parent folder")
        raise StartError(f"{folder} has no {path.name}, so it is no model's folder: {_listing(folder)}")
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise StartError(f"{path} cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise StartError(f"{path} is no JSON object")
    return value


def _config(folder: Path, raw: Mapping[str, Any], trust_remote_code: bool) -> PreTrainedConfig:
    kind, brings_code = raw.get("model_type"), "auto_map" in raw
    if kind not in CONFIG_MAPPING_NAMES and not (brings_code and trust_remote_code):
        if brings_code:
            raise StartError(
                f"{folder}: architecture {kind} is not part of transformers but comes with code of its own, which may "
                "do anything; if you trust it, allow that with --trust-remote-code"
            )
        raise StartError(
            f"{folder}: transformers knows no architecture {json.dumps(kind)} (model_type in config.json); "
            "a newer transformers may"
        )
    _check_causal(folder, kind, raw, brings_code and trust_remote_code)
    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code, local_files_only=True)
    except Exception as error:  # whatever a file may provoke
        raise StartError(f"{folder}/config.json is refused by transformers: {first_line(error)}") from error


def _check_causal(folder: Path, kind: object, raw: Mapping[str, Any], own_code: bool) -> None:
    given = raw.get("architectures") or []
    if own_code and "AutoModelForCausalLM" in raw["auto_map"]:
        return
    causal = set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values())
    if kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES or (given and causal.isdisjoint(given)):
        raise StartError(
            f"{folder} holds {', '.join(given) or f'a {kind}'}, which is no causal language model and cannot continue "
            "text; only such models are served here"
        )


def _weight_files(folder: Path) -> list[Path]:
    if (folder / _INDEX).is_file():
        weight_map = _json(folder / _INDEX, folder).get("weight_map")
        if not isinstance(weight_map, dict):
            raise StartError(f"{folder / _INDEX} has no weight_map")
        names = sorted(set(map(str, weight_map.values())))
        if missing := [name for name in names if not (folder / name).is_file()]:
            raise StartError(
                f"{folder}: {len(missing)} of {len(names)} weight files are missing: {some(missing)}; copy them too"
            )
        return [folder / name for name in names]
    if (folder / _SINGLE).is_file():
        return [folder / _SINGLE]
    pickles = sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern))
    if pickles:
        raise StartError(
            f"{folder} has no safetensors but {some(pickles)}, which can run code when it is read; convert it where "
            "you trust it: AutoModelForCausalLM.from_pretrained(folder).save_pretrained(folder)"
        )
    raise StartError(f"{folder} has no {_SINGLE} and no {_INDEX}: {_listing(folder)}")


def _header(path: Path) -> dict[str, Tensor]:
    """A safetensors file starts with the length of its header, which says where in the rest each tensor is."""
    given = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(64)
        if start.startswith(b"version https://git-lfs"):
            raise StartError(f"{path} is only a pointer of Git LFS; fetch what it points to: git lfs pull")
        length = int.from_bytes(start[:8], "little")
        if len(start) < 8 or length > min(given, _MAX_HEADER_BYTES):
            raise StartError(f"{path} is no safetensors file, or damaged; copy it again")
        file.seek(8)
        text = file.read(length)
    try:
        header = json.loads(text)
        header.pop("__metadata__", None)
        tensors = {name: Tensor(each["dtype"], tuple(each["shape"])) for name, each in header.items()}
        end = 8 + length + max((each["data_offsets"][1] for each in header.values()), default=0)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise StartError(f"{path} is no safetensors file, or damaged; copy it again") from error
    if end != given:
        raise StartError(f"{path} is cut short or damaged: it has {size(given)} of {size(end)}; copy it again")
    return tensors


def _listing(folder: Path) -> str:
    names = sorted(path.name for path in folder.iterdir())
    return f"it holds {some(names)}" if names else "it is empty"
