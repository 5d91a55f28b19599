"""Tokens to text and back: the tokenizer as the server uses it, and text that comes token by token."""

from kaito.inference.text.stream import TextStream
from kaito.inference.text.tokenizer import ModelTokenizer

__all__ = ["ModelTokenizer", "TextStream"]
