"""Cuts distributions down to the tokens that may come, and draws from what is left.

A draw is one uniform number: the kept tokens lie side by side in order of their ids, each as wide as it is likely, and
the number points at one of them. So the token depends on the row's own number and distribution, not on how the kept
tokens were found: `draw_top` finds them among the likeliest of many rows at once, `keep` among all of one row.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from kaito.inference.requests import Sampling

# Widths of the prefilter: a few, so that rows rarely change theirs when others come and go.
WIDTHS = (64, 256, 1024)


class Drawn(NamedTuple):
    """What was drawn, one for each row.

    Attributes:
        token: ids.
        weight: of those tokens; 0 where rounding pointed beside the kept ones.
        certain: whether all tokens that may come were looked at.
    """

    token: torch.Tensor
    weight: torch.Tensor
    certain: torch.Tensor


class Cuts(NamedTuple):
    """The rules of some rows as columns, shape [rows, 1].

    Attributes:
        temperature: above 0.
        top_k: at least 1 and below the prefilter's width; none: no row has it.
        top_p: above 1 where off.
        min_p: 0 where off; none: no row has it.
    """

    temperature: torch.Tensor
    top_k: torch.Tensor | None
    top_p: torch.Tensor
    min_p: torch.Tensor | None


def draw_any(scores: torch.Tensor, cuts: Cuts, uniform: torch.Tensor) -> Drawn:
    """Draws where only `min_p` cuts.

    Args:
        scores: float32, shape [rows, vocab_size].
        cuts: top_k and top_p are not looked at.
        uniform: above 0, at most 1, shape [rows, 1].
    """
    weights = _weights(scores, scores.amax(-1, keepdim=True), cuts.temperature)
    return _point(_above(weights, cuts.min_p), uniform)


def draw_top(scores: torch.Tensor, cuts: Cuts, uniform: torch.Tensor, width: int) -> Drawn:
    """Draws where all that is kept is among the `width` likeliest; where that is not sure, it says so.

    Args:
        scores: float32, shape [rows, vocab_size].
        cuts: their rules.
        uniform: above 0, at most 1, shape [rows, 1].
        width: how many of the likeliest are looked at, at most vocab_size.
    """
    values, ids = scores.topk(width)
    top, last = values[:, :1], values[:, -1:]
    weights = _weights(values, top, cuts.temperature)
    if cuts.top_k is not None:
        # Tokens as likely as the last one of the k stay too, as transformers has it.
        lowest = values.gather(1, cuts.top_k - 1)
        weights = torch.where(values >= lowest, weights, 0.0)
        mass = weights.sum(-1, keepdim=True)
        nucleus = _nucleus(values, weights, mass, cuts.top_p)
    else:
        mass = _weights(scores, top, cuts.temperature).sum(-1, keepdim=True)
        nucleus = lowest = _nucleus(values, weights, mass, cuts.top_p)
    certain = lowest > last if width < scores.shape[-1] else torch.ones_like(last, dtype=torch.bool)
    if cuts.top_k is None and cuts.min_p is not None:
        certain |= weights[:, -1:] < cuts.min_p
    weights = _above(torch.where(values >= nucleus, weights, 0.0), cuts.min_p)
    ids, order = ids.sort(-1)
    drawn = _point(weights.gather(1, order), uniform)
    return Drawn(ids.gather(1, drawn.token[:, None])[:, 0], drawn.weight, certain[:, 0])


def keep(scores: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """What each token of one row weighs, those that may not come 0, in transformers' order of cuts.

    Args:
        scores: float32, shape [vocab_size].
        sampling: with a temperature above 0.

    Returns:
        Probabilities but for a factor, shape [vocab_size].
    """
    weights = _weights(scores, scores.amax(), torch.tensor(sampling.temperature, device=scores.device))
    if 0 < sampling.top_k < len(scores):
        weights = weights.where(scores >= scores.topk(sampling.top_k).values[-1], 0.0)
    if sampling.top_p < 1:
        likeliest = _falling(weights)[None]
        lowest = _nucleus(likeliest, likeliest, weights.sum(), torch.tensor(sampling.top_p, device=scores.device))
        weights = weights.where(weights >= lowest[0], 0.0)
    weights = weights.where(weights >= sampling.min_p, 0.0)
    return _typical(weights, sampling.typical_p) if sampling.typical_p < 1 else weights


def draw(weights: torch.Tensor, uniform: float) -> torch.Tensor:
    """Draws from one row of weights, shape [vocab_size]; a tensor without dimensions."""
    return _point(weights[None], torch.tensor([[uniform]], device=weights.device)).token[0]


def _weights(scores: torch.Tensor, top: torch.Tensor, temperature: torch.Tensor) -> torch.Tensor:
    # Relative to the likeliest token: no temperature is so low that this overflows, and min_p is a plain comparison.
    return (scores - top).div_(temperature).exp_()


def _above(weights: torch.Tensor, min_p: torch.Tensor | None) -> torch.Tensor:
    return weights if min_p is None else torch.where(weights >= min_p, weights, 0.0)


def _falling(values: torch.Tensor) -> torch.Tensor:
    if values.device.type == "cpu":
        # Ten times as fast as torch's on a CPU with wide registers.
        return torch.from_numpy(np.sort(values.numpy())[::-1].copy())
    return values.sort(descending=True).values


def _nucleus(values: torch.Tensor, weights: torch.Tensor, mass: torch.Tensor, top_p: torch.Tensor) -> torch.Tensor:
    """The lowest value within top_p, of rows that fall; tokens as likely as that one belong to it as well."""
    before = weights.cumsum(-1) - weights
    kept = (before < top_p * mass).sum(-1, keepdim=True)
    return values.gather(1, (kept - 1).clamp_(min=0))


def _typical(weights: torch.Tensor, mass: float) -> torch.Tensor:
    logarithms = (weights / weights.sum()).log()
    probabilities = logarithms.exp()
    entropy = -(logarithms * probabilities).nansum()
    distance, order = (-logarithms - entropy).abs().sort()
    last = (probabilities[order].cumsum(-1) < mass).sum().clamp(max=len(weights) - 1)
    kept = distance <= distance[last]
    kept[0] = True
    return weights.where(torch.zeros_like(kept).scatter(0, order, kept), 0.0)


def _point(weights: torch.Tensor, uniform: torch.Tensor) -> Drawn:
    # uniform is never 0, so a token that weighs nothing is never the first at which the sum reaches the point.
    sums = weights.cumsum(-1)
    index = torch.searchsorted(sums, uniform * sums[:, -1:]).clamp_(max=weights.shape[-1] - 1)
    weight = weights.gather(1, index)[:, 0]
    return Drawn(index[:, 0], weight, torch.ones_like(weight, dtype=torch.bool))
