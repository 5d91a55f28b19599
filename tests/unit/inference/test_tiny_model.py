"""The model that the tests of the server run on."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import AutoTokenizer


@pytest.mark.parametrize("text", ["Größe 東京 🙂", "a\n\tb  c", "\x00\x7f"])
def test_any_text_comes_back_from_its_tokenizer(tiny: Path, text: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny / "model")
    assert tokenizer.decode(tokenizer.encode(text)) == text
