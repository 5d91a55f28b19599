"""The adapters of a model."""

from __future__ import annotations

import contextlib
import difflib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from kaito.inference.errors import StartError
from kaito.inference.lora.folder import CONFIG, Matrices, is_adapter, read_adapter
from kaito.inference.lora.layer import RowLora, RowStrengths
from kaito.inference.wording import some


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
        self._columns = {adapter.name: column for column, adapter in enumerate(self.all)}
        self._strengths = RowStrengths()
        self._layouts: list[_Layout] = []
        self._device = torch.device("cpu")

    @classmethod
    def attach(cls, model: PreTrainedModel, directory: Path | None, strengths: Mapping[str, float]) -> Adapters:
        """Loads each folder of a directory that has an `adapter_config.json`, in order of name.

        Raises:
            StartError: An adapter does not fit the model, is of a kind that is not supported, or is no adapter; or a
                strength names none, or is no finite number.
        """
        folders = _folders(directory)
        _check_strengths(strengths, [folder.name for folder in folders])
        read = [read_adapter(folder) for folder in folders]
        adapters = cls(
            [
                Adapter(folder.name, folder, float(strengths.get(folder.name, 1.0)), _highest_rank(matrices))
                for folder, matrices in zip(folders, read, strict=True)
            ]
        )
        adapters._put_into(model, read)
        return adapters

    def weights(self, rows: Sequence[Mapping[str, float]]) -> torch.Tensor | None:
        """Strengths as `applied` takes them, shape [len(rows), adapters]; None when all are zero.

        Raises:
            KeyError: A row names an adapter that there is not.
        """
        table = [[0.0] * len(self.all) for _ in rows]
        for row, strengths in zip(table, rows, strict=True):
            for name, strength in strengths.items():
                row[self._columns[name]] = strength
        if not any(map(any, table)):
            return None
        return torch.tensor(table, dtype=torch.float32, device=self._device)

    @contextlib.contextmanager
    def applied(self, weights: torch.Tensor | None) -> Iterator[None]:
        """Within it, in this thread, rows have these strengths: [batch, adapters], or [batch, seq, adapters]."""
        before = self._strengths.by_layout
        self._strengths.by_layout = None if weights is None else tuple(each.spread(weights) for each in self._layouts)
        try:
            yield
        finally:
            self._strengths.by_layout = before

    def _put_into(self, model: PreTrainedModel, read: Sequence[Mapping[str, Matrices]]) -> None:
        """Replaces each module that an adapter has matrices for, once all of them are known to fit."""
        modules = dict(model.named_modules())
        for adapter, matrices in zip(self.all, read, strict=True):
            _check_fit(adapter.name, matrices, model, modules)
        self._device = model.device
        layouts: dict[tuple[tuple[int, int, float], ...], int] = {}
        for name in sorted({name for matrices in read for name in matrices}):
            parts = [(column, matrices[name]) for column, matrices in enumerate(read) if name in matrices]
            layout = tuple((column, part.down.shape[0], part.scaling) for column, part in parts)
            base, device = modules[name], _device(modules[name], model)
            layer = RowLora(
                base,
                torch.cat([part.down for _, part in parts]).to(device),
                torch.cat([part.up for _, part in parts], dim=1).to(device),
                layouts.setdefault(layout, len(layouts)),
                self._strengths,
            )
            parent, _, attribute = name.rpartition(".")
            setattr(modules[parent], attribute, layer)
        self._layouts = [_Layout.of(layout, self._device) for layout in layouts]


@dataclass(frozen=True, slots=True)
class _Layout:
    """To whom the ranks of a layer belong, in order: layers that agree in it share one table of weights."""

    owner: torch.Tensor
    scaling: torch.Tensor

    @classmethod
    def of(cls, parts: Sequence[tuple[int, int, float]], device: torch.device) -> _Layout:
        owner = [column for column, rank, _ in parts for _ in range(rank)]
        scaling = [scaling for _, rank, scaling in parts for _ in range(rank)]
        return cls(torch.tensor(owner, device=device), torch.tensor(scaling, device=device))

    def spread(self, weights: torch.Tensor) -> torch.Tensor:
        """[batch, adapters] or [batch, seq, adapters] to [batch, 1 or seq, ranks]."""
        spread = weights.index_select(-1, self.owner) * self.scaling
        return spread.unsqueeze(1) if spread.dim() == 2 else spread


def _folders(directory: Path | None) -> list[Path]:
    if directory is None:
        return []
    try:
        return sorted(filter(is_adapter, directory.iterdir()), key=lambda folder: folder.name)
    except OSError as error:
        raise StartError(f"the folder of adapters, {directory}, cannot be read: {error.strerror}") from error


def _check_strengths(strengths: Mapping[str, float], names: Sequence[str]) -> None:
    for name, strength in strengths.items():
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            there = ", ".join(names) or "none"
            raise StartError(f"a strength is given for adapter {name}, which is not there; there are: {there}{hint}")
        if not math.isfinite(strength):
            raise StartError(f"adapter {name}: its strength is {strength}; it must be a finite number")


def _check_fit(
    adapter: str, matrices: Mapping[str, Matrices], model: PreTrainedModel, modules: Mapping[str, nn.Module]
) -> None:
    if missing := [name for name in matrices if name not in modules]:
        raise StartError(
            f"adapter {adapter}: the model has no {some(missing)}; it has linear layers such as "
            f"{some(_linear(modules))}; was it trained on another model? See base_model_name_or_path in its {CONFIG}"
        )
    head = model.get_output_embeddings()
    for name, part in matrices.items():
        shape = _shape(modules[name])
        if shape is None or modules[name] is head or ".experts." in name:
            raise StartError(
                f"adapter {adapter}: it changes {name}, a {type(modules[name]).__name__}; only linear layers are "
                "served, without lm_head, embeddings and the experts of a mixture: train it without, or merge it"
            )
        given = (part.down.shape[1], part.up.shape[0])
        if given != shape:
            raise StartError(
                f"adapter {adapter}: {name} takes {shape[0]} features and gives {shape[1]}, but the adapter's takes "
                f"{given[0]} and gives {given[1]}; it was trained on another model"
            )


def _linear(modules: Mapping[str, nn.Module]) -> list[str]:
    return [name for name, module in modules.items() if _shape(module) is not None]


def _shape(module: nn.Module) -> tuple[int, int] | None:
    """(in_features, out_features) of a linear layer, quantised or not; none for any other module."""
    if isinstance(module, Conv1D):
        taken, given = module.weight.shape
        return taken, given
    features = getattr(module, "in_features", None), getattr(module, "out_features", None)
    return features if isinstance(features[0], int) and isinstance(features[1], int) else None  # type: ignore[return-value]


def _device(module: nn.Module, model: PreTrainedModel) -> torch.device:
    """Where a module's result is; a quantised one's weight may be no tensor."""
    weight = getattr(module, "weight", None)
    return weight.device if isinstance(weight, torch.Tensor) else model.device


def _highest_rank(matrices: Mapping[str, Matrices]) -> int:
    return max(part.down.shape[0] for part in matrices.values())
