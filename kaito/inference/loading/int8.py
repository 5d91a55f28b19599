"""Linear layers in eight bits, for CPUs: a quarter of the memory of float32, and up to three times as fast.

Weights are quantised once for each output, inputs for each row as they come. The kernel is torch's own, but not its
dynamic quantisation, which takes one range for all rows of a batch: there a request with large activations spoils those
beside it (30 % error where one row is 20 times the others, 2 % here), and an answer depends on its neighbours.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import cast

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D


class Int8Linear(nn.Module):
    """A linear layer with eight-bit weights, float32 in and out."""

    bias: torch.Tensor | None

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        """
        Args:
            weight: shape [out_features, in_features], any float dtype.
            bias: shape [out_features].
        """
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self.register_buffer("bias", None if bias is None else bias.detach().float())
        self._packed = _packed(weight.detach().float())
        # Without VNNI the kernel adds pairs of products in 16 bits, which only seven bits of input cannot overflow.
        self._half = 127 if _has_vnni() else 63

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Any shape [..., in_features]."""
        largest = x.abs().amax(-1, keepdim=True).clamp_min_(torch.finfo(torch.float32).tiny)
        result = cast(
            torch.Tensor,
            torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32(
                x / largest, 1 / self._half, self._half + 1, self._packed
            ),
        )
        result = result.mul_(largest)
        return result if self.bias is None else result.add_(self.bias)

    def extra_repr(self) -> str:
        """As other linear layers say it."""
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


def quantize(model: PreTrainedModel) -> None:
    """Replaces the linear layers of a model, one after the other, and makes the rest float32.

    The output embeddings stay as they are: they are often the input embeddings too, and their error is the answer's.
    """
    head = model.get_output_embeddings()
    kinds = (nn.Linear, Conv1D)
    # By name, so that each layer goes as soon as it is replaced.
    for name in [name for name, module in model.named_modules() if isinstance(module, kinds) and module is not head]:
        module = model.get_submodule(name)
        weight = module.weight.t() if isinstance(module, Conv1D) else module.weight
        model.set_submodule(name, Int8Linear(cast(torch.Tensor, weight), cast("torch.Tensor | None", module.bias)))
    model.float()
    # Copied, since what is as it was in the file keeps the whole file mapped.
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.data = tensor.data.clone()


def _packed(weight: torch.Tensor) -> object:
    scales = weight.abs().amax(1).clamp_min_(torch.finfo(torch.float32).tiny).double() / 127
    with warnings.catch_warnings():
        # The tensors are deprecated; the kernels that take them have no successor in torch itself.
        warnings.filterwarnings("ignore", "torch.quantize_per_tensor, torch.quantize_per_channel", UserWarning)
        quantized = torch.quantize_per_channel(weight, scales, torch.zeros(len(scales)).long(), 0, torch.qint8)
    return torch.ops.quantized.linear_prepack(quantized, None)


def _has_vnni() -> bool:
    known = cast("Callable[[], bool] | None", getattr(torch.cpu, "_is_vnni_supported", None))
    return known is not None and known()
