"""Which models, and which lengths, can go into the slot cache; found out by trying."""

from __future__ import annotations

import logging
import math
from pathlib import Path

import torch
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from kaito.inference.engine.forward import SlotForward
from kaito.inference.engine.slots import SlotCache
from kaito.inference.loading.placement import free_memory

_log = logging.getLogger(__name__)

# Of the largest logit. What rounding does is far below, what a wrong position or mask does far above.
_TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-3}
_TOLERANCE_OF_SHORT_FLOATS = 0.1
# What is left is for the passes themselves, and for the server.
_SHARE_OF_MEMORY = 0.8


def slot_layers(model: PreTrainedModel) -> int:
    """How many layers of plain keys and values a model's cache has.

    Raises:
        ValueError: Its cache holds something else, too.
    """
    if getattr(model, "_is_stateful", False) or model.config.is_encoder_decoder:
        raise ValueError("it keeps a state that is no key-value cache")
    layers = DynamicCache(config=model.config).layers
    others = {type(layer).__name__ for layer in layers} - {DynamicLayer.__name__, DynamicSlidingWindowLayer.__name__}
    if others:
        raise ValueError(f"its cache has layers of the kind {', '.join(sorted(others))}")
    return len(layers)


def length_bound(model: PreTrainedModel) -> int | None:
    """Longest sequence whose rotary frequencies do not depend on its length; none: they never do.

    Beyond it, transformers computes the keys of all positions anew, by the longest sequence of a batch.
    """
    config = model.config.get_text_config(decoder=True)
    rope = getattr(config, "rope_parameters", None) or {}
    bounds = [
        each.get("original_max_position_embeddings") or config.max_position_embeddings
        for each in (rope, *rope.values())
        if isinstance(each, dict) and each.get("rope_type") in ("dynamic", "longrope")
    ]
    return min(bounds, default=None)


def length_that_fits(cache: SlotCache, rows: int, device: torch.device, root: Path = Path("/")) -> int:
    """Longest sequences of which memory holds so many, by what a position of the cache takes; at least 1."""
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else free_memory(root)[0]
    return max(1, int(_SHARE_OF_MEMORY * free / (position_bytes(cache) * rows)))


def position_bytes(cache: SlotCache) -> float:
    """What a token of one sequence takes, in all layers."""
    return cache.nbytes() / (cache.rows * cache.capacity)


def positions_that_fit(bytes_of_one: float, device: torch.device) -> float:
    """How many tokens a further cache may hold now; any number on a GPU, where too many are an error and no death."""
    if device.type == "cuda" or not bytes_of_one:
        return math.inf
    return _SHARE_OF_MEMORY * free_memory()[0] / bytes_of_one


def explain_difference(model: PreTrainedModel, forward: SlotForward, cache: SlotCache) -> str | None:
    """Runs three short sequences, mixed, through the slot cache and each through transformers' own, and compares.

    If only prompts that go through the model one after the other come out wrong, the pass pads them from then on.

    Returns:
        What is wrong with the slot cache for this model; none: nothing.
    """
    problem = _problem(model, forward, cache)
    if problem is not None and forward.flat:
        _log.info("prompts are padded, this model does not take them one after the other: %s", problem)
        forward.flat = False
        problem = _problem(model, forward, cache)
    return problem


def _problem(model: PreTrainedModel, forward: SlotForward, cache: SlotCache) -> str | None:
    try:
        difference = _difference(model, forward)
    except Exception as error:
        _log.debug("the slot cache does not suit this model", exc_info=error)
        return f"{type(error).__name__}: {error}"
    finally:
        for row in range(3):
            cache.clear(row, cache.capacity)
    bound = _TOLERANCE.get(model.dtype, _TOLERANCE_OF_SHORT_FLOATS)
    return None if difference <= bound else f"logits differ by {difference:.2g} of the largest, {bound:.2g} is allowed"


def _difference(model: PreTrainedModel, forward: SlotForward) -> float:
    generator = torch.Generator().manual_seed(0)
    vocabulary = model.get_input_embeddings().num_embeddings
    texts = torch.randint(0, vocabulary, (3, 14), generator=generator).tolist()
    prompts = [texts[0][:12], texts[1][:7], texts[2][:3]]
    # In chunks and together, then token by token: all that the engine does.
    forward.prefill(0, [prompts[0][:5]], [0])
    first = forward.prefill(0, [prompts[0][5:]], [5])
    others = forward.prefill(1, prompts[1:], [0, 0])
    lengths = [len(prompt) for prompt in prompts]
    got = [torch.cat((first, others))]
    for step in range(2):
        following = [text[length + step] for text, length in zip(texts, lengths, strict=True)]
        got.append(forward.decode(0, following, [length + step for length in lengths]))
    worst = 0.0
    for row, (text, length) in enumerate(zip(texts, lengths, strict=True)):
        tokens = torch.tensor([text[: length + 2]], device=model.device)
        wanted = model(input_ids=tokens, use_cache=False).logits[0, length - 1 :].float()
        here = torch.stack([logits[row] for logits in got]).float()
        if not torch.isfinite(here).all() and torch.isfinite(wanted).all():
            return float("inf")
        worst = max(worst, float((here - wanted).abs().max() / wanted.abs().max().clamp_min(1e-6)))
    return worst
