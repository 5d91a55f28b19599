"""preset_of: a model's entry for the catalogue, from its list of files and its config.json. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from kaito.catalog import ModelPreset, Runtime
from kaito.hub.errors import ModelUnusable
from kaito.hub.figures import HubFile, MissingFigure, config_figures, weight_files

DISK_BEYOND_WEIGHTS_GIB = 80
"""For the image, and room (KAITO 0.12)."""
LARGEST_GIB = 4096
"""Five times the largest model of the catalogue; nodes are bought for what a stranger's repository says of itself."""
_CAUSAL, _CONDITIONAL = "ForCausalLM", "ForConditionalGeneration"
_SHOWN = 80


def preset_of(model_id: str, files: Iterable[HubFile], config: Mapping[str, object], source: str) -> ModelPreset:
    """Returns what a model weighs, needs and can do.

    Args:
        model_id: ORGANISATION/MODEL.
        files: of its repository.
        config: its config.json.
        source: where both are from.

    Raises:
        ModelUnusable: it cannot be served, or nobody can tell what it needs.
    """
    weights_gib = _weights_gib(model_id, files)
    architecture = _architecture(model_id, config)
    try:
        figures = config_figures(config)
    except MissingFigure as error:
        raise ModelUnusable(f"{model_id}: {error}, so that nobody can tell what memory it needs") from error
    quantization = None if figures.quantization is None else figures.quantization[:_SHOWN]
    plain = architecture.endswith(_CAUSAL) and quantization is None and not config.get("auto_map")
    runtimes: tuple[Runtime, ...] = ("vllm", "transformers") if plain else ("vllm",)
    return ModelPreset(
        name=_name(model_id),
        huggingface_id=model_id,
        weights_gib=weights_gib,
        context_tokens=figures.context_tokens,
        attention=figures.attention,
        kv_bytes_per_token=figures.kv_bytes_per_token,
        quantization=quantization,
        float16=_is_float16(config),
        disk_gib=int(weights_gib + DISK_BEYOND_WEIGHTS_GIB),
        runtimes=runtimes,
        license="unknown",
        readiness_timeout_minutes=_readiness_timeout_minutes(weights_gib),
        source=(source,),
    )


def _weights_gib(model_id: str, files: Iterable[HubFile]) -> float:
    found = weight_files(files)
    total_gib = sum(file.size for file in found) / 2**30
    if not total_gib:
        raise ModelUnusable(
            f"{model_id}: its repository has no weights (*.safetensors or *.bin); a repository of GGUF files or of "
            f"adapters alone cannot be served: name the model that it was made from"
        )
    if total_gib > LARGEST_GIB:
        raise ModelUnusable(
            f"{model_id}: its weights ({len(found)} files) come to {total_gib:.0f} GiB, and more than {LARGEST_GIB} "
            f"are taken for a mistake; if they are right, add the model to the catalogue"
        )
    return max(0.01, round(total_gib, 2))


def _architecture(model_id: str, config: Mapping[str, object]) -> str:
    given = config.get("architectures")
    names = [name for name in given if isinstance(name, str)] if isinstance(given, list) else []
    for name in names:
        if name.endswith((_CAUSAL, _CONDITIONAL)):
            return name
    said = f"architecture {json.dumps(names[0][:_SHOWN])}" if names else "no architecture in its config.json"
    raise ModelUnusable(f"{model_id}: it has {said}, and only *{_CAUSAL} and *{_CONDITIONAL} generate text")


def _is_float16(config: Mapping[str, object]) -> bool:
    """Whether the weights are of float16: what was trained in bfloat16 may have numbers that float16 has not."""
    inner = (part for name in ("text_config", "llm_config") if isinstance(part := config.get(name), Mapping))
    given = (part.get(key) for part in (config, *inner) for key in ("dtype", "torch_dtype"))
    return next((each for each in given if each), None) in ("float16", "torch.float16", "half")


def _readiness_timeout_minutes(weights_gib: float) -> int:
    """As KAITO 0.12 does it: a quarter of an hour, and 18 s for each GiB; half an hour to three."""
    return min(180, max(30, int(15 + 0.3 * weights_gib)))


def _name(model_id: str) -> str:
    return model_id.rpartition("/")[2].lower().rstrip("._-")
