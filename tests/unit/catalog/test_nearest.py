"""What is near enough to be asked "did you mean", and what only looks alike."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaito.catalog import Catalog
from kaito.catalog.nearest import did_you_mean, nearest

CATALOG = Catalog.load()
NAMES = [*CATALOG.models, *CATALOG.skus]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("phi-3-mini-4k-instrct", "phi-3-mini-4k-instruct"),
        ("phi3_mini_4k_instruct", "phi-3-mini-4k-instruct"),
        ("phi-3-mini-4k-instruct-hf", "phi-3-mini-4k-instruct"),
        ("phi-3-mini", "phi-3-mini-4k-instruct"),
        ("phi-3", "phi-3-mini-4k-instruct"),
        ("llama-2-7b-hf", "llama-2-7b"),
        ("falcno-7b", "falcon-7b"),
        ("falcon-7b-instuct", "falcon-7b-instruct"),
        ("Standard_NC6_v3", "Standard_NC6s_v3"),
        ("standard_nc24ads_a100_v5", "Standard_NC24ads_A100_v4"),
        ("p5.49xlarge", "p5.48xlarge"),
        ("g5.xlrage", "g5.xlarge"),
    ],
)
def test_a_slip_of_the_keyboard_is_told_what_was_meant(typed: str, meant: str) -> None:
    assert did_you_mean(typed, NAMES) == meant


@pytest.mark.parametrize(
    "typed",
    ["", "-", "x", "bert-base-uncased", "stable-diffusion-xl", "phi-4-multimodal", "Standard_D4s_v3", "n1-standard-4"],
)
def test_what_only_looks_alike_is_not_offered(typed: str) -> None:
    assert did_you_mean(typed, NAMES) is None


@pytest.mark.parametrize(
    ("typed", "meant"), [("loar", "lora"), ("q-lora", "qlora"), ("Lora", "lora"), ("full", None), ("sft", None)]
)
def test_short_words_bear_one_slip(typed: str, meant: str | None) -> None:
    assert did_you_mean(typed, ["lora", "qlora"]) == meant


def test_of_two_that_are_near_the_one_with_fewer_slips_is_meant() -> None:
    assert did_you_mean("transformer", ["transformed2", "transformers"]) == "transformers"


def test_whole_words_at_the_start_are_no_slip_for_another_word() -> None:
    assert did_you_mean("h100", ["H200", "H100-NVL"]) == "H100-NVL"
    assert did_you_mean("H10", ["H100", "H100-NVL"]) == "H100"


def test_nothing_is_near_to_nothing() -> None:
    assert did_you_mean("phi-4", []) is None


@given(st.sampled_from(NAMES), st.data())
def test_one_letter_too_few_too_many_or_swapped_is_always_near(name: str, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(name) - 2))
    slip = data.draw(
        st.sampled_from(
            [
                name[:at] + name[at + 1 :],
                name[:at] + "x" + name[at:],
                name[:at] + name[at + 1] + name[at] + name[at + 2 :],
            ]
        )
    )
    assert did_you_mean(slip, NAMES) is not None


@given(st.text(max_size=300))
def test_what_was_meant_is_one_of_the_nearest(typed: str) -> None:
    meant = did_you_mean(typed, NAMES)
    assert meant is None or meant in nearest(typed, NAMES, count=5)
