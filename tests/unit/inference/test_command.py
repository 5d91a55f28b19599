"""The command line: what flags and variables make, and what is said about a mistake, before torch is imported."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kaito.inference.command import listen, read_options, set_threads
from kaito.inference.errors import StartError
from kaito.inference.flags import FLAGS, UsageError, read_flags, unknown_variables
from kaito.inference.options import EngineOptions, Limits, ModelOptions, ServerOptions
from kaito.inference.vllm import VllmOptions


def test_without_flags_every_option_has_the_default_of_its_class(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kaito.inference.command.MOUNTED_ADAPTERS", Path("/nonexistent"))
    options = read_options(["--model", "org/name"], {})
    assert options.model == ModelOptions("org/name")
    assert (options.engine, options.limits, options.server) == (EngineOptions(), Limits(), ServerOptions())


def test_each_flag_reaches_its_option(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("one\n\ntwo\n")
    (tmp_path / "config.yaml").write_text("vllm: {max-model-len: 32}")
    options = read_options(
        f"--model {tmp_path} --revision v1 --served-model-name m --dtype int8 --device cpu --adapters {tmp_path} "
        "--chat-template t.jinja --download-dir d --trust-remote-code --host ::1 --port 0 --runtime vllm "
        "--log-format json --log-level debug --max-num-seqs 2 --max-model-len 64 --prefill-tokens 8 --threads 3 "
        "--max-waiting 0 --max-waiting-tokens 9 --request-timeout 1.5 --max-body-bytes 2Ki --drain-timeout 0 "
        f"--api-key-file {tmp_path}/keys --vllm-config {tmp_path}/config.yaml "
        "--vllm-args=--enforce-eager --gpu-memory-utilization 0.5".split(),
        {},
    )
    assert options.model == ModelOptions(
        model=str(tmp_path),
        revision="v1",
        served_name="m",
        dtype="int8",
        device="cpu",
        adapters=tmp_path,
        strengths={},
        chat_template="t.jinja",
        download_dir=Path("d"),
        trust_remote_code=True,
    )
    assert options.engine == EngineOptions(max_num_seqs=2, max_model_len=64, prefill_tokens=8, threads=3)
    assert options.limits == Limits(0, 9, 1.5, 2048, 0.0)
    assert options.vllm == VllmOptions(("--max-model-len", "32", "--enforce-eager"), 2, 0.5)
    assert options.server == ServerOptions("::1", 0, "vllm", frozenset({"one", "two"}), "json", "debug")


def test_a_variable_stands_in_for_its_flag_and_gives_way_to_it() -> None:
    variables = {"KAITO_INFERENCE_MODEL": "org/a", "KAITO_INFERENCE_PORT": "1", "KAITO_INFERENCE_MAX_WAITING": "7"}
    options = read_options(["--port", "2"], variables)
    assert (options.model.model, options.server.port, options.limits.max_waiting) == ("org/a", 2, 7)


def test_variables_that_kubernetes_makes_for_a_service_of_our_name_are_none_of_ours() -> None:
    made = {
        "KAITO_INFERENCE_PORT": "tcp://10.0.0.1:80",
        "KAITO_INFERENCE_PORT_80_TCP": "tcp://10.0.0.1:80",
        "KAITO_INFERENCE_SERVICE_HOST": "10.0.0.1",
    }
    assert read_flags(["--model", "m"], made)["port"] == 5000
    assert unknown_variables(made) == []


def test_a_variable_of_no_flag_is_told_with_the_one_that_was_meant() -> None:
    assert unknown_variables({"KAITO_INFERENCE_MAX_NUM_SEQ": "1"}) == [
        "KAITO_INFERENCE_MAX_NUM_SEQ is no setting; did you mean KAITO_INFERENCE_MAX_NUM_SEQS?"
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            "--dtype flaot16",
            "--dtype: 'flaot16' is none of auto, float32, bfloat16, float16, int8; did you mean float16?",
        ),
        ("--runtime tgi", "--runtime: 'tgi' is none of auto, transformers, vllm"),
        ("--prot 5", "--prot: there is no such flag; did you mean --port?; see --help"),
        ("--port 70000", "--port: '70000' is not a whole number from 0 to 65535"),
        ("--port", "--port: expected one argument"),
        ("--port=-1", "--port: '-1' is not a whole number from 0 to 65535"),
        ("--vllm-args 'x", """--vllm-args: "'x" cannot be read as a shell does: No closing quotation"""),
        (
            "--gpu-memory-utilization 2",
            "--gpu-memory-utilization: '2' is not a number above 0 and up to 1, such as 0.9",
        ),
        (
            "--gpu-memory-utilization 0.0",
            "--gpu-memory-utilization: '0.0' is not a number above 0 and up to 1, such as 0.9",
        ),
        ("--max-num-seqs 0", "--max-num-seqs: '0' is not a whole number from 1 to 4096"),
        (
            "--request-timeout soon",
            "--request-timeout: 'soon' is not a number of seconds from 0.001 up, such as 30 or 0.5",
        ),
        ("--max-body-bytes 4MB", "--max-body-bytes: '4MB' is not a number of bytes such as 4194304 or 4Mi"),
        ("--device gpu", "--device: 'gpu' is none of auto, cpu, cuda, cuda:0, cuda:1, …"),
        ("--trust-remote-code perhaps", "--trust-remote-code: 'perhaps' is neither true nor false"),
        ("--revision=", "--revision: '' is empty"),
        ("phi-3", "'phi-3' belongs to no flag; the model is given as --model phi-3"),
    ],
)
def test_a_wrong_flag_is_told_in_one_line_with_what_is_allowed(arguments: str, said: str) -> None:
    with pytest.raises(UsageError) as error:
        read_options(["--model", "m", *arguments.split()], {})
    assert str(error.value) == said


def test_a_wrong_variable_is_told_by_its_own_name() -> None:
    with pytest.raises(UsageError, match=r"^KAITO_INFERENCE_PORT: 'http' is not a whole number from 0 to 65535$"):
        read_options(["--model", "m"], {"KAITO_INFERENCE_PORT": "http"})


def test_the_model_must_be_given() -> None:
    with pytest.raises(UsageError, match="--model is missing"):
        read_options([], {})


def test_a_key_on_the_command_line_is_refused_since_everybody_can_read_it_there() -> None:
    with pytest.raises(UsageError, match="KAITO_API_KEY, or give --api-key-file") as error:
        read_options(["--model", "m", "--api-key=secret"], {})
    assert "secret" not in str(error.value)


def test_keys_come_from_the_variable_and_the_file_together_and_are_never_shown(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("third\n")
    options = read_options(["--model", "m", "--api-key-file", f"{tmp_path}/keys"], {"KAITO_API_KEY": "first, second"})
    assert options.server.api_keys == {"first", "second", "third"}
    assert not any(key in repr(options) for key in ("first", "second", "third"))


@pytest.mark.parametrize(
    ("variables", "file", "said"),
    [
        ({"KAITO_API_KEY": ""}, None, "KAITO_API_KEY is set and holds no key"),
        ({"KAITO_API_KEY": " , "}, None, "KAITO_API_KEY is set and holds no key"),
        ({"KAITO_API_KEY": "schlüssel"}, None, "an API key of 9 characters has one that no HTTP header can carry"),
        ({}, "\n\n", "holds no key: one a line"),
    ],
)
def test_a_server_that_should_be_locked_never_starts_open(
    tmp_path: Path, variables: dict[str, str], file: str | None, said: str
) -> None:
    arguments = ["--model", "m"]
    if file is not None:
        (tmp_path / "keys").write_text(file)
        arguments += ["--api-key-file", f"{tmp_path}/keys"]
    with pytest.raises(StartError, match=said):
        read_options(arguments, variables)
    with pytest.raises(StartError, match="--api-key-file: cannot read"):
        read_options(["--model", "m", "--api-key-file", f"{tmp_path}/none"], variables and {})


@pytest.mark.parametrize("arguments", [["--model", "/nonexistent/x"], ["--model", "m", "--adapters", "/nonexistent"]])
def test_a_folder_that_is_not_there_is_told_by_its_flag(arguments: list[str]) -> None:
    with pytest.raises(StartError, match=rf"^{arguments[-2]}: {arguments[-1]} is not a folder$"):
        read_options(arguments, {})


def test_a_port_in_use_is_told_in_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(StartError, match=rf"^--host 127.0.0.1 --port {port}: .*Address already in use; choose ano"):
            listen("127.0.0.1", port)


def test_an_address_of_another_machine_is_told_in_one_line() -> None:
    with pytest.raises(StartError, match=r"^--host 192\.0\.2\.1 --port 0: cannot listen there"):
        listen("192.0.2.1", 0)


def test_threads_that_wait_sleep_and_few_kernels_are_kept() -> None:
    environment: dict[str, str] = {}
    set_threads(None, environment)
    assert environment["OMP_WAIT_POLICY"] == "passive"
    assert int(environment["ONEDNN_PRIMITIVE_CACHE_CAPACITY"]) < 1024


def test_threads_are_what_the_flag_says_else_what_a_variable_says_else_the_granted_cpus() -> None:
    given: dict[str, str] = {"OMP_NUM_THREADS": "5"}
    set_threads(3, given)
    assert (given["OMP_NUM_THREADS"], given["MKL_NUM_THREADS"]) == ("3", "3")
    set_by_hand = {"OMP_NUM_THREADS": "5", "OMP_WAIT_POLICY": "active"}
    set_threads(None, set_by_hand)
    assert set_by_hand["OMP_NUM_THREADS"] == "5"
    assert set_by_hand["OMP_WAIT_POLICY"] == "active"
    assert 1 <= int(set_by_hand["MKL_NUM_THREADS"]) <= len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["--model", "m", "--port", "x"], 2, "--port: 'x' is not a whole number from 0 to 65535"),
        (["--model", "/nonexistent"], 1, "--model: /nonexistent is not a folder"),
    ],
)
def test_a_mistake_ends_the_process_with_2_and_what_is_missing_with_1(
    arguments: list[str], status: int, said: str
) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "kaito.inference", *arguments], capture_output=True, text=True, timeout=30, check=False
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (status, "", f"python -m kaito.inference: {said}\n")


def test_the_help_names_every_flag_and_comes_without_torch() -> None:
    started = time.perf_counter()
    answered = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "kaito.inference", "--help"],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert [flag.name for flags in FLAGS.values() for flag in flags if f"--{flag.name} " not in answered.stdout] == []
    assert "examples:" in answered.stdout
    assert not any(heavy in answered.stderr for heavy in (" torch", " transformers", " fastapi", " uvicorn"))
    # A quarter of a second on an idle machine; torch alone would take several.
    assert time.perf_counter() - started < 3
