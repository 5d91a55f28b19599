"""How a model is spread over the GPUs of a node, and how much of their memory vLLM may take."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_MIB = 1024**2
_RESERVE_BYTES = 600 * _MIB
"""Of a GPU, for CUDA's context and what else is in the pod."""
_MOST = 0.95
_UNKNOWN = 0.84
"""Where free memory cannot be asked for."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU's memory, in bytes."""

    total: int
    free: int


def gpus() -> tuple[Gpu, ...]:
    """The GPUs that this process sees, asked of the driver; no context of CUDA is made, which would take memory."""
    try:
        import pynvml
    except ImportError:
        return ()
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return ()
    with contextlib.closing(_Handles(pynvml)) as handles:
        return tuple(Gpu(int(memory.total), int(memory.free)) for memory in handles)


class _Handles:
    def __init__(self, nvml: Any) -> None:
        self._nvml = nvml

    def __iter__(self) -> Iterator[Any]:
        for index in range(self._nvml.nvmlDeviceGetCount()):
            yield self._nvml.nvmlDeviceGetMemoryInfo(self._nvml.nvmlDeviceGetHandleByIndex(index))

    def close(self) -> None:
        self._nvml.nvmlShutdown()


def memory_utilization(devices: Sequence[Gpu]) -> float:
    """The share of each GPU's memory that vLLM may take, so that it fits the fullest one, in hundredths."""
    if not devices:
        return _UNKNOWN
    shares = [(device.free - _RESERVE_BYTES) / device.total for device in devices]
    return max(0.01, min(_MOST, math.floor(min(shares) * 100) / 100))


def parallelism(devices: Sequence[Gpu], model_bytes: int | None) -> dict[str, int]:
    """Flags, without dashes, that spread a model over these GPUs.

    A model of less than half of one GPU runs whole on each, one of more, or of a size not known, is cut.
    """
    if len(devices) < 2:
        return {}
    if model_bytes is not None and 2 * model_bytes < min(device.total for device in devices):
        return {"data-parallel-size": len(devices)}
    return {"tensor-parallel-size": len(devices)}


def model_bytes(folder: Path) -> int | None:
    """What a model's weights take; none if that is not known."""
    return sum(file.stat().st_size for file in folder.glob("*.safetensors")) or None
