"""Sequences on transformers' own caches, a pass for each: for models and lengths that one slot cache cannot serve."""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import PreTrainedModel

from kaito.inference.engine.lane import Running, Work
from kaito.inference.lora import Adapters


@dataclass(slots=True)
class _State:
    tokens: torch.Tensor
    kwargs: dict[str, Any] = field(default_factory=dict)


class AloneLane:
    """Steps each sequence as transformers' `generate` does. They take turns, token by token."""

    def __init__(self, model: PreTrainedModel, adapters: Adapters) -> None:
        self._model, self._adapters = model, adapters
        self._queue: deque[Running] = deque()
        self._states: dict[Running, _State] = {}
        self._stepped: dict[Running, torch.Tensor] = {}
        self._failed: dict[Running, Exception] = {}
        self._keeps = "logits_to_keep" in inspect.signature(model.forward).parameters

    def add(self, sequence: Running) -> None:
        """Takes a sequence in."""
        self._queue.append(sequence)

    def remove(self, sequence: Running) -> None:
        """Drops its cache."""
        if self._states.pop(sequence, None) is None:
            self._queue.remove(sequence)
        self._stepped.pop(sequence, None)
        self._failed.pop(sequence, None)

    def next_prefill(self, budget: int, whole: int) -> Work | None:
        """The next prompt, whole, whatever the budget."""
        return Work([self._queue[0]], len(self._queue[0].prompt)) if self._queue else None

    def prefill(self, work: Work) -> torch.Tensor:
        """One pass over a prompt."""
        [sequence] = work.sequences
        tokens = torch.tensor([sequence.prompt], device=self._model.device)
        kwargs: dict[str, Any] = {"attention_mask": torch.ones_like(tokens), "use_cache": True}
        if self._keeps:
            kwargs["logits_to_keep"] = 1
        state = _State(tokens, kwargs)
        logits = self._forward(sequence, state, first=True)
        self._queue.remove(sequence)
        self._states[sequence] = state
        sequence.length = len(sequence.prompt)
        return logits

    def again(self, sequences: Sequence[Running]) -> None:
        """Nothing: a pass here is over one prompt only."""

    def next_decode(self) -> Work | None:
        """All whose prompts are done."""
        return Work(list(self._states)) if self._states else None

    def decode(self, work: Work) -> torch.Tensor:
        """One pass for each. What was done before one failed counts when it is tried again without that one.

        That one fails for good: some layers of its cache may have taken the token in, and some not.
        """
        for sequence in work.sequences:
            if sequence in self._failed:
                raise self._failed[sequence]
            if sequence not in self._stepped:
                state = self._states[sequence]
                state.tokens = torch.cat((state.tokens, state.tokens.new_tensor([[sequence.last]])), dim=1)
                try:
                    self._stepped[sequence] = self._forward(sequence, state, first=False)
                except Exception as error:
                    self._failed[sequence] = error
                    raise
                sequence.length += 1
        return torch.cat([self._stepped.pop(sequence) for sequence in work.sequences])

    def _forward(self, sequence: Running, state: _State, *, first: bool) -> torch.Tensor:
        inputs = self._model.prepare_inputs_for_generation(
            state.tokens, next_sequence_length=None if first else 1, is_first_iteration=first, **state.kwargs
        )
        with self._adapters.applied(self._adapters.weights([sequence.adapters])):
            output = self._model(**inputs, return_dict=True)
        state.kwargs = self._model._update_model_kwargs_for_generation(output, state.kwargs)
        logits: torch.Tensor = output.logits[:, -1]
        return logits

    def rest(self) -> None:
        """Nothing: what a sequence had went with it."""

    def positions(self) -> int:
        """Tokens in the caches."""
        return sum(sequence.length for sequence in self._states)
