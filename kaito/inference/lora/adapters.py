"""The adapters of a model."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedModel


@dataclass(frozen=True, slots=True)
class Adapter:
    """One adapter.

    Attributes:
        name: its folder's name, which requests give as `model`.
        root: its folder.
        strength: what it counts where a request does not say.
        rank: of its matrices, the highest one.
    """

    name: str
    root: Path
    strength: float
    rank: int


class Adapters:
    """All adapters of a model, loaded into it; `attach` makes one."""

    def __init__(self, adapters: Sequence[Adapter]) -> None:
        self.all = tuple(adapters)

    @classmethod
    def attach(cls, model: PreTrainedModel, directory: Path | None, strengths: Mapping[str, float]) -> Adapters:
        """Loads each folder of a directory that has an `adapter_config.json`, in order of name.

        Raises:
            StartError: An adapter does not fit the model, is of a kind that is not supported, or is no adapter.
        """
        return cls(())

    def weights(self, rows: Sequence[Mapping[str, float]]) -> torch.Tensor | None:
        """Strengths as `applied` takes them, shape [len(rows), adapters]; None when all are zero."""
        return None

    @contextlib.contextmanager
    def applied(self, weights: torch.Tensor | None) -> Iterator[None]:
        """Within it, in this thread, rows have these strengths: [batch, adapters], or [batch, seq, adapters]."""
        yield
