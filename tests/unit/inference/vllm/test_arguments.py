"""vLLM's command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from kaito.inference.errors import StartError
from kaito.inference.options import EngineOptions, Limits, ModelOptions
from kaito.inference.vllm import VllmOptions, args_of_config
from kaito.inference.vllm.adapters import LoraModule, LoraModules
from kaito.inference.vllm.arguments import Machine, arguments, served_name
from kaito.inference.vllm.placement import Gpu, memory_utilization, model_bytes, parallelism

GIB = 1024**3


def line(
    model: ModelOptions | None = None,
    engine: EngineOptions | None = None,
    options: VllmOptions | None = None,
    machine: Machine | None = None,
) -> list[str]:
    return arguments(
        model or ModelOptions("org/model"),
        engine or EngineOptions(),
        Limits(drain_s=12.5),
        options or VllmOptions(),
        machine or Machine(Path("/m"), 4711, 0.84),
    )


def value(given: list[str], flag: str) -> str:
    return given[given.index(flag) + 1]


def test_without_settings_it_names_the_model_the_port_and_what_a_gpu_allows() -> None:
    assert line() == [
        "/m",
        *("--host", "127.0.0.1", "--port", "4711"),
        *("--served-model-name", "org/model", "--dtype", "auto"),
        *("--max-model-len", "auto", "--max-num-seqs", "256", "--gpu-memory-utilization", "0.84"),
        *("--shutdown-timeout", "13", "--disable-uvicorn-access-log"),
    ]


def test_settings_of_the_model_are_flags() -> None:
    given = line(
        ModelOptions(
            "org/model",
            token="secret",
            served_name="mine",
            dtype="bfloat16",
            chat_template="{{ x }}",
            trust_remote_code=True,
        ),
        EngineOptions(max_model_len=4096),
        VllmOptions(max_num_seqs=8, gpu_memory_utilization=0.5),
    )
    assert value(given, "--served-model-name") == "mine"
    assert value(given, "--dtype") == "bfloat16"
    assert value(given, "--chat-template") == "{{ x }}"
    assert value(given, "--max-model-len") == "4096"
    assert value(given, "--max-num-seqs") == "8"
    assert value(given, "--gpu-memory-utilization") == "0.5"
    assert "--trust-remote-code" in given
    assert "secret" not in given


def test_a_folder_is_served_under_its_name_and_an_id_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "phi").mkdir()
    assert served_name(ModelOptions(f"{tmp_path}/phi/")) == "phi"
    assert served_name(ModelOptions("org/phi")) == "org/phi"
    assert served_name(ModelOptions("org/phi", served_name="mine")) == "mine"


def test_the_user_s_own_arguments_come_last_where_they_win() -> None:
    given = line(options=VllmOptions(args=("--max-model-len", "100")))
    assert given[-2:] == ["--max-model-len", "100"]


def test_adapters_are_modules_with_room_for_the_highest_rank() -> None:
    each = tuple(LoraModule(name, Path("/a") / name, rank, {name: 1.0}) for name, rank in (("x", 9), ("y", 4)))
    blend = LoraModule("kaito-all-adapters", Path("/blends/b"), 13, {"x": 1.0, "y": 1.0})
    given = line(machine=Machine(Path("/m"), 1, 0.8, modules=LoraModules(each, {}, blend)))
    assert "--enable-lora" in given
    assert value(given, "--max-lora-rank") == "16"
    assert (value(given, "--max-loras"), value(given, "--max-cpu-loras")) == ("3", "3")
    start = given.index("--lora-modules") + 1
    assert given[start : start + 3] == ["x=/a/x", "y=/a/y", "kaito-all-adapters=/blends/b"]


def test_few_large_adapters_are_on_the_gpu_at_once() -> None:
    each = tuple(LoraModule(name, Path("/a") / name, 300, {name: 1.0}) for name in "abcdef")
    given = line(machine=Machine(Path("/m"), 1, 0.8, modules=LoraModules(each)))
    assert (value(given, "--max-lora-rank"), value(given, "--max-loras")) == ("320", "3")
    assert value(given, "--max-cpu-loras") == "6"


@pytest.mark.parametrize(
    ("count", "size", "flags"),
    [
        (0, GIB, {}),
        (1, GIB, {}),
        (4, 11 * GIB, {"data-parallel-size": 4}),
        (4, 12 * GIB, {"tensor-parallel-size": 4}),
        (2, None, {"tensor-parallel-size": 2}),
    ],
)
def test_a_model_of_less_than_half_a_gpu_runs_on_each_and_a_larger_one_is_cut(
    count: int, size: int | None, flags: dict[str, int]
) -> None:
    devices = (Gpu(24 * GIB, 23 * GIB),) * count
    assert parallelism(devices, size) == flags
    given = line(machine=Machine(Path("/m"), 1, 0.8, parallelism(devices, size)))
    assert [given[given.index(f"--{flag}") + 1] for flag in flags] == [str(each) for each in flags.values()]


@pytest.mark.parametrize("flag", ["--tensor-parallel-size=1", "--pipeline_parallel_size", "-tp", "-dp"])
def test_who_spreads_the_model_himself_is_not_interfered_with(flag: str) -> None:
    given = line(
        options=VllmOptions(args=(flag, "1")), machine=Machine(Path("/m"), 1, 0.8, {"tensor-parallel-size": 4})
    )
    assert given.count("--tensor-parallel-size") == 0


def test_memory_is_what_the_fullest_gpu_has_free_but_for_a_reserve() -> None:
    assert memory_utilization(()) == 0.84
    assert memory_utilization([Gpu(24 * GIB, 24 * GIB)]) == 0.95
    assert memory_utilization([Gpu(24 * GIB, 24 * GIB), Gpu(24 * GIB, 12 * GIB)]) == 0.47
    assert memory_utilization([Gpu(24 * GIB, 0)]) == 0.01


def test_the_size_of_a_folder_is_that_of_its_weights(tiny: Path, tmp_path: Path) -> None:
    [file] = (tiny / "model").glob("*.safetensors")
    assert model_bytes(tiny / "model") == file.stat().st_size
    assert model_bytes(tmp_path) is None


def test_a_config_s_section_becomes_flags(tmp_path: Path) -> None:
    config = tmp_path / "inference_config.yaml"
    config.write_text(
        "max_probe_steps: 6\nvllm:\n  max-model-len: 8192\n  swap_space: 4.5\n  enforce-eager: true\n"
        "  enable-prefix-caching: false\n  kv-cache-dtype: fp8\n  middleware: [a, b]\n  async-scheduling:\n"
    )
    assert args_of_config(config) == (
        *("--max-model-len", "8192", "--swap-space", "4.5", "--enforce-eager", "--no-enable-prefix-caching"),
        *("--kv-cache-dtype", "fp8", "--middleware", "a", "b", "--async-scheduling"),
    )


@pytest.mark.parametrize("text", ["", "max_probe_steps: 6", "vllm:"])
def test_a_config_without_that_section_says_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "c").write_text(text)
    assert args_of_config(tmp_path / "c") == ()


@pytest.mark.parametrize(
    ("text", "words"),
    [("vllm: [a]", "vllm: is list"), ("vllm: {a: {b: 1}}", r"vllm\.a"), ("a: [", "no YAML"), (None, "No such file")],
)
def test_a_config_that_says_no_flags_is_refused_with_the_place(tmp_path: Path, text: str | None, words: str) -> None:
    if text is not None:
        (tmp_path / "c").write_text(text)
    with pytest.raises(StartError, match=words):
        args_of_config(tmp_path / "c")
