"""The sequences that are worked on: which row each has, whose prompt is next, who gets a new token."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from kaito.inference.engine.forward import SlotForward
from kaito.inference.engine.slots import SlotCache
from kaito.inference.engine.ticket import Ticket
from kaito.inference.lora import Adapters

# A chunk of a prompt is not cut smaller to fit what is left of a step's budget: small ones cost more than they save.
_SMALLEST_CHUNK = 64
# Keys that are looked at in vain, at most, for each that is not, where prompts go through one after the other.
_FLAT_WASTE = 4


@dataclass(slots=True, eq=False)
class Running:
    """A sequence that has a slot.

    Attributes:
        ticket: the request.
        seat: its number in the sampler, the same for as long as it runs.
        row: its row of the cache, which may change between steps; -1: none yet.
        length: tokens of it in the cache.
        written: positions of the row that a pass has written to, padding and passes that failed included.
        last: the newest token, which is not in the cache yet.
        new: tokens that it got.
    """

    ticket: Ticket
    seat: int
    row: int = -1
    length: int = 0
    written: int = 0
    last: int = -1
    new: int = 0

    @property
    def prompt(self) -> tuple[int, ...]:
        """Tokens to start from."""
        return self.ticket.request.prompt

    @property
    def prefilled(self) -> bool:
        """Whether the whole prompt is in the cache."""
        return self.length >= len(self.prompt)

    @property
    def adapters(self) -> Mapping[str, float]:
        """Strength by name."""
        return self.ticket.request.adapters


@dataclass(frozen=True, slots=True)
class Work:
    """What a forward pass is about to do, or did.

    Attributes:
        sequences: whose.
        tokens: of their prompts, that were worked on.
    """

    sequences: Sequence[Running]
    tokens: int = 0


class Lane(Protocol):
    """A way to run sequences."""

    def add(self, sequence: Running) -> None:
        """Takes a sequence in."""
        ...

    def remove(self, sequence: Running) -> None:
        """Lets a sequence go, wherever it stands."""
        ...

    def next_prefill(self, budget: int, whole: int) -> Work | None:
        """What prompts are to be worked on, within what is left of a step's tokens; none: nothing that fits."""
        ...

    def prefill(self, work: Work) -> torch.Tensor | None:
        """Does it. Logits [sequences, vocabulary] of those in it, if all their prompts are done now."""
        ...

    def again(self, sequences: Sequence[Running]) -> None:
        """Has sequences whose prompts were worked on together begin anew, each by itself."""
        ...

    def next_decode(self) -> Work | None:
        """Who gets a new token; none: nobody."""
        ...

    def decode(self, work: Work) -> torch.Tensor:
        """Logits [sequences, vocabulary] of their next tokens."""
        ...

    def rest(self) -> None:
        """Nothing has been here for a while: gives memory back."""
        ...

    def positions(self) -> int:
        """Tokens in the cache."""
        ...


class SlotLane:
    """Sequences in one slot cache. In use are the first rows: those that get new tokens, then the group in prefill.

    A group is one long prompt, worked on in chunks, or several short ones in one pass.
    """

    def __init__(self, forward: SlotForward, cache: SlotCache, adapters: Adapters) -> None:
        self._forward, self._cache, self._adapters = forward, cache, adapters
        self._queue: deque[Running] = deque()
        self._group: list[Running] = []
        self._decoding: list[Running] = []
        self._alone = 0
        self._weights: torch.Tensor | None = None
        self._weighed: list[Running] = []

    def add(self, sequence: Running) -> None:
        """Takes a sequence in; it gets a row when its turn comes."""
        self._queue.append(sequence)

    def remove(self, sequence: Running) -> None:
        """Frees its row and closes the gap."""
        if sequence.row < 0:
            self._queue.remove(sequence)
            return
        if sequence in self._group:
            self._group.remove(sequence)
            self._fill(sequence, self._group)
            return
        self._decoding.remove(sequence)
        gap = self._fill(sequence, self._decoding)
        if self._group:
            self._move(max(self._group, key=lambda each: each.row), gap)

    def _fill(self, gone: Running, others: list[Running]) -> int:
        # The last of the others takes the row of the one that is gone; returns the row that is free then.
        self._cache.clear(gone.row, gone.written)
        gap, gone.row = gone.row, -1
        last = max(others, key=lambda each: each.row, default=None)
        if last is None or last.row < gap:
            return gap
        free = last.row
        self._move(last, gap)
        others.sort(key=lambda each: each.row)
        return free

    def _move(self, sequence: Running, row: int) -> None:
        self._cache.move(sequence.row, row, sequence.length)
        self._cache.clear(sequence.row, sequence.written)
        sequence.row, sequence.written = row, sequence.length
        self._group.sort(key=lambda each: each.row)

    def next_prefill(self, budget: int, whole: int) -> Work | None:
        """The rest of the group, or a new one."""
        if not self._group:
            self._gather(budget)
        if not self._group:
            return None
        if len(self._group) > 1:
            return Work(self._group, sum(len(each.prompt) for each in self._group))
        [one] = self._group
        left = len(one.prompt) - one.length
        size = min(left, budget)
        return None if size < min(left, whole, _SMALLEST_CHUNK) else Work(self._group, size)

    def _gather(self, budget: int) -> None:
        sizes: list[int] = []
        while self._queue:
            sizes.append(len(self._queue[0].prompt))
            if len(sizes) > 1 and not self._go_together(sizes, budget):
                break
            sequence = self._queue.popleft()
            sequence.row = len(self._decoding) + len(self._group)
            self._group.append(sequence)
            if self._alone:
                self._alone -= 1
                break

    def _go_together(self, sizes: Sequence[int], budget: int) -> bool:
        longest, total, count = max(sizes), sum(sizes), len(sizes)
        if self._forward.flat:
            # Each token looks at as many keys as the longest prompt has, once for each of them.
            return total <= budget and longest * count <= _FLAT_WASTE * total
        return longest * count <= budget and longest <= 2 * min(sizes) + 16

    def prefill(self, work: Work) -> torch.Tensor | None:
        """One pass over the group."""
        rows = list(work.sequences)
        starts = [each.length for each in rows]
        ends = [start + work.tokens for start in starts] if len(rows) == 1 else [len(each.prompt) for each in rows]
        chunks = [each.prompt[start:end] for each, start, end in zip(rows, starts, ends, strict=True)]
        sizes = [len(chunk) for chunk in chunks]
        for each in rows:
            each.written = max(starts) + max(sizes)
        weights = self._adapters.weights([each.adapters for each in rows])
        if weights is not None and self._forward.goes_flat(sizes):
            each_size = torch.tensor(self._forward.flat_sizes(sizes), device=weights.device)
            weights = weights.repeat_interleave(each_size, dim=0)[None]
        with self._adapters.applied(weights):
            logits = self._forward.prefill(rows[0].row, chunks, starts)
        for each, end in zip(rows, ends, strict=True):
            each.length = end
        if not rows[0].prefilled:
            return None
        self._decoding.extend(self._group)
        self._group = []
        return logits

    def again(self, sequences: Sequence[Running]) -> None:
        """Puts them back, to be worked on one by one: their pass went wrong, and one of them may be why."""
        self._alone += len(sequences)
        for each in reversed(sequences):
            self.remove(each)
            each.length = each.written = 0
            self._queue.appendleft(each)

    def next_decode(self) -> Work | None:
        """All whose prompts are done."""
        return Work(self._decoding) if self._decoding else None

    def decode(self, work: Work) -> torch.Tensor:
        """One pass over neighbouring rows."""
        rows = work.sequences
        if self._weighed != rows:
            self._weighed = list(rows)
            self._weights = self._adapters.weights([each.adapters for each in rows])
        for each in rows:
            each.written = max(each.written, each.length + 1)
        with self._adapters.applied(self._weights):
            logits = self._forward.decode(rows[0].row, [each.last for each in rows], [each.length for each in rows])
        for each in rows:
            each.length += 1
        return logits

    def rest(self) -> None:
        """Gives back what the cache grew by."""
        self._cache.shrink()
        self._weights, self._weighed = None, []

    def positions(self) -> int:
        """Tokens in the cache."""
        return sum(each.length for each in (*self._decoding, *self._group))
