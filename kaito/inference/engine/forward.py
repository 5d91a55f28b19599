"""One forward pass of the model over some rows of the slot cache."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch
from transformers import PreTrainedModel

from kaito.inference.engine.attention import segmented, use_segments
from kaito.inference.engine.masks import MaskMaker
from kaito.inference.engine.slots import SlotCache, Window

# Lengths of flat passes are multiples of it: the libraries below keep a kernel and its memory for each length.
_PASS = 32


class SlotForward:
    """Calls a model on new tokens of rows that lie side by side in a slot cache.

    Attributes:
        flat: whether new tokens of several rows go through the model one after the other, with nothing between them;
            else the shorter ones are padded.
    """

    flat = True

    def __init__(self, model: PreTrainedModel, cache: SlotCache) -> None:
        self._model, self._cache = model, cache
        use_segments(model)
        self._masks = MaskMaker(model)
        self._device = model.device
        taken = inspect.signature(model.forward).parameters
        self._cache_name = "cache" if "cache" in taken else "past_key_values"
        self._takes_positions = "position_ids" in taken
        self._keeps = "logits_to_keep" in taken

    def decode(self, first: int, tokens: Sequence[int], lengths: Sequence[int]) -> torch.Tensor:
        """One new token for each of some rows.

        Args:
            first: the first of them.
            tokens: one for each row.
            lengths: how many each row has already.

        Returns:
            Logits that follow, shape [rows, vocabulary].
        """
        longest = max(lengths) + 1
        self._cache.reserve(first + len(tokens), longest)
        inputs = torch.tensor((tokens, lengths)).to(self._device, non_blocking=True)
        ids, positions = inputs[0, :, None], inputs[1, :, None]
        self._window(first, positions, longest)
        with segmented([length + 1 for length in lengths]):
            return self._call(ids, positions, 1)[:, -1]

    def prefill(self, first: int, chunks: Sequence[Sequence[int]], starts: Sequence[int]) -> torch.Tensor:
        """Some new tokens for each of several rows.

        Args:
            first: row of the first chunk; the next ones follow.
            chunks: new tokens by row, at least one each.
            starts: how many each row has already.

        Returns:
            Logits that follow the last token of each chunk, shape [chunks, vocabulary].
        """
        sizes = [len(chunk) for chunk in chunks]
        attended = max(starts) + max(sizes)
        self._cache.reserve(first + len(chunks), attended)
        if min(sizes) == max(sizes):
            ids, begin = self._tensor(chunks), self._tensor(starts)[:, None]
            positions = begin + torch.arange(sizes[0], device=self._device)
            self._window(first, positions, attended)
            return self._call(ids, positions, 1)[:, -1]
        if self.goes_flat(sizes):
            return self._prefill_flat(first, chunks, starts, attended)
        return self._prefill_padded(first, chunks, starts, attended)

    def goes_flat(self, sizes: Sequence[int]) -> bool:
        """Whether `prefill` puts chunks of these sizes one after the other."""
        return self.flat and min(sizes) != max(sizes)

    def flat_sizes(self, sizes: Sequence[int]) -> list[int]:
        """Chunks of these sizes as they go through the model, the last one with what fills the pass up."""
        return [*sizes[:-1], sizes[-1] + -sum(sizes) % _PASS]

    def _prefill_flat(
        self, first: int, chunks: Sequence[Sequence[int]], starts: Sequence[int], attended: int
    ) -> torch.Tensor:
        sizes = [len(chunk) for chunk in chunks]
        ids = [token for chunk in chunks for token in chunk]
        places = [start + index for start, size in zip(starts, sizes, strict=True) for index in range(size)]
        rows = [first + row for row, size in enumerate(sizes) for _ in range(size)]
        # The last token again, to the same place in the cache.
        fill = sum(self.flat_sizes(sizes)) - len(ids)
        inputs = self._tensor([each + each[-1:] * fill for each in (ids, places, rows)])
        self._cache.window = Window(first, len(chunks), attended, inputs[1:2], inputs[2:], flat=True)
        last = self._tensor([end - 1 for end in accumulate(sizes)])
        return self._call(inputs[:1], inputs[1:2], last)[0]

    def _prefill_padded(
        self, first: int, chunks: Sequence[Sequence[int]], starts: Sequence[int], attended: int
    ) -> torch.Tensor:
        sizes = [len(chunk) for chunk in chunks]
        width = max(sizes)
        ids = self._tensor([[*chunk, *[chunk[-1]] * (width - len(chunk))] for chunk in chunks])
        begin = self._tensor(starts)[:, None]
        positions = begin + torch.arange(width, device=self._device)
        self._window(first, positions, attended)
        # What pads a short chunk is written behind it, where nothing looks before it is written over.
        ends = self._tensor(sizes) - 1
        last = sorted({size - 1 for size in sizes})
        logits = self._call(ids, torch.minimum(positions, begin + ends[:, None]), self._tensor(last))
        columns = self._tensor([last.index(size - 1) for size in sizes])
        return logits[torch.arange(len(sizes), device=self._device), columns]

    def _tensor(self, numbers: Sequence[object]) -> torch.Tensor:
        return torch.tensor(numbers).to(self._device, non_blocking=True)

    def _window(self, first: int, positions: torch.Tensor, attended: int) -> None:
        count = positions.shape[0]
        rows = torch.arange(first, first + count, device=self._device)[:, None]
        self._cache.window = Window(first, count, attended, positions, rows)

    def _call(self, ids: torch.Tensor, positions: torch.Tensor, keep: int | torch.Tensor) -> torch.Tensor:
        kwargs: dict[str, Any] = {
            "input_ids": ids,
            "attention_mask": self._masks.make(self._cache),
            self._cache_name: self._cache,
            "use_cache": True,
        }
        if self._takes_positions:
            kwargs["position_ids"] = positions
        if self._keeps:
            kwargs["logits_to_keep"] = keep
        logits: torch.Tensor = self._model(**kwargs).logits
        if not self._keeps:
            return logits[:, -1:] if isinstance(keep, int) else logits[:, keep]
        return logits
