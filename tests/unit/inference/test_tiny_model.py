"""The model that the tests of the server run on."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from kaito.inference.testing import tiny_model


@pytest.mark.parametrize("text", ["Größe 東京 🙂", "a\n\tb  c", "\x00\x7f"])
def test_any_text_comes_back_from_its_tokenizer(tiny: Path, text: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny / "model")
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_it_is_what_transformers_loads_and_the_same_for_the_same_seed(tiny: Path, tmp_path: Path) -> None:
    first, again, other = (
        AutoModelForCausalLM.from_pretrained(path)
        for path in (tiny / "model", tiny_model(tmp_path / "again"), tiny_model(tmp_path / "other", seed=1))
    )
    assert type(first).__name__ == "Phi3ForCausalLM"
    assert (first.lm_head.weight == again.lm_head.weight).all()
    assert (first.lm_head.weight != other.lm_head.weight).any()


def test_it_is_made_without_a_word(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    model = tiny_model(tmp_path, adapters={"legal-1.0": 2})
    assert model == tmp_path / "model"
    assert sorted(path.name for path in (tmp_path / "adapters" / "legal-1.0").iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    assert tuple(capfd.readouterr()) == ("", "")
