"""Tokenizers of each kind that models come with."""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from kaito.inference.text import ModelTokenizer

_SPECIAL = ("<unk>", "<s>", "</s>")
_PIECES = ("▁", "▁the", "▁th", "e", "t", "h", "a", "▁a", "▁▁", "▁fox", "f", "o", "x", "東", "!", "\n", "▁</", "é")


@pytest.fixture(scope="session")
def byte_level(tiny: Path) -> ModelTokenizer:
    """As GPT's, Llama 3's, Phi-4's and Qwen's: tokens are bytes."""
    return ModelTokenizer(AutoTokenizer.from_pretrained(tiny / "model"))


@pytest.fixture(scope="session")
def byte_fallback() -> ModelTokenizer:
    """As Llama 2's, Mistral's and Phi-3's: tokens are text, with bytes for what the vocabulary lacks."""
    return ModelTokenizer(
        _sentencepiece(
            [f"<0x{byte:02X}>" for byte in range(256)],
            decoders.Sequence(
                [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
            ),
        )
    )


@pytest.fixture(scope="session")
def metaspace() -> ModelTokenizer:
    """As T5's: tokens are text, and nothing stands for what the vocabulary lacks."""
    return ModelTokenizer(_sentencepiece([], decoders.Metaspace()))


def _sentencepiece(more: list[str], decoder: decoders.Decoder) -> PreTrainedTokenizerFast:
    vocabulary = [(piece, -float(place)) for place, piece in enumerate((*_SPECIAL, *more, *_PIECES))]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=0, byte_fallback=bool(more)))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoder
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>")
