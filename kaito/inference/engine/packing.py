"""Linear layers with their weights laid out once as oneDNN multiplies them, instead of anew in each call.

A batch of few rows reads each weight once and multiplies it little, so the layout is a good part of the time: a step of
16 rows takes two thirds of it. The second copy of the weights costs memory; where there is little, nothing is packed.
"""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedModel

from kaito.inference.loading.placement import free_memory

_log = logging.getLogger(__name__)

# The layout is made for a number of rows; it serves any other as well, and nearly as fast.
_ROWS = 16
# Part of the memory that is free which the second copy may take.
_SHARE = 0.25


class PackedLinear(nn.Linear):
    """A linear layer that has its weights in both layouts: a single row is faster in the plain one."""

    def __init__(self, linear: nn.Linear) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight, self.bias = linear.weight, linear.bias
        self._packed = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), _ROWS)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """`input` times the weights."""
        if input.numel() == self.in_features or torch.is_grad_enabled():
            return nn.functional.linear(input, self.weight, self.bias)
        result: torch.Tensor = _multiply(input, self._packed, self.bias, "none", [], "")
        return result


_multiply = torch.ops.mkldnn._linear_pointwise.default


def pack(model: PreTrainedModel, root: Path = Path("/")) -> bool:
    """Packs a model's linear layers, if it runs on a CPU that gains from it and there is memory.

    Args:
        model: which.
        root: where /proc and /sys are, which say what memory there is.

    Returns:
        Whether it did.
    """
    layers = [(parent, name, child) for parent in model.modules() for name, child in _packable(parent)]
    size = sum(child.weight.nbytes for _, _, child in layers)
    if not layers or size > _SHARE * free_memory(root)[0]:
        return False
    try:
        with torch.inference_mode():
            for parent, name, child in layers:
                setattr(parent, name, PackedLinear(child))
    except RuntimeError as error:
        # This build of torch, or this processor, has it not for one of the layers; the others stay as they are.
        _log.info("linear layers are not packed: %s", error)
        return False
    return True


def _packable(parent: nn.Module) -> list[tuple[str, nn.Linear]]:
    return [
        (name, child)
        for name, child in parent.named_children()
        if type(child) is nn.Linear and child.weight.device.type == "cpu" and _supported(child.weight.dtype)
    ]


def _supported(dtype: torch.dtype) -> bool:
    if not torch._C._has_mkldnn:
        return False
    if dtype is torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return dtype is torch.float32
