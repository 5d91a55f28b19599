"""A linear layer with the adapters of a model beside it, each row of a batch with strengths of its own."""

from __future__ import annotations

import threading
from typing import cast

import torch
from torch import nn


class RowStrengths(threading.local):
    """What the layers of this thread multiply by just now.

    Attributes:
        by_layout: strength times scaling for each rank of a layer, shape [batch, 1 or seq, ranks], by the number of
            the layer's layout; none: no row uses an adapter.
    """

    by_layout: tuple[torch.Tensor, ...] | None = None


class RowLora(nn.Module):
    """``base(x) + ((x Aᵀ) * w) Bᵀ``, with the matrices of all adapters put one after the other along their ranks.

    That is exact: an adapter's ranks only ever meet its own columns of B, and `w` weighs each rank by the strength that
    the row gives to its owner. As in PEFT, the adapters' part is computed in float32 whatever the model's dtype is,
    and rounded once, with the sum.
    """

    down: torch.Tensor
    up: torch.Tensor

    def __init__(
        self, base: nn.Module, down: torch.Tensor, up: torch.Tensor, layout: int, strengths: RowStrengths
    ) -> None:
        """
        Args:
            base: what computes the layer without adapters; its result is written to.
            down: A of all adapters, shape [ranks, in_features].
            up: B of all adapters, shape [out_features, ranks].
            layout: which of `RowStrengths.by_layout` is this layer's.
            strengths: shared by the layers of a model.
        """
        super().__init__()
        self.base = base
        self.register_buffer("down", down.contiguous(), persistent=False)
        # Transposed in memory too, since it is multiplied from the right.
        self.register_buffer("up", up.t().contiguous(), persistent=False)
        self._layout, self._strengths = layout, strengths

    @property
    def weight(self) -> torch.Tensor:
        """The base layer's: some models look at its dtype or its device."""
        return cast(torch.Tensor, self.base.weight)

    @property
    def bias(self) -> torch.Tensor | None:
        """The base layer's."""
        return cast("torch.Tensor | None", self.base.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x has shape [batch, seq, in_features], or [batch * seq, in_features] as OPT flattens it."""
        result = cast(torch.Tensor, self.base(x))
        if self._strengths.by_layout is None:
            return result
        weights = self._strengths.by_layout[self._layout]
        if x.dim() == 2:
            weights = _flat(weights, x.shape[0])
        ranks = nn.functional.linear(x.to(self.down.dtype), self.down).mul_(weights).flatten(0, -2)
        rows = result.view(-1, result.shape[-1])
        if rows.dtype == self.up.dtype:
            rows.addmm_(ranks, self.up)
        else:
            rows.add_(ranks @ self.up)
        return result


def _flat(weights: torch.Tensor, rows: int) -> torch.Tensor:
    """[batch, 1 or seq, ranks] to [rows, ranks], where rows are batch * seq."""
    batch, length, ranks = weights.shape
    if length == 1:
        weights = weights.expand(batch, rows // batch, ranks)
    return weights.reshape(rows, ranks)
