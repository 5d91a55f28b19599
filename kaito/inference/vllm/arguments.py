"""vLLM's command line, from our options."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from kaito.inference.options import EngineOptions, Limits, ModelOptions
from kaito.inference.vllm.adapters import LoraModules
from kaito.inference.vllm.options import VllmOptions

_PARALLEL = {"tensor-parallel-size", "data-parallel-size", "pipeline-parallel-size", "tp", "dp", "pp"}
_MAX_LORA_ROWS = 1024
"""vLLM keeps room on the GPU for `--max-loras` adapters of the highest rank; more rows would cost gigabytes."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What was found out before vLLM starts.

    Attributes:
        folder: the model's.
        port: on loopback, for it to listen on.
        memory_utilization: share of a GPU's memory that it may take.
        parallelism: flags, without dashes, that spread the model over the GPUs.
        modules: the adapters.
    """

    folder: Path
    port: int
    memory_utilization: float
    parallelism: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    modules: LoraModules = field(default_factory=LoraModules)


def served_name(model: ModelOptions) -> str:
    """Under which clients know the base model: the id, or the folder's name."""
    folder = Path(model.model).expanduser()
    return model.served_name or (folder.resolve().name if folder.is_dir() else model.model)


def arguments(
    model: ModelOptions, engine: EngineOptions, limits: Limits, options: VllmOptions, machine: Machine
) -> list[str]:
    """What follows `vllm serve`. The user's own arguments come last, where they win."""
    return [
        str(machine.folder),
        *("--host", "127.0.0.1"),
        *("--port", str(machine.port)),
        *_model(model),
        *_engine(engine, options, machine),
        *_lora(machine.modules),
        *("--shutdown-timeout", str(math.ceil(limits.drain_s))),
        # Prompts and answers are not for the log, and our own server tells of requests.
        "--disable-uvicorn-access-log",
        *options.args,
    ]


def _model(model: ModelOptions) -> list[str]:
    return [
        *("--served-model-name", served_name(model)),
        *("--dtype", model.dtype),
        *(("--chat-template", model.chat_template) if model.chat_template else ()),
        *(("--trust-remote-code",) if model.trust_remote_code else ()),
    ]


def _engine(engine: EngineOptions, options: VllmOptions, machine: Machine) -> list[str]:
    parallelism = {} if _names(options.args) & _PARALLEL else machine.parallelism
    return [
        # "auto": as much of the model's context as memory allows.
        *("--max-model-len", "auto" if engine.max_model_len is None else str(engine.max_model_len)),
        *("--max-num-seqs", str(options.max_num_seqs)),
        *("--gpu-memory-utilization", str(options.gpu_memory_utilization or machine.memory_utilization)),
        *(each for flag, count in parallelism.items() for each in (f"--{flag}", str(count))),
    ]


def _lora(modules: LoraModules) -> list[str]:
    if not modules.all:
        return []
    count = len(modules.all)
    return [
        "--enable-lora",
        *("--max-lora-rank", str(modules.rank)),
        *("--max-loras", str(max(1, min(count, _MAX_LORA_ROWS // modules.rank)))),
        *("--max-cpu-loras", str(count)),
        *("--lora-modules", *(f"{module.name}={module.path}" for module in modules.all)),
    ]


def _names(args: tuple[str, ...]) -> set[str]:
    flags = (argument.partition("=")[0] for argument in args if argument.startswith("-"))
    return {flag.lstrip("-").replace("_", "-") for flag in flags}
