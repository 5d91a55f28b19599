"""Which known names are nearest to one that is not known."""

import re
from collections.abc import Iterable
from difflib import SequenceMatcher

longest_compared = 100
"""Characters of a given name that are looked at: comparing is quadratic, and the name is a stranger's."""


def nearest(given: str, known: Iterable[str], *, count: int = 3) -> tuple[str, ...]:
    """Returns the known names that look most like the given one, best first; letters' case and punctuation are nothing.

    A name that contains what was given (`phi-3-mini` for `phi-3-mini-4k-instruct`), or the reverse, comes before one
    that only has many letters in common. Names of equal rank keep the order they came in.
    """
    bare = _bare(given[:longest_compared])
    matcher = SequenceMatcher(autojunk=False, b=bare)

    def score(name: str) -> float:
        candidate = _bare(name)
        matcher.set_seq1(candidate)
        contained = bool(bare) and (bare in candidate or candidate in bare)
        return matcher.ratio() + contained

    return tuple(sorted(known, key=score, reverse=True)[:count])


def _bare(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
