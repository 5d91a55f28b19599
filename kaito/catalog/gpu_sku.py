"""Gpu and GpuSku: a graphics processor, and an instance type that carries some of them."""

from datetime import date
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from kaito.catalog.entry import Count, Entry, GiB, Name

Vendor = Literal["nvidia", "amd", "aws"]

bfloat16_capability = (8, 0)
"""The first CUDA compute capability with bfloat16 (Ampere)."""


Dtype = Literal["float16", "int8", "bfloat16", "float8", "float4"]

dtype_capabilities: dict[Dtype, tuple[int, int]] = {
    "float16": (7, 0),
    "int8": (7, 5),
    "bfloat16": bfloat16_capability,
    "float8": (8, 9),
    "float4": (10, 0),
}
"""The first CUDA compute capability whose tensor cores multiply a number format (NVIDIA, CUDA C++ programming guide and
Transformer Engine support matrix; vLLM, supported hardware, says the same of int8 and float8)."""


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

    @property
    def dtypes(self) -> tuple[Dtype, ...]:
        """Number formats that its tensor cores multiply, oldest first; of other makers' parts nothing is known."""
        has = self.cuda_capability
        return tuple(dtype for dtype, first in dtype_capabilities.items() if has is not None and has >= first)

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

    @classmethod
    def of(cls, gpu: Gpu, count: int) -> "GpuSku":
        """Returns an instance type of no cloud with so many of a GPU: for estimates only, since no cloud makes it."""
        name = f"{count}x-{gpu.name}"
        return cls(name=name, cloud="generic", gpu=gpu, gpu_count=count, source=gpu.source)

    def __str__(self) -> str:
        return f"{self.name} ({self.gpu_count} x {self.gpu.memory_gib:g} GiB {self.gpu.model})"
