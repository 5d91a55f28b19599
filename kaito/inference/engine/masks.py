"""Attention masks of rows whose lengths differ, by the model's own pattern: causal, sliding window, chunks, …"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable

import torch
from transformers import AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import create_masks_for_generate

from kaito.inference.engine.slots import SlotCache, Window

Masks = torch.Tensor | dict[str, torch.Tensor] | None

_NAME = "kaito_slots"


class _Step(threading.local):
    window: Window | None = None


_step = _Step()


class MaskMaker:
    """Makes the masks that a model's `forward` takes: one, or one for each type of layer.

    transformers knows each model's pattern as a function of two positions. It asks a registered function to evaluate
    it; ours does so at the rows' own positions, which a plain offset cannot say.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self._create: Callable[..., Masks] = getattr(model, "create_masks_for_generate", create_masks_for_generate)
        text = model.config.get_text_config(decoder=True)
        # The same configuration, except that it names our function as the one that evaluates masks.
        self._config = copy.copy(text)
        self._config._attn_implementation_internal = _NAME
        self._dtype, self._device = model.dtype, model.device

    def make(self, cache: SlotCache) -> Masks:
        """The masks of the cache's window."""
        window = cache.window
        assert window is not None
        # Only its sizes, type and device are looked at.
        embeds = torch.empty((*window.positions.shape, 0), dtype=self._dtype, device=self._device)
        _step.window = window
        masks = self._create(
            config=self._config, inputs_embeds=embeds, attention_mask=None, cache=cache, position_ids=window.positions
        )
        if isinstance(masks, dict):
            return {name: _additive(mask, self._dtype) for name, mask in masks.items()}
        return None if masks is None else _additive(masks, self._dtype)


def _at_positions(
    batch_size: int,
    q_length: int,
    kv_length: int,
    q_offset: torch.Tensor,
    mask_function: Callable[..., torch.Tensor],
    device: torch.device,
    **kwargs: object,
) -> torch.Tensor:
    """Evaluates a pattern where `q_offset`, shape [rows, new tokens], says that the new tokens stand.

    In a flat window the keys of all rows follow each other, and a token sees those of its own row only.
    """
    batch = torch.arange(batch_size, device=device)[:, None, None, None]
    head = torch.zeros((1, 1, 1, 1), dtype=torch.long, device=device)
    keys = torch.arange(kv_length, device=device)[None, None, None, :]
    places = q_offset[:, None, :, None]
    window = _step.window
    if window is None or not window.flat:
        return mask_function(batch, head, places, keys).expand(batch_size, 1, q_length, kv_length)
    own = keys // window.attended == window.rows[:, None, :, None] - window.first
    return (mask_function(batch, head, places, keys % window.attended) & own).expand(batch_size, 1, q_length, kv_length)


def _additive(mask: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    # What every attention function takes; the fast ones would otherwise make it themselves in each layer.
    return torch.where(mask, 0.0, torch.finfo(dtype).min).to(dtype)


AttentionMaskInterface.register(_NAME, _at_positions)
