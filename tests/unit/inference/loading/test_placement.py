"""Where a model goes, in which dtype, and whether there is memory for it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from kaito.inference.errors import StartError
from kaito.inference.loading.checkpoint import Checkpoint, read_checkpoint
from kaito.inference.loading.placement import Placement, check_memory, free_memory, place, weight_bytes
from kaito.inference.options import Dtype, ModelOptions

CPU = torch.device("cpu")
GIB = 1 << 30
needs_no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="says what is said without a GPU")


@pytest.fixture(scope="module")
def checkpoint(tiny: Path) -> Checkpoint:
    return read_checkpoint(tiny / "model", trust_remote_code=False)


def options(dtype: Dtype = "auto", device: str = "cpu") -> ModelOptions:
    return ModelOptions("any", dtype=dtype, device=device)


@pytest.mark.parametrize(
    ("dtype", "placement"),
    [
        ("auto", Placement(CPU, torch.float32)),
        ("float32", Placement(CPU, torch.float32)),
        ("bfloat16", Placement(CPU, torch.bfloat16)),
        ("int8", Placement(CPU, torch.float32, int8=True)),
    ],
)
def test_a_cpu_has_float32_unless_something_else_is_asked_for(
    checkpoint: Checkpoint, dtype: Dtype, placement: Placement
) -> None:
    assert place(options(dtype), checkpoint) == placement


def test_float16_is_for_gpus(checkpoint: Checkpoint) -> None:
    with pytest.raises(StartError, match="on a CPU choose float32, bfloat16 or int8"):
        place(options("float16"), checkpoint)


@needs_no_gpu
@pytest.mark.parametrize("device", ["cuda", "cuda:1", "mps", "gpu", "cuda:x"])
def test_a_device_that_is_not_there_is_refused_with_those_that_are(checkpoint: Checkpoint, device: str) -> None:
    with pytest.raises(StartError, match=rf"there is no device {device}.*; choose auto or one of: cpu$"):
        place(options(device=device), checkpoint)


@needs_no_gpu
def test_without_a_gpu_the_cpu_is_taken(checkpoint: Checkpoint) -> None:
    assert place(options(device="auto"), checkpoint).device == CPU


def test_weights_need_what_the_files_headers_say(checkpoint: Checkpoint, tiny: Path) -> None:
    stored = (tiny / "model" / "model.safetensors").stat().st_size
    needed = weight_bytes(checkpoint, Placement(CPU, torch.float32))
    assert stored - 5000 < needed < stored
    assert weight_bytes(checkpoint, Placement(CPU, torch.bfloat16)) == needed // 2
    assert weight_bytes(checkpoint, Placement(CPU, torch.float32, int8=True)) == needed  # its checkpoint is float32


def machine(root: Path, available: int, files: dict[str, str]) -> Path:
    """A /proc and a /sys."""
    for name, text in {"proc/meminfo": f"MemTotal: 99 kB\nMemAvailable: {available // 1024} kB\n", **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


MAPS = """\
7f4506337000-7f4546337000 rw-p 00000000 fe:00 9986634                    /models/a model/model-00001.safetensors
7f4546337000-7f4596337000 r-xp 0003b000 fe:00 5367556                    /lib/_safetensors_rust.abi3.so
7f4596337000-7f4596338000 rw-p 00000000 00:00 0
"""


def v2(folder: str, limit: str, used: int, cache: int = 0, active: int = 0) -> dict[str, str]:
    top = f"sys/fs/cgroup/{folder}".rstrip("/")
    return {
        f"{top}/memory.max": f"{limit}\n",
        f"{top}/memory.current": f"{used}\n",
        f"{top}/memory.stat": f"anon 1\ninactive_file {cache}\nactive_file {active}\n",
    }


def v1(folder: str, limit: int, used: int, cache: int = 0) -> dict[str, str]:
    top = f"sys/fs/cgroup/memory/{folder}".rstrip("/")
    return {
        f"{top}/memory.limit_in_bytes": f"{limit}\n",
        f"{top}/memory.usage_in_bytes": f"{used}\n",
        f"{top}/memory.stat": f"inactive_file 7\ntotal_inactive_file {cache}\n",
    }


@pytest.mark.parametrize(
    ("files", "free"),
    [
        ({}, 8 * GIB),
        (v2("", "max", GIB), 8 * GIB),
        (v2("", str(4 * GIB), GIB), 3 * GIB),
        (v2("", str(4 * GIB), 3 * GIB, cache=2 * GIB), 3 * GIB),
        (v2("", str(4 * GIB), 3 * GIB, cache=GIB, active=GIB), 3 * GIB),
        # Weights of one GiB that are mapped, and something else.
        ({"proc/self/maps": MAPS, **v2("", str(4 * GIB), 3 * GIB, cache=2 * GIB)}, 2 * GIB),
        ({"proc/self/maps": MAPS}, 7 * GIB),
        ({"proc/self/maps": MAPS, **v2("", str(GIB), GIB)}, 0),
        ({"proc/self/cgroup": "0::/pods/a\n", **v2("pods", str(2 * GIB), GIB), **v2("pods/a", "max", GIB)}, GIB),
        ({"proc/self/cgroup": "0::/../../elsewhere\n", **v2("", str(4 * GIB), GIB)}, 3 * GIB),
        ({"proc/self/cgroup": "5:memory:/docker/x\n", **v1("docker/x", 4 * GIB, 3 * GIB, cache=GIB)}, 2 * GIB),
        (v1("", 4 * GIB, 3 * GIB), GIB),
        (v1("", (1 << 63) - 4096, 3 * GIB), 8 * GIB),
        ({"proc/self/cgroup": "no cgroup\n"}, 8 * GIB),
    ],
)
def test_free_memory_is_the_least_of_the_machines_and_each_cgroups(
    tmp_path: Path, files: dict[str, str], free: int
) -> None:
    assert free_memory(machine(tmp_path, 8 * GIB, files))[0] == free


def test_a_model_that_does_not_fit_is_refused_with_needed_and_had(checkpoint: Checkpoint, tmp_path: Path) -> None:
    small = machine(tmp_path, 8 * GIB, v2("", str(400_000), 0))
    needed = weight_bytes(checkpoint, Placement(CPU, torch.float32))
    with pytest.raises(StartError) as refused:
        check_memory(checkpoint, Placement(CPU, torch.float32), small)
    assert str(refused.value) == (
        f"too little memory: the weights of {checkpoint.folder} need {needed / 1e3:.1f} kB as float32 on cpu, and "
        "400.0 kB of the container's limit of 400.0 kB are free; give the container more memory, choose dtype bfloat16 "
        "or int8, or choose a smaller model"
    )
    check_memory(checkpoint, Placement(CPU, torch.bfloat16), small)


def test_this_machine_tells_what_is_free() -> None:
    free, _ = free_memory()
    assert 0 < free < 1 << 50
