"""kaito models, kaito skus and kaito estimate, as their user runs them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from kaito.cli.app import app

RUNNER = CliRunner()
NC6 = ("--instance-type", "standard_nc6s_V3")


def run(*arguments: str, code: int = 0) -> str:
    said = RUNNER.invoke(app, list(arguments), prog_name="kaito")
    assert said.exit_code == code, said.output
    return said.output


def names(*arguments: str) -> list[str]:
    return [row["name"] for row in json.loads(run(*arguments, "-o", "json"))]


@pytest.mark.parametrize("command", ["models", "skus", "estimate"])
def test_help_teaches_by_example(command: str) -> None:
    assert f"kaito {command}" in run(command, "--help").partition("Try:")[2]


@pytest.mark.parametrize(
    "arguments",
    [("models",), ("skus", "--all"), ("skus", "--fits", "phi-4"), ("estimate", "-m", "phi-4", "--cloud", "aws")],
)
def test_tables_fit_a_terminal_of_80_columns_and_hold_no_colours(arguments: tuple[str, ...]) -> None:
    lines = run(*arguments).splitlines()
    assert len(lines) > 10
    assert max(map(len, lines)) <= 80
    assert not any("\x1b" in line for line in lines)


@pytest.mark.parametrize(
    ("filters", "some", "none"),
    [
        (("phi-3",), "phi-3-mini-4k-instruct", "phi-4"),
        (("--runtime", "transformers"), "phi-4", "phi-4-mini-instruct"),
        (("--fits", "STANDARD_NC6S_V3"), "phi-3-mini-4k-instruct", "gpt-oss-20b"),
        (("--fits", "Standard_NC6s_v3", "--context", "4000"), "phi-3-mini-128k-instruct", "falcon-7b"),
        (("--tunable",), "phi-4", "gpt-oss-20b"),
        (("--gated",), "gemma-3-4b-it", "phi-4"),
        (("--no-gated",), "phi-4", "gemma-3-4b-it"),
        (("--license", "APACHE"), "falcon-7b", "phi-4"),
        (("--deprecated",), "phi-2", "phi-4"),
    ],
)
def test_models_are_filtered(filters: tuple[str, ...], some: str, none: str) -> None:
    found = names("models", *filters)
    assert some in found
    assert none not in found


@pytest.mark.parametrize(
    ("filters", "some", "none"),
    [
        (("NC24ads",), "Standard_NC24ads_A100_v4", "p5.48xlarge"),
        (("--cloud", "AWS"), "p5.48xlarge", "Standard_NC24ads_A100_v4"),
        (("--gpu", "a100"), "p4d.24xlarge", "p5.48xlarge"),
        (("--min-gpu-memory", "81"), "p5e.48xlarge", "p5.48xlarge"),
        (("--dtype", "float8"), "g6.xlarge", "p4d.24xlarge"),
        (("--fits", "Falcon-40B"), "Standard_NC48ads_A100_v4", "g5.xlarge"),
        ((), "p5.48xlarge", "Standard_NC6s_v3"),
        (("--all", "--cloud", "azure"), "Standard_NC6s_v3", "p5.48xlarge"),
    ],
)
def test_instance_types_are_filtered(filters: tuple[str, ...], some: str, none: str) -> None:
    found = names("skus", *filters)
    assert some in found
    assert none not in found


def test_instance_types_are_ordered_by_gpu_memory_within_a_cloud_and_marked() -> None:
    found = json.loads(run("skus", "--all", "-o", "json"))
    order = [(sku["cloud"], sku["gpu_count"] * sku["gpu"]["memory_gib"]) for sku in found]
    assert order == sorted(order)
    said = run("skus", "--all", "-o", "wide")
    assert "2025-09-30" in said
    assert "not NVIDIA" in said


def test_nodes_are_told_of_what_fits_a_model() -> None:
    nodes = {
        sku["name"]: sku["nodes"] for sku in json.loads(run("skus", "--fits", "llama-3.3-70b-instruct", "-o", "json"))
    }
    assert (nodes["g5.xlarge"], nodes["g5.48xlarge"]) == (9, 1)


def test_one_model_is_shown_whole_by_any_of_its_names_and_is_no_search_for_longer_ones() -> None:
    whole = yaml.safe_load(run("models", "MICROSOFT/phi-4", "-o", "yaml"))
    assert (whole["name"], whole["kv_bytes_per_token"], whole["tuning"]["network"]["layers"]) == ("phi-4", 204800, 40)
    assert [row["name"] for row in json.loads("[" + run("models", "phi-4", "-o", "json") + "]")] == ["phi-4"]


def test_wide_tables_have_what_tables_leave_out() -> None:
    assert {"LICENSE", "QUANTIZATION", "TUNABLE"} <= set(run("models", "-o", "wide").splitlines()[0].split())
    assert "float16,int8,bfloat16" in run("skus", "-o", "wide")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("models", "phi-3-minni-4k-instruct"), "no models like that; did you mean phi-3-mini-4k-instruct?"),
        (("models", "--fits", "Standard_NC6_v3"), "did you mean Standard_NC6s_v3?"),
        (("models", "--license", "nobody's"), "leave a filter out"),
        (("skus", "--fits", "phi-4-mini-instrct"), "did you mean phi-4-mini-instruct?"),
        (("skus", "--cloud", "gcp"), "no cloud 'gcp' in the catalogue; choose among arc, aws, azure"),
        (("skus", "--cloud", "azur"), "did you mean azure?"),
        (("skus", "Standard_NC6s_v3"), "only Standard_NC6s_v3 (retired): to see what was retired"),
        (("skus", "NG32"), "Standard_NG32ads_V620_v1 (not NVIDIA)"),
        (("skus", "--context", "9"), "give --fits, too"),
        (("models", "--context", "9"), "give --fits, too"),
        (("estimate", "-m", "phi4x"), "did you mean phi-4?"),
        (("estimate", "-m", "phi-4", "--gpu", "L4OS"), "did you mean L40S?"),
        (("estimate", "-m", "phi-4", "-t", "g5.xlarge", "--gpu", "L4"), "two ways to say the same"),
        (("estimate", "-m", "phi-4", "--gpu", "h100"), "did you mean H100-NVL?"),
        (("estimate", "-m", "phi-4", "--cloud", "gcp"), "no cloud 'gcp' in the catalogue"),
        (("estimate", "-m", "phi-4", "--cloud", "aws", "-t", "g5.xlarge"), "--cloud ranks instance types"),
        (("estimate", "-m", "phi-4", "--gpu-count", "2"), "--gpu-count goes with --gpu"),
        (("estimate", "-m", "phi-4", "--tuning", "lora", "--count", "2"), "--count is about serving"),
        (
            ("estimate", "-m", "falcon-40b", "--cloud", "arc", "--runtime", "transformers"),
            "no instance type of arc does",
        ),
        (("models", "--catalog", "absent.yaml"), "absent.yaml: cannot be read"),
    ],
)
def test_a_mistake_is_told_with_the_next_step(arguments: tuple[str, ...], told: str) -> None:
    assert told in run(*arguments, code=1)


def test_an_estimate_is_one_line_then_its_arithmetic_and_notes() -> None:
    lines = run("estimate", "-m", "Phi-3-Mini-4k-Instruct", *NC6).splitlines()
    first = "phi-3-mini-4k-instruct on Standard_NC6s_v3: 1 node with 1 GPU each, transformers,"
    assert (lines[0] + " " + lines[1].strip()).startswith(first)
    assert [line.split()[1:2] for line in lines if line.startswith("margin")] == [["7.00"]]
    assert "note: Standard_NC6s_v3 was retired by azure" in "\n".join(lines)


def test_what_does_not_fit_exits_with_1_and_names_what_does_cloud_by_cloud_the_same_first() -> None:
    said = run("estimate", "-m", "falcon-40b", *NC6, code=1)
    assert said.startswith("does not fit: falcon-40b needs 90.0 GiB")
    assert said.index("azure:   Standard_NC48ads_A100_v4") < said.index("aws:")
    found = json.loads(run("estimate", "-m", "falcon-40b", *NC6, "-o", "json", code=1))
    assert (found["fits"], found["margin_gib"]) == (False, -74)
    assert found["alternatives"]["azure"][0] == "Standard_NC48ads_A100_v4"


def test_the_parts_of_an_estimate_add_up() -> None:
    found = json.loads(run("estimate", "-m", "deepseek-r1-0528", "-t", "p5.48xlarge", "-o", "json"))
    assert (found["nodes"], found["gpus_per_node"], found["runtime"]) == (2, 8, "vllm")
    assert sum(part["gib"] for part in found["memory"]) == pytest.approx(found["needed_gib"], abs=0.01)


def test_gpus_that_cannot_run_the_model_are_told_why_without_arithmetic() -> None:
    found = json.loads(run("estimate", "-m", "gpt-oss-20b", *NC6, "-o", "json", code=1))
    assert "needs bfloat16" in found["why"]
    assert found["memory"] is None


def test_without_an_instance_type_those_that_do_are_ranked() -> None:
    found = json.loads(run("estimate", "-m", "phi-4", "--cloud", "azure", "-o", "json"))
    assert found[0]["instance_type"] == "Standard_NV72ads_A10_v5"
    assert [each["nodes"] for each in found] == sorted(each["nodes"] for each in found)


def test_a_gpu_of_any_cloud_can_be_asked_about() -> None:
    found = json.loads(run("estimate", "-m", "phi-4", "--gpu", "l40s", "--gpu-count", "2", "-o", "json"))
    assert (found["cloud"], found["nodes"], found["gpus_per_node"]) == ("generic", 1, 2)


@pytest.mark.parametrize(("method", "code"), [("qlora", 0), ("lora", 1)])
def test_tuning_is_estimated_by_either_method(method: str, code: int) -> None:
    said = run("estimate", "-m", "phi-3-mini-128k-instruct", *NC6, "--tuning", method, code=code)
    assert f"{method} of phi-3-mini-128k-instruct needs" in " ".join(said.split())


def test_a_file_of_ones_own_is_searched_too(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text("skus: {rack-a: {cloud: onprem, gpu: L40S, gpu_count: 2, source: [ours]}}")
    assert names("skus", "--cloud", "onprem", "--catalog", str(path)) == ["rack-a"]
    assert "rack-a: 1 node with 2 GPUs" in run("estimate", "-m", "phi-4", "-t", "RACK-A", "--catalog", str(path))


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    command = [sys.executable, "-c", "from kaito.cli.main import main; main()", "models", "-o", "json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(30) == 0
