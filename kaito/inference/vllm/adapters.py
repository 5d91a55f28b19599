"""LoRA adapters as vLLM takes them, which knows no strengths: a strength is worked into a copy of the weights.

An adapter adds ``strength * scaling * B A`` to a weight, where vLLM computes ``alpha / r * B A`` from what it loads.
A copy has strength and scaling in its B, and alpha equal to r. Several adapters at once are one whose A are stacked on
each other, and whose B stand side by side: exact, as the sum of the products is the product of the blocks.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import torch
from safetensors.torch import save_file

from kaito.inference.errors import BadRequest, ModelNotFound, StartError
from kaito.inference.lora.folder import CONFIG, WEIGHTS, Matrices, is_adapter, read_adapter

BLEND = "kaito-all-adapters"
"""Under which vLLM knows all adapters at once, at their start strengths; no adapter may have this name."""
RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""What `--max-lora-rank` may be."""


@dataclass(frozen=True, slots=True)
class LoraModule:
    """What vLLM loads under a name: an adapter's own folder, or a copy.

    Attributes:
        name: by which vLLM knows it.
        path: its folder.
        rank: of its matrices, the highest one.
        strengths: of the adapters that are in it.
    """

    name: str
    path: Path
    rank: int
    strengths: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class LoraModules:
    """All of them.

    Attributes:
        each: one for each adapter, by name.
        roots: the adapters' own folders, by name.
        blend: all at once; none if there is only one, or they are too large together.
        rank: that vLLM must be ready for.
    """

    each: tuple[LoraModule, ...] = ()
    roots: Mapping[str, Path] = field(default_factory=lambda: MappingProxyType({}))
    blend: LoraModule | None = None

    @property
    def all(self) -> tuple[LoraModule, ...]:
        """The single ones, then the blend."""
        return (*self.each, *((self.blend,) if self.blend is not None else ()))

    @property
    def rank(self) -> int:
        """What vLLM's `--max-lora-rank` must be, if there are any."""
        return next(rank for rank in RANKS if rank >= max(module.rank for module in self.all))

    @property
    def strengths(self) -> Mapping[str, float]:
        """What each adapter counts where a request does not say."""
        return {module.name: module.strengths[module.name] for module in self.each}

    def named(self, adapters: Mapping[str, float], base: str) -> str:
        """vLLM's name of what has these strengths.

        Args:
            adapters: strength by adapter name; empty: the base model.
            base: name of the base model.

        Raises:
            ModelNotFound: There is no adapter of a name.
            BadRequest: No module has these strengths, which are fixed when vLLM starts.
        """
        for name in adapters:
            if name not in self.strengths:
                raise ModelNotFound(
                    f"no adapter {name}; there are: {', '.join(self.strengths) or 'none'}", param="lora"
                )
        wanted = {name: strength for name, strength in adapters.items() if strength}
        if not wanted:
            return base
        for module in self.all:
            if wanted == {name: strength for name, strength in module.strengths.items() if strength}:
                return module.name
        raise BadRequest(self._refusal(wanted), param="lora")

    def _refusal(self, wanted: Mapping[str, float]) -> str:
        start = {name: strength for name, strength in self.strengths.items() if strength}
        if wanted == start:
            return (
                f"all adapters at once have a rank of {sum(module.rank for module in self.each)}, and vLLM takes "
                f"{RANKS[-1]} at most; choose one by its name, or serve with --runtime transformers"
            )
        return (
            f"the runtime vllm serves none of the adapters, one of them, or all, at their start strengths, which are "
            f"{json.dumps(start)}; any others are served with --runtime transformers"
        )


def prepare(directory: Path | None, strengths: Mapping[str, float], work: Path) -> LoraModules:
    """Reads the adapters of a folder and writes the copies that their strengths ask for; blocks.

    Args:
        directory: with a folder for each adapter; none: no adapters.
        strengths: by adapter name; 1.0 where none is given.
        work: an empty folder of our own, for the copies.

    Raises:
        StartError: An adapter cannot be read, or vLLM cannot serve it.
    """
    folders = sorted(filter(is_adapter, directory.iterdir())) if directory is not None else []
    if not folders:
        return LoraModules()
    read = {folder.name: _read(folder) for folder in folders}
    counts = {name: strengths.get(name, 1.0) for name in read}
    return LoraModules(
        tuple(_module(folder, read[folder.name], counts[folder.name], work) for folder in folders),
        {folder.name: folder for folder in folders},
        _blend(read, counts, work),
    )


def _read(folder: Path) -> dict[str, Matrices]:
    if folder.name == BLEND:
        raise StartError(f"adapter {folder.name}: this name is taken by the server; rename the folder")
    matrices = read_adapter(folder)
    if (rank := _rank(matrices)) > RANKS[-1]:
        raise StartError(
            f"adapter {folder.name}: its rank is {rank}, and vLLM takes at most {RANKS[-1]}; use --runtime transformers"
        )
    return matrices


def _rank(matrices: Mapping[str, Matrices]) -> int:
    return max(each.down.shape[0] for each in matrices.values())


def _module(folder: Path, matrices: Mapping[str, Matrices], strength: float, work: Path) -> LoraModule:
    rank, counts = _rank(matrices), {folder.name: strength}
    config = json.loads((folder / CONFIG).read_text())
    # vLLM reads one rank and one alpha for all modules, and only the file's own names of them.
    plain = not (config.get("rank_pattern") or config.get("alpha_pattern"))
    path = folder if strength == 1.0 and plain else _write(work / folder.name, [(matrices, strength)], rank)
    return LoraModule(folder.name, path, rank, counts)


def _blend(read: Mapping[str, Mapping[str, Matrices]], counts: Mapping[str, float], work: Path) -> LoraModule | None:
    rank = sum(map(_rank, read.values()))
    if len(read) < 2 or rank > RANKS[-1]:
        return None
    parts = [(matrices, counts[name]) for name, matrices in read.items()]
    return LoraModule(BLEND, _write(work / BLEND, parts, rank), rank, counts)


def _write(folder: Path, parts: Sequence[tuple[Mapping[str, Matrices], float]], rank: int) -> Path:
    """Writes an adapter that is the sum of some, each times its strength."""
    modules = sorted({module for matrices, _ in parts for module in matrices})
    weights: dict[str, torch.Tensor] = {}
    for module in modules:
        down, up = _sum([(matrices.get(module), strength, _rank(matrices)) for matrices, strength in parts], rank)
        weights[f"base_model.model.{module}.lora_A.weight"] = down
        weights[f"base_model.model.{module}.lora_B.weight"] = up
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "bias": "none",
        "lora_dropout": 0.0,
        "r": rank,
        "lora_alpha": rank,
        "target_modules": sorted({name.rpartition(".")[2] for name in modules}),
    }
    folder.mkdir()
    (folder / CONFIG).write_text(json.dumps(config))
    save_file(weights, folder / WEIGHTS)
    return folder


def _sum(parts: Sequence[tuple[Matrices | None, float, int]], rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A and B of a module; zeros where an adapter does not touch it, so that all modules have one rank.

    They are float32, so that a strength is rounded once only: when vLLM makes of them what the model is.
    """
    some = next(matrices for matrices, _, _ in parts if matrices is not None)
    down, up = torch.zeros(rank, some.down.shape[1]), torch.zeros(some.up.shape[0], rank)
    start = 0
    for matrices, strength, width in parts:
        if matrices is not None:
            end = start + matrices.down.shape[0]
            down[start:end] = matrices.down
            up[:, start:end] = matrices.up * (strength * matrices.scaling)
        start += width
    return down, up
