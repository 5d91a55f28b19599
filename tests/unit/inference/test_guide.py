"""docs/inference.md says what the server is: its flags, its fields, its metrics, its codes."""

from __future__ import annotations

import json
import re
from pathlib import Path

from kaito.inference import errors
from kaito.inference.flags import FLAGS
from kaito.inference.http.openai.requests import ChatCompletionRequest, CompletionRequest
from kaito.inference.metrics import Metrics

PAGE = (Path(__file__).parents[3] / "docs/inference.md").read_text()


def section(title: str) -> str:
    """The text below a heading, up to the next one."""
    return re.split(r"(?m)^#+ ", PAGE.split(f"# {title}\n")[1])[0]


def flags_table() -> str:
    """The table of flags as it should be: what `--help` says."""
    rows = [
        f"| `--{flag.name} {flag.metavar}` | {'' if flag.default is None else f'`{flag.default}`'} | {flag.help} |"
        for flags in FLAGS.values()
        for flag in flags
    ]
    return "\n".join(["| flag | default | |", "|---|---|---|", *rows])


def test_its_flags_are_those_of_the_help() -> None:
    assert flags_table() in PAGE


def test_its_fields_are_those_that_are_honoured_and_those_that_are_refused() -> None:
    listed = {row.split("|")[1].strip(): row for row in section("Fields").splitlines() if row.startswith("| `")}
    chat, text = ChatCompletionRequest, CompletionRequest
    honoured = {f"`{name}`" for name in {*chat.model_fields, *text.model_fields}}
    assert listed.keys() == honoured
    for name, row in listed.items():
        both = [name.strip("`") in model.model_fields for model in (chat, text)]
        assert [cell.strip() for cell in row.split("|")[2:4]] == ["yes" if each else "" for each in both], name
    # What a template is given, and what only one of them refuses, is in the other's table.
    refused = {*chat.off, *text.off} - {*chat.model_fields, *text.model_fields}
    assert set(re.findall(r"`(\w+)`", section("Refused"))) == refused


def test_its_metrics_are_those_that_are_told() -> None:
    metrics = Metrics()
    metrics.serve_engine("base", 0, 1, 64)
    told = set(re.findall(r"(?m)^# HELP (\S+)", metrics.render().decode()))
    # Of counters, Prometheus' client tells when each was made, too.
    assert set(re.findall(r"(?m)^\| `([\w:]+)`", section("Metrics"))) == {
        name for name in told if not name.endswith("_created")
    }


def test_its_errors_are_those_that_there_are() -> None:
    kinds = [each for each in vars(errors).values() if isinstance(each, type)]
    statuses = {each.status for each in kinds if issubclass(each, errors.RequestError)}
    assert {int(status) for status in re.findall(r"(?m)^\| (\d+) ", section("Errors"))} == statuses | {422}


def test_its_json_is_json() -> None:
    bodies = [json.loads(text) for text in re.findall(r"-d '(\{.*\})'", PAGE)]
    assert bodies
    # What /chat and the completions cannot do without.
    assert all(body.keys() & {"prompt", "messages"} for body in bodies)
