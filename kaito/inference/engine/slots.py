"""Keys and values of many sequences in one block of memory for each layer, one row a sequence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from transformers.cache_utils import Cache, CacheLayerMixin


@dataclass(frozen=True, slots=True)
class Window:
    """The part of the cache that one forward pass works on: `count` rows from `first` on.

    Attributes:
        first: row of the first sequence.
        count: how many sequences.
        attended: positions that the pass looks at, those which it writes included.
        positions: where each new token goes, shape [count, new tokens], on the model's device; in a flat window
            [1, new tokens of all].
        rows: `first`, `first` + 1, …, shape [count, 1], on the model's device; in a flat window the row of each token,
            shape [1, new tokens of all].
        flat: whether the new tokens of all rows come one after the other, as if they were one sequence.
    """

    first: int
    count: int
    attended: int
    positions: torch.Tensor
    rows: torch.Tensor
    flat: bool = False

    @property
    def keys(self) -> int:
        """How many positions the model sees: those of all rows, one row after the other, in a flat window."""
        return self.attended * self.count if self.flat else self.attended


class SlotLayer(CacheLayerMixin):  # type: ignore[misc]
    """One layer: keys and values of shape [rows, key-value heads, capacity, head size], made at the first write."""

    is_sliding = False  # a sliding window is in the mask; all positions are kept

    def __init__(self, cache: SlotCache) -> None:
        super().__init__()
        self._cache = cache

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Makes room of the cache's size. Zeros: what is masked away must still be finite."""
        rows, capacity = self._cache.rows, self._cache.capacity
        self.keys = key_states.new_zeros((rows, key_states.shape[1], capacity, key_states.shape[3]))
        self.values = value_states.new_zeros((rows, value_states.shape[1], capacity, value_states.shape[3]))
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Writes the new positions of the window's rows; returns these rows up to the last position attended."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        window = self._cache.window
        assert window is not None
        assert self.keys is not None
        assert self.values is not None
        place = (window.rows, slice(None), window.positions)
        self.keys[place] = key_states.transpose(1, 2)
        self.values[place] = value_states.transpose(1, 2)
        return _seen(self.keys, window), _seen(self.values, window)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Length and offset of what `update` returns."""
        window = self._cache.window
        return (window.keys if window else query_length), 0

    def get_seq_length(self) -> int:
        """Zero: rows have lengths of their own, which `Window.positions` and the mask say."""
        return 0

    def get_max_length(self) -> int:
        """No bound: the cache grows."""
        return -1

    def resize(self, rows: int, capacity: int, used_rows: int) -> None:
        """More room; what the used rows hold stays. Does nothing where there is room, from a try that failed, say."""
        if self.keys is None or self.values is None:
            return
        rows, capacity = max(rows, self.keys.shape[0]), max(capacity, self.keys.shape[2])
        if (rows, capacity) == (self.keys.shape[0], self.keys.shape[2]):
            return
        self.keys, self.values = (_grown(tensor, rows, capacity, used_rows) for tensor in (self.keys, self.values))


def _seen(tensor: torch.Tensor, window: Window) -> torch.Tensor:
    rows = tensor[window.first : window.first + window.count, :, : window.attended]
    return rows.transpose(0, 1).flatten(1, 2)[None] if window.flat else rows


def _grown(tensor: torch.Tensor, rows: int, capacity: int, used_rows: int) -> torch.Tensor:
    grown = tensor.new_zeros((rows, tensor.shape[1], capacity, tensor.shape[3]))
    grown[:used_rows, :, : tensor.shape[2]] = tensor[:used_rows]
    return grown


class SlotCache(Cache):  # type: ignore[misc]
    """What the model gets as its cache. Grows by doubling, so that short sequences need little memory.

    Attributes:
        window: what the next forward pass works on.
        rows: sequences that there is room for.
        capacity: positions of each that there is room for.
    """

    def __init__(self, layers: int, max_rows: int, max_length: int) -> None:
        self.window: Window | None = None
        self._first_size = self.rows, self.capacity = min(4, max_rows), min(256, max_length)
        self._max_rows, self._max_length = max_rows, max_length
        super().__init__(layers=[SlotLayer(self) for _ in range(layers)])

    def reserve(self, rows: int, length: int) -> None:
        """Makes room for so many rows of so many positions.

        Raises:
            MemoryError, torch.OutOfMemoryError: There is none. What the rows hold is as it was.
        """
        if rows <= self.rows and length <= self.capacity:
            return
        old = self.rows
        wanted = (_doubled(self.rows, rows, self._max_rows), _doubled(self.capacity, length, self._max_length))
        for layer in self.layers:
            layer.resize(*wanted, old)
        self.rows, self.capacity = wanted

    def shrink(self) -> None:
        """Gives back what it grew by; nothing may be in it."""
        self.rows, self.capacity = self._first_size
        for layer in self.layers:
            if layer.is_initialized and layer.keys.shape[:3:2] != self._first_size:
                layer.lazy_initialization(layer.keys, layer.values)

    def move(self, source: int, target: int, length: int) -> None:
        """Copies a row's first positions to another row."""
        for layer in self.layers:
            if layer.is_initialized:
                for tensor in (layer.keys, layer.values):
                    tensor[target, :, :length] = tensor[source, :, :length]

    def clear(self, row: int, length: int) -> None:
        """Forgets a row, so that nothing of it (not a number, say) reaches the next sequence there."""
        for layer in self.layers:
            if layer.is_initialized:
                layer.keys[row, :, :length] = 0
                layer.values[row, :, :length] = 0

    def get_query_offset(self, layer_idx: int = 0) -> Any:
        """Where the new tokens stand, for the mask: not one number, as transformers' own caches say, but all."""
        return self.window.positions if self.window else 0

    def nbytes(self) -> int:
        """Memory that it has now."""
        return sum(
            tensor.nbytes for layer in self.layers if layer.is_initialized for tensor in (layer.keys, layer.values)
        )


def _doubled(now: int, wanted: int, bound: int) -> int:
    while now < wanted:
        now = min(2 * now, max(bound, wanted))
    return now
