"""Cuts distributions down to the tokens that may come, and draws from what is left.

A draw is one uniform number: the kept tokens lie side by side in order of their ids, each as wide as it is likely, and
the number points at one of them. So the token depends on the row's own number and distribution, not on how the kept
tokens were found: `draw_top` finds them among the likeliest ones, `keep` among all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from kaito.inference.requests import Sampling

# Widths of the prefilter: a few, so that rows rarely change theirs when others come and go.
WIDTHS = (64, 256, 1024)
# More tokens than this are summed up in blocks first.
_BLOCKS_FROM = 4096
_BLOCK = 256


class Cuts(NamedTuple):
    """The rules of some rows as columns, shape [rows, 1]; none where no row has one.

    Attributes:
        temperature: above 0.
        top_k: at least 1; the size of the vocabulary where off.
        top_p: above 1 where off.
        min_p: 0 where off.
        typical_p: above 1 where off.
    """

    temperature: torch.Tensor
    top_k: torch.Tensor | None
    top_p: torch.Tensor | None
    min_p: torch.Tensor | None
    typical_p: torch.Tensor | None

    @classmethod
    def of(cls, samplings: Sequence[Sampling], vocab_size: int, device: torch.device) -> Cuts:
        """Those of some rows."""

        def column(values: Sequence[float], off: float) -> torch.Tensor | None:
            if all(value == off for value in values):
                return None
            return torch.tensor(values)[:, None].to(device, non_blocking=True)

        temperature = column([sampling.temperature for sampling in samplings], 0)
        assert temperature is not None, "rows without temperature draw nothing"
        return cls(
            temperature,
            column([min(sampling.top_k or vocab_size, vocab_size) for sampling in samplings], vocab_size),
            # The sum of what is kept may round to less than all: what is off must not cut.
            column([sampling.top_p if sampling.top_p < 1 else 2.0 for sampling in samplings], 2.0),
            column([sampling.min_p for sampling in samplings], 0),
            column([sampling.typical_p if sampling.typical_p < 1 else 2.0 for sampling in samplings], 2.0),
        )


class Drawn(NamedTuple):
    """What was drawn, one for each row.

    Attributes:
        token: ids.
        weight: of those tokens; 0 where rounding pointed beside the kept ones.
        certain: whether all tokens that may come were looked at; none: they were.
    """

    token: torch.Tensor
    weight: torch.Tensor
    certain: torch.Tensor | None


def draw_all(scores: torch.Tensor, cuts: Cuts, uniform: torch.Tensor) -> Drawn:
    """Draws with all tokens looked at.

    Args:
        scores: float32, shape [rows, vocab_size].
        cuts: their rules.
        uniform: above 0, at most 1, shape [rows, 1].
    """
    return _point(keep(scores, cuts), uniform)


def draw_top(scores: torch.Tensor, cuts: Cuts, uniform: torch.Tensor, width: int) -> Drawn:
    """Draws where all that is kept is among the `width` likeliest; where that is not sure, it says so.

    Args:
        scores: float32, shape [rows, vocab_size].
        cuts: their rules; all rows have a top_k, below `width`, or none has. No typical_p.
        uniform: above 0, at most 1, shape [rows, 1].
        width: how many of the likeliest are looked at, at most vocab_size.
    """
    values, ids = scores.topk(width)
    top, last = values[:, :1], values[:, -1:]
    weights = _weights(values, top, cuts.temperature)
    mass = None if cuts.top_k is not None else _weights(scores, top, cuts.temperature).sum(-1, keepdim=True)
    lowest = _lowest(values, weights, cuts, mass)
    # Of the k, all that are as likely as the last one have to be known before top_p can be taken of them.
    edge = lowest if cuts.top_k is None else values.gather(1, (cuts.top_k - 1).clamp(max=width - 1))
    certain = edge > last if width < scores.shape[-1] else torch.ones_like(last, dtype=torch.bool)
    if cuts.top_k is None and cuts.min_p is not None:
        certain |= weights[:, -1:] < cuts.min_p
    weights = _above(torch.where(values >= lowest, weights, 0.0), cuts.min_p)
    ids, order = ids.sort(-1)
    drawn = _point(weights.gather(1, order), uniform)
    return Drawn(ids.gather(1, drawn.token[:, None])[:, 0], drawn.weight, certain[:, 0])


def keep(scores: torch.Tensor, cuts: Cuts) -> torch.Tensor:
    """What each token weighs, those that may not come 0, in transformers' order of cuts.

    Args:
        scores: float32, shape [rows, vocab_size].
        cuts: their rules.

    Returns:
        Probabilities but for a factor of each row, shape [rows, vocab_size].
    """
    top = scores.amax(-1, keepdim=True)
    weights = _weights(scores, top, cuts.temperature)
    if cuts.top_k is not None or cuts.top_p is not None:
        falling = _falling(scores)
        lowest = _lowest(falling, _weights(falling, top, cuts.temperature), cuts, None)
        weights = torch.where(scores >= lowest, weights, 0.0)
    weights = _above(weights, cuts.min_p)
    return weights if cuts.typical_p is None else _typical(weights, cuts.typical_p)


def _weights(scores: torch.Tensor, top: torch.Tensor, temperature: torch.Tensor) -> torch.Tensor:
    # Relative to the likeliest token: no temperature is so low that this overflows, and min_p is a plain comparison.
    return (scores - top).div_(temperature).exp_()


def _lowest(falling: torch.Tensor, weights: torch.Tensor, cuts: Cuts, mass: torch.Tensor | None) -> torch.Tensor:
    """The lowest value that top_k and top_p leave, of rows that fall; all tokens as likely as that one stay.

    So does transformers for top_k. For top_p it takes as many of them as are needed, and chance says which.
    """
    kth = falling[:, -1:]
    if cuts.top_k is not None:
        kth = falling.gather(1, (cuts.top_k - 1).clamp(max=falling.shape[-1] - 1))
        weights = torch.where(falling >= kth, weights, 0.0)
    if cuts.top_p is None:
        return kth
    mass = weights.sum(-1, keepdim=True) if mass is None else mass
    return torch.maximum(kth, falling.gather(1, _first(weights.cumsum(-1), cuts.top_p * mass)))


def _above(weights: torch.Tensor, min_p: torch.Tensor | None) -> torch.Tensor:
    return weights if min_p is None else torch.where(weights >= min_p, weights, 0.0)


def _falling(values: torch.Tensor) -> torch.Tensor:
    if values.device.type == "cpu":
        # Several times as fast as torch's on a CPU.
        return torch.from_numpy(np.sort(values.numpy(), -1)[:, ::-1].copy())
    return values.sort(-1, descending=True).values


def _nearest(distance: torch.Tensor) -> torch.Tensor:
    if distance.device.type == "cpu":
        return torch.from_numpy(np.argsort(distance.numpy(), -1))
    return distance.argsort(-1)


def _typical(weights: torch.Tensor, mass: torch.Tensor) -> torch.Tensor:
    logarithms = (weights / weights.sum(-1, keepdim=True)).log()
    probabilities = logarithms.exp()
    entropy = -(logarithms * probabilities).nansum(-1, keepdim=True)
    distance = (-logarithms - entropy).abs()
    order = _nearest(distance)
    place = _first(probabilities.gather(1, order).cumsum(-1), mass)
    return torch.where(distance <= distance.gather(1, order.gather(1, place)), weights, 0.0)


def _point(weights: torch.Tensor, uniform: torch.Tensor) -> Drawn:
    # uniform is never 0, so a token that weighs nothing is never the first at which the sum reaches the point.
    if weights.shape[-1] < _BLOCKS_FROM:
        sums = weights.cumsum(-1)
        index = _first(sums, uniform * sums[:, -1:])
    else:
        rows, size = weights.shape
        blocks = torch.nn.functional.pad(weights, (0, -size % _BLOCK)).view(rows, -1, _BLOCK)
        sums = blocks.sum(-1).cumsum(-1)
        point = uniform * sums[:, -1:]
        block = _first(sums, point)
        rest = point - torch.where(block > 0, sums.gather(1, (block - 1).clamp(min=0)), 0.0)
        inner = blocks[torch.arange(rows, device=weights.device), block[:, 0]].cumsum(-1)
        index = (block * _BLOCK + _first(inner, rest)).clamp_(max=size - 1)
    return Drawn(index[:, 0], weights.gather(1, index)[:, 0], None)


def _first(sums: torch.Tensor, point: torch.Tensor) -> torch.Tensor:
    """Where rising sums reach a point; the last place if they do not, as with no numbers."""
    return torch.searchsorted(sums, point).clamp_(max=sums.shape[-1] - 1)
