"""Strengths of adapters from the environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from kaito.inference.errors import StartError
from kaito.inference.strengths import read_strengths


@pytest.fixture
def adapters(tmp_path: Path) -> Path:
    for name in ("legal", "polite", "HOME"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "adapter_config.json").write_text("{}")
    (tmp_path / "none").mkdir()
    return tmp_path


def test_strengths_come_from_one_variable_as_json(adapters: Path) -> None:
    assert read_strengths({"KAITO_ADAPTERS": '{"legal": 0.8, "polite": 2}'}, adapters) == {"legal": 0.8, "polite": 2.0}


def test_as_in_the_first_kaito_a_variable_with_an_adapters_name_is_its_strength(adapters: Path) -> None:
    assert read_strengths({"legal": "0.25"}, adapters) == {"legal": 0.25}


def test_the_one_variable_wins_over_that_of_the_name(adapters: Path) -> None:
    assert read_strengths({"legal": "0.25", "KAITO_ADAPTERS": '{"legal": 1}'}, adapters) == {"legal": 1.0}


def test_an_adapter_may_have_the_name_of_a_variable_that_means_something_else(adapters: Path) -> None:
    assert read_strengths({"HOME": "/root", "none": "0.5"}, adapters) == {}


@pytest.mark.parametrize("text", ["", "  ", "{}"])
def test_no_strengths_are_none(adapters: Path, text: str) -> None:
    assert read_strengths({"KAITO_ADAPTERS": text}, adapters) == {}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{legal: 1}", r"KAITO_ADAPTERS: '\{legal: 1\}' is not a JSON object such as"),
        ("[1]", r"KAITO_ADAPTERS: '\[1\]' is not a JSON object such as"),
        ("[" * 100_000, "is not a JSON object such as"),
        ('{"legal": "0.8"}', "the strength of 'legal' is \"0.8\", which is no finite number"),
        ('{"legal": true}', "the strength of 'legal' is true, which is no finite number"),
        ('{"legal": NaN}', "the strength of 'legal' is NaN, which is no finite number"),
        ('{"legal": 1e999}', "the strength of 'legal' is Infinity, which is no finite number"),
        ('{"legal": 1' + "0" * 400 + "}", "which is no finite number"),
        ('{"leagl": 1}', "'leagl' is no adapter; .* has HOME, legal, polite; did you mean legal\\?$"),
        ('{"none": 1}', "'none' is no adapter"),
    ],
)
def test_a_mistake_is_told_with_what_is_there(adapters: Path, text: str, said: str) -> None:
    with pytest.raises(StartError, match=said):
        read_strengths({"KAITO_ADAPTERS": text}, adapters)


def test_strengths_without_adapters_are_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="there are none, since neither --adapters is given nor /mnt/adapter there"):
        read_strengths({"KAITO_ADAPTERS": '{"legal": 1}'}, None)
    with pytest.raises(StartError, match=r"no folder in .* has an adapter_config\.json"):
        read_strengths({"KAITO_ADAPTERS": '{"legal": 1}'}, tmp_path)
