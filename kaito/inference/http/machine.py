"""Load and memory of this machine, in the words that the first KAITO's /metrics used."""

from __future__ import annotations

import contextlib
from typing import Any

import psutil
import pynvml

_GIGABYTE = 1024**3

# The load since the last question: the first answer would be 0 otherwise, and to wait would hold up the caller.
psutil.cpu_percent()


def cpu_info() -> dict[str, Any]:
    """Load since the last call, cores and memory."""
    memory = psutil.virtual_memory()
    return {
        "load_percentage": psutil.cpu_percent(),
        "physical_cores": psutil.cpu_count(logical=False),
        "total_cores": psutil.cpu_count(),
        "memory": {"used": _size(memory.used), "total": _size(memory.total)},
    }


def gpu_info() -> list[dict[str, Any]] | None:
    """One entry for each GPU; None where there is none. Blocks for some milliseconds."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    try:
        return [_gpu(index) for index in range(pynvml.nvmlDeviceGetCount())] or None
    except pynvml.NVMLError:
        return None
    finally:
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()


def _gpu(index: int) -> dict[str, Any]:
    device = pynvml.nvmlDeviceGetHandleByIndex(index)
    memory = pynvml.nvmlDeviceGetMemoryInfo(device)
    return {
        "id": pynvml.nvmlDeviceGetUUID(device),
        "name": pynvml.nvmlDeviceGetName(device),
        "load": f"{pynvml.nvmlDeviceGetUtilizationRates(device).gpu:.2f}%",
        "temperature": f"{pynvml.nvmlDeviceGetTemperature(device, pynvml.NVML_TEMPERATURE_GPU)} C",
        "memory": {"used": _size(memory.used), "total": _size(memory.total)},
    }


def _size(count: int) -> str:
    return f"{count / _GIGABYTE:.2f} GB"
