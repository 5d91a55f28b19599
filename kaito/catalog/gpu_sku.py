"""Gpu and GpuSku: a graphics processor, and an instance type that carries some of them."""

from datetime import date
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from kaito.catalog.entry import Count, Entry, GiB, Name

Vendor = Literal["nvidia", "amd", "aws"]

bfloat16_capability = (8, 0)
"""The first CUDA compute capability with bfloat16 (Ampere)."""


class Gpu(Entry):
    """A graphics processor (or another accelerator, known only so that refusing it can be explained)."""

    model: str
    vendor: Vendor
    product: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=63)] | None = None
    """Value of the node label nvidia.com/gpu.product."""
    memory_gib: GiB
    cuda_capability: tuple[int, int] | None = None
    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)] = 0.84
    """Share of the memory that vLLM may take."""

    @property
    def has_bfloat16(self) -> bool:
        """Whether it computes in bfloat16, which is also what vLLM asks for."""
        return self.cuda_capability is not None and self.cuda_capability >= bfloat16_capability

    @field_validator("cuda_capability", mode="before")
    @classmethod
    def _parse_capability(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        major, dot, minor = value.partition(".")
        if not (dot and major.isdecimal() and minor.isdecimal()):
            raise ValueError(f'{value!r} is no compute capability; write "MAJOR.MINOR", such as "8.0", in quotes')
        return int(major), int(minor)

    @model_validator(mode="after")
    def _nvidia_has_a_capability(self) -> "Gpu":
        if self.vendor == "nvidia" and self.cuda_capability is None:
            raise ValueError("an nvidia GPU needs its cuda_capability")
        return self


class GpuSku(Entry):
    """An instance type: what a cloud calls it, its GPUs and its host. Memory in GiB (2**30 bytes)."""

    aliases: tuple[Name, ...] = ()
    cloud: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$")]
    gpu: Gpu
    gpu_count: Count
    vcpus: Count | None = None
    memory_gib: GiB | None = None
    nvme: bool = False
    retired: date | None = None

    @property
    def keys(self) -> tuple[str, ...]:
        """All that finds the instance type."""
        return (self.name, *self.aliases)

    @property
    def total_gpu_memory_gib(self) -> float:
        """Memory of all GPUs of one node."""
        return self.gpu.memory_gib * self.gpu_count

    @property
    def schedulable(self) -> bool:
        """Whether anything here can run on it: the runtimes know CUDA only."""
        return self.gpu.vendor == "nvidia"

    def __str__(self) -> str:
        return f"{self.name} ({self.gpu_count} x {self.gpu.memory_gib:g} GiB {self.gpu.model})"
