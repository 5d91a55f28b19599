"""What GPU memory is taken by, part by part, and the constants that serving and tuning share."""

from __future__ import annotations

from dataclasses import dataclass

from kaito.catalog import GpuSku

bytes_per_gib = 2**30

fragmentation_factor = 1.05
"""Room that what lies in GPU memory needs over its size: blocks of an allocator are never all full (KAITO 0.12)."""


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the GPU memory that is needed.

    Attributes:
        name: what it is for, in a few words.
        gib: its size in GiB.
        how: where the number comes from, in a few words.
    """

    name: str
    gib: float
    how: str


def capability_of(sku: GpuSku) -> str:
    """The CUDA compute capability of an instance type's GPUs, such as `8.0`; empty for other makers' parts."""
    return ".".join(map(str, sku.gpu.cuda_capability or ()))


def plural(number: int, thing: str) -> str:
    """`1 node`, `2 nodes`."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
