"""Where a model runs and in which dtype, and whether there is memory for that."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch

from kaito.inference.cgroups import cgroup_folders
from kaito.inference.errors import StartError
from kaito.inference.loading.checkpoint import Checkpoint
from kaito.inference.options import ModelOptions
from kaito.inference.wording import size

_BYTES = {torch.float32: 4, torch.bfloat16: 2, torch.float16: 2}
_FLOATS = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
_OTHERS = {"I64": 8, "U64": 8, "I32": 4, "U32": 4, "I16": 2, "U16": 2}


@dataclass(frozen=True, slots=True)
class Placement:
    """Where and how a model runs.

    Attributes:
        device: CPU or GPU.
        dtype: of its weights and of what is computed with them.
        int8: whether its linear layers are quantised.
    """

    device: torch.device
    dtype: torch.dtype
    int8: bool = False

    def __str__(self) -> str:
        return f"{'int8' if self.int8 else str(self.dtype).removeprefix('torch.')} on {self.device}"


def place(options: ModelOptions, checkpoint: Checkpoint) -> Placement:
    """What the options say, or what is best here.

    Raises:
        StartError: There is no such device, or the dtype does not go with it.
    """
    device = _device(options.device)
    wanted = options.dtype
    if device.type == "cpu":
        if wanted == "float16":
            raise StartError("dtype float16 is for GPUs; on a CPU choose float32, bfloat16 or int8")
        if wanted == "int8":
            return Placement(device, torch.float32, int8=True)
        return Placement(device, torch.float32 if wanted == "auto" else getattr(torch, wanted))
    if wanted == "int8":
        raise StartError("dtype int8 is for CPUs; on a GPU choose bfloat16 or float16")
    if wanted != "auto":
        return Placement(device, getattr(torch, wanted))
    own = checkpoint.config.dtype if isinstance(checkpoint.config.dtype, torch.dtype) else torch.bfloat16
    lacks_bfloat16 = torch.cuda.get_device_capability(device) < (8, 0)
    return Placement(device, torch.float16 if own is torch.bfloat16 and lacks_bfloat16 else own)


def _device(wanted: str) -> torch.device:
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if wanted == "auto":
        return torch.device("cuda", 0) if count else torch.device("cpu")
    there = ", ".join(["cpu", *(f"cuda:{index}" for index in range(count))])
    try:
        device = torch.device(wanted)
    except RuntimeError as error:
        raise StartError(f"there is no device {wanted}; choose auto or one of: {there}") from error
    if device.type == "cpu":
        return torch.device("cpu")
    if device.type != "cuda" or (device.index or 0) >= count:
        raise StartError(f"there is no device {wanted} here; choose auto or one of: {there}")
    return torch.device("cuda", device.index or 0)


def check_memory(checkpoint: Checkpoint, placement: Placement, root: Path = Path("/")) -> None:
    """Before anything is loaded, and the kernel ends the process without a word.

    Args:
        checkpoint: the model.
        placement: where it is to go.
        root: where /proc and /sys are.

    Raises:
        StartError: The weights alone are more than there is.
    """
    needed = weight_bytes(checkpoint, placement)
    if placement.device.type == "cuda":
        free, what = torch.cuda.mem_get_info(placement.device)[0], f"memory of {placement.device}"
        remedy = "end what else uses that GPU, or choose another device"
    else:
        free, what = free_memory(root)
        smaller = (
            ""
            if placement.int8
            else ", choose dtype int8"
            if placement.dtype != torch.float32
            else (", choose dtype bfloat16 or int8")
        )
        remedy = f"give the container more memory{smaller}, or choose a smaller model"
    if needed > free:
        raise StartError(
            f"too little memory: the weights of {checkpoint.folder} need {size(needed)} as {placement}, and "
            f"{size(free)} of {what} are free; {remedy}"
        )


def weight_bytes(checkpoint: Checkpoint, placement: Placement) -> int:
    """Of the weights in memory; of int8, while the checkpoint's own are still there."""
    total = 0
    for tensor in checkpoint.tensors.values():
        own = _FLOATS.get(tensor.dtype)
        if own is None:
            total += math.prod(tensor.shape) * _OTHERS.get(tensor.dtype, 1)
        else:
            total += math.prod(tensor.shape) * (own if placement.int8 else _BYTES[placement.dtype])
    return total


def free_memory(root: Path = Path("/")) -> tuple[int, str]:
    """Bytes that this process may still take, and what limits it: the machine, or the cgroup it is in.

    The kernel counts the pages of files as free, but weights that are mapped from a checkpoint are needed all the time.
    """
    found = [(available, "the machine's memory") for available in _available(root)]
    found += [(free, f"the container's limit of {size(limit)}") for free, limit in _cgroup_free(root)]
    free, what = min(found, default=(1 << 62, "memory"))
    return max(0, free - _mapped_weights(root)), what


def _mapped_weights(root: Path) -> int:
    try:
        lines = (root / "proc/self/maps").read_text().splitlines()
    except OSError:
        return 0
    ranges = [line.split(maxsplit=1)[0].split("-") for line in lines if line.endswith(".safetensors")]
    return sum(int(end, 16) - int(start, 16) for start, end in ranges)


def _available(root: Path) -> Iterable[int]:
    try:
        lines = (root / "proc/meminfo").read_text().splitlines()
    except OSError:
        return []
    return [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]


def _cgroup_free(root: Path) -> Iterable[tuple[int, int]]:
    """Of this process's cgroup and each above it, in either version: what is free, and its limit."""
    for folder in cgroup_folders("memory", root):
        for limit_name, used_name, prefix in (
            ("memory.max", "memory.current", ""),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_"),
        ):
            try:
                limit = int((folder / limit_name).read_text())
                used = int((folder / used_name).read_text())
                stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
            except (OSError, ValueError):  # not there, or "max": no limit
                continue
            # Files in the page cache go when memory is asked for.
            cached = sum(int(stat.get(f"{prefix}{kind}_file", 0)) for kind in ("inactive", "active"))
            yield limit - max(0, used - cached), limit
