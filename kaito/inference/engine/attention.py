"""Attention over rows whose lengths differ much: each neighbourhood of rows only as far as its longest one."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

_NAME = "kaito_sdpa"
# Positions that a further call of the attention function is worth: below, looking at them in vain is cheaper.
_WORTH = 256

Segment = tuple[int, int, int]


class _Step(threading.local):
    segments: Sequence[Segment] = ()


_step = _Step()


def use_segments(model: PreTrainedModel) -> None:
    """Has a model that uses torch's attention use ours, which is the same but within `segmented`."""
    if model.config.get_text_config(decoder=True)._attn_implementation == "sdpa":
        model.set_attn_implementation(_NAME)


@contextmanager
def segmented(lengths: Sequence[int]) -> Iterator[None]:
    """Within it, in this thread, a pass with one new token for each row looks at about so many positions of each."""
    _step.segments = segments_of(lengths)
    try:
        yield
    finally:
        _step.segments = ()


def segments_of(lengths: Sequence[int]) -> list[Segment]:
    """Cuts rows into neighbourhoods of similar length.

    Returns:
        First row, the one after the last, and longest length of each; empty if it is not worth it.
    """
    segments: list[Segment] = []
    first, longest, total = 0, 0, 0
    for row, length in enumerate(lengths):
        higher = max(longest, length)
        if row > first and higher * (row + 1 - first) - longest * (row - first) - length > _WORTH:
            segments.append((first, row, longest))
            first, higher = row, length
        longest = higher
        total += length
    segments.append((first, len(lengths), longest))
    if len(segments) == 1 or 4 * total > 3 * max(lengths) * len(lengths):
        return []
    return segments


def _attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *arguments: Any,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    segments = _step.segments
    if not segments or attention_mask is None or query.shape[2] != 1 or query.shape[0] != segments[-1][1]:
        result: tuple[torch.Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, *arguments, **kwargs
        )
        return result
    parts = [
        sdpa_attention_forward(
            module,
            query[first:end],
            key[first:end, :, :length],
            value[first:end, :, :length],
            attention_mask[first:end, :, :, :length],
            *arguments,
            **kwargs,
        )[0]
        for first, end, length in segments
    ]
    return torch.cat(parts), None


AttentionInterface.register(_NAME, _attend)
AttentionMaskInterface.register(_NAME, sdpa_mask)
