"""Loads a model and its tokenizer."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import transformers.utils.logging as transformers_logging
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from kaito.inference.errors import StartError
from kaito.inference.loading.checkpoint import Checkpoint, read_checkpoint
from kaito.inference.loading.download import download_model
from kaito.inference.loading.int8 import quantize
from kaito.inference.loading.placement import Placement, check_memory, place
from kaito.inference.options import ModelOptions
from kaito.inference.progress import DownloadProgress
from kaito.inference.wording import first_line, some

_log = logging.getLogger(__name__)

_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
# In the order in which they count; older architectures have names of their own.
_CONTEXT_KEYS = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "max_sequence_length", "n_ctx")
_CONTEXT_UNKNOWN = 2048
_ABSURD_CONTEXT = 100_000_000  # tokenizers without a limit say 10**30


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


def load_model(
    options: ModelOptions, progress: Callable[[str], None], download: DownloadProgress | None = None
) -> LoadedModel:
    """Loads what the options name; blocks, so call it in a thread.

    Args:
        options: which model, and in what form.
        progress: told what is being done, for people; called in any thread.
        download: told how far a download is, for the metrics.

    Raises:
        StartError: It cannot be served here.
    """
    folder = find_model(options, progress, download)
    checkpoint = read_checkpoint(folder, trust_remote_code=options.trust_remote_code)
    placement = place(options, checkpoint)
    check_memory(checkpoint, placement)
    tokenizer = load_tokenizer(options, folder)
    progress(f"loading {options.model} as {placement}")
    model = _model(options, checkpoint, placement)
    defaults = _defaults(model)
    return LoadedModel(
        model=model,
        tokenizer=tokenizer,
        root=options.model,
        name=options.served_name or (folder.name if Path(options.model).is_dir() else options.model),
        max_model_len=_context(model, tokenizer),
        eos_token_ids=_ends(model, tokenizer, defaults),
        defaults=defaults,
        vocab_size=model.config.get_text_config().vocab_size,
    )


def find_model(
    options: ModelOptions, progress: Callable[[str], None], download: DownloadProgress | None = None
) -> Path:
    """The folder that a model is in, after a download if it is on a hub; arguments and errors are `load_model`'s."""
    _log_instead_of_printing()
    return _folder(options) or download_model(options, progress, download or DownloadProgress())


def load_tokenizer(options: ModelOptions, folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer in a folder, with the chat template that the options say.

    Raises:
        StartError: There is none, or it or the template cannot be read.
    """
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            folder, trust_remote_code=options.trust_remote_code, local_files_only=True
        )
    except Exception as error:  # whatever a file may provoke
        raise StartError(f"the tokenizer in {folder} cannot be loaded: {first_line(error)}") from error
    if options.chat_template is not None:
        tokenizer.chat_template = _template(options.chat_template)
    _check_template(options, tokenizer)
    return tokenizer


def _log_instead_of_printing() -> None:
    """Libraries write to the standard error by themselves; here whoever runs the server says where logs go."""
    logging.getLogger("huggingface_hub").handlers.clear()
    transformers_logging.disable_progress_bar()
    transformers_logging.disable_default_handler()
    transformers_logging.enable_propagation()


def _folder(options: ModelOptions) -> Path | None:
    """None for what can only be an id of a hub."""
    path = Path(options.model).expanduser()
    if path.is_dir():
        return path.resolve()
    if _HUB_ID.fullmatch(options.model) and not options.model.startswith("."):
        return None
    raise StartError(
        f"there is no folder {options.model}; give one with config.json and safetensors, or a Hugging Face id such as "
        "microsoft/Phi-3-mini-4k-instruct"
    )


def _template(given: str) -> str:
    """A template has braces; a file's name that has them is not one that people choose."""
    if "{" in given or "\n" in given:
        return given
    try:
        return Path(given).expanduser().read_text()
    except (OSError, ValueError) as error:
        raise StartError(f"the chat template {given} cannot be read: {error}; give a file, or Jinja itself") from error


def _check_template(options: ModelOptions, tokenizer: PreTrainedTokenizerBase) -> None:
    if not tokenizer.chat_template:
        return
    try:
        tokenizer.apply_chat_template([{"role": "user", "content": "?"}], tokenize=False)
    except jinja2.TemplateSyntaxError as error:
        whose = "the chat template" if options.chat_template else f"the chat template of {options.model}"
        raise StartError(f"{whose} is no Jinja: {first_line(error)} (line {error.lineno})") from error
    except Exception as error:  # it may want other messages than this one
        _log.debug("chat template refuses a first message", extra={"error": first_line(error)})


def _model(options: ModelOptions, checkpoint: Checkpoint, placement: Placement) -> PreTrainedModel:
    try:
        model, found = AutoModelForCausalLM.from_pretrained(
            checkpoint.folder,
            config=checkpoint.config,
            # Of int8 the checkpoint's own, layer by layer: so at no time all is there in float32.
            dtype="auto" if placement.int8 else placement.dtype,
            device_map={"": placement.device} if placement.device.type == "cuda" else None,
            trust_remote_code=options.trust_remote_code,
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
        )
    except Exception as error:  # whatever a file may provoke, a lack of memory too
        if "ignore_mismatched_sizes" in str(error):
            raise StartError(
                f"{checkpoint.folder}: its weights have other shapes than its config.json says (see above); take both "
                f"from the same model"
            ) from error
        raise StartError(f"transformers cannot load {checkpoint.folder}: {first_line(error)}") from error
    if missing := sorted(found["missing_keys"]):
        raise StartError(
            f"{checkpoint.folder} lacks weights of its {type(model).__name__}: {some(missing)}; copy all of its files"
        )
    if placement.int8:
        quantize(model)
    loaded: PreTrainedModel = model.eval().requires_grad_(False)
    return loaded


def _defaults(model: PreTrainedModel) -> dict[str, Any]:
    if model.generation_config is None:
        return {}
    own = ("transformers_version", "_from_model_config")
    return {key: value for key, value in model.generation_config.to_diff_dict().items() if key not in own}


def _ends(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, defaults: Mapping[str, Any]) -> frozenset[int]:
    # A model that reads pictures, too, may have them in the part of its configuration that is about text.
    own = [getattr(config, "eos_token_id", None) for config in (model.config, model.config.get_text_config())]
    for ends in (defaults.get("eos_token_id"), *own, tokenizer.eos_token_id):
        if ends is not None:
            return frozenset(ends if isinstance(ends, list | tuple) else [ends])
    return frozenset()


def _context(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> int:
    config = model.config.get_text_config()
    given = [value for key in _CONTEXT_KEYS if isinstance(value := getattr(config, key, None), int) and value > 0]
    own, limit = given[:1], tokenizer.model_max_length
    if isinstance(limit, int) and 0 < limit < _ABSURD_CONTEXT:
        own.append(limit)
    if not own:
        _log.warning("the model does not say how long its context is", extra={"taken": _CONTEXT_UNKNOWN})
    return min(own, default=_CONTEXT_UNKNOWN)
