"""The requests: the same for every side, of mixed lengths, answered greedily, so that all sides answer alike."""

from __future__ import annotations

import random
from dataclasses import dataclass

_WORDS = (
    *("the", "quick", "brown", "fox", "jumps", "over", "lazy", "dog", "walks", "home", "along", "river"),
    *("workspace", "asks", "nodes", "run", "model", "answers"),
)


@dataclass(frozen=True, slots=True)
class Ask:
    """One request.

    Attributes:
        text: the user's message.
        max_tokens: of the answer.
    """

    text: str
    max_tokens: int


def requests(
    count: int, seed: int, *, words: tuple[int, int] = (4, 80), tokens: tuple[int, int] = (16, 64)
) -> list[Ask]:
    """Requests whose lengths are spread evenly.

    Args:
        count: how many.
        seed: the same one makes the same requests.
        words: fewest and most of a message; a word is one to three tokens of the tiny tokenizer.
        tokens: fewest and most of an answer.
    """
    source = random.Random(seed)
    return [
        Ask(" ".join(source.choices(_WORDS, k=source.randint(*words))), source.randint(*tokens)) for _ in range(count)
    ]
