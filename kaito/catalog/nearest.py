"""Which known names are nearest to one that is not known, and whether one is so near that it must have been meant."""

import re
from collections.abc import Callable, Iterable
from difflib import SequenceMatcher
from functools import lru_cache

longest_compared = 100
"""Characters of a given name that are looked at: comparing is quadratic, and the name is a stranger's."""

shortest_start = 3
"""Letters and digits that the start of a name must have to stand for the whole name."""

characters_per_slip = 5
"""A name of so many letters and digits may have one slip of the keyboard, one of twice as many two; three at most."""


def did_you_mean(given: str, known: Iterable[str]) -> str | None:
    """Returns the known name that a given one must have been meant for, or None where none is near enough to say so.

    Near is what differs in letters' case and punctuation only (`phi_4`), in a slip or two of the keyboard for its
    length (`loar` for `lora`, `Standard_NC6_v3`), or by an end that is missing or is too much (`phi-3-mini`). An Azure
    type without GPUs (`Standard_D4s_v3`) is near to none that has some, though many letters agree.
    """
    given = given[:longest_compared]
    bare = _bare(given)
    apart = ((_apart(bare, _bare(name)), name) for name in nearest(given, known, count=_compared))
    near = [((_words_left(given, name), slips), name) for slips, name in apart if slips is not None]
    return min(near, key=lambda pair: pair[0], default=(0, None))[1]


def nearest(given: str, known: Iterable[str], *, count: int = 3) -> tuple[str, ...]:
    """Returns the known names that look most like the given one, best first; letters' case and punctuation are nothing.

    A name that contains what was given (`phi-3-mini` for `phi-3-mini-4k-instruct`), or the reverse, comes before one
    that only has many letters in common. Names of equal rank keep the order they came in. The best may still be far
    from what was given: see `did_you_mean`.
    """
    return _ranked(_bare(given[:longest_compared]), tuple(known), max(count, _compared))[:count]


_compared = 5
"""Names that `did_you_mean` looks at closely."""


# Who asks for the nearest names asks which was meant, too: ranking a catalogue takes milliseconds of an event loop.
@lru_cache(maxsize=64)
def _ranked(bare: str, known: tuple[str, ...], count: int) -> tuple[str, ...]:
    matcher = SequenceMatcher(autojunk=False, b=bare)

    def rank(order: int, ratio: Callable[[], float]) -> tuple[float, int]:
        candidate = _bare(known[order])
        matcher.set_seq1(candidate)
        contained = bool(bare) and (bare in candidate or candidate in bare)
        return -(ratio() + contained), order

    # `quick_ratio` is never below `ratio` and takes a tenth of its time: most names need no more.
    hopes = sorted(rank(order, matcher.quick_ratio) for order in range(len(known)))
    best: list[tuple[float, int]] = []
    for hope in hopes:
        if len(best) == count and hope > best[-1]:
            break
        best = sorted([*best, rank(hope[1], matcher.ratio)])[:count]
    return tuple(known[order] for _, order in best)


def _words_left(given: str, name: str) -> int:
    """0: these are whole words that a name begins with (h100, of H100-NVL), so they are no slip for H200; else 1."""
    rest = name[len(given) :] if name.lower().startswith(given.lower()) else ""
    return 0 if len(_bare(given)) >= shortest_start and rest.startswith(("-", "_", "/")) else 1


def _apart(given: str, name: str) -> int | None:
    """Returns the slips between what was given and a name; None: too many for the one to be meant for the other."""
    longer = len(name) - len(given)
    if name.startswith(given) and len(given) >= shortest_start:
        return longer
    # Three quarters: phi-4-multimodal is no way to write phi-4.
    if given.startswith(name) and len(name) * 4 >= len(given) * 3:
        return -longer
    allowed = _allowed_slips(given)
    slips = _slips(given, name) if abs(longer) <= allowed else allowed + 1
    return slips if slips <= allowed else None


def _allowed_slips(given: str) -> int:
    return 0 if len(given) < shortest_start else min(3, max(1, len(given) // characters_per_slip))


def _slips(one: str, other: str) -> int:
    """Letters that are wrong, missing, too many or swapped with their neighbour (optimal string alignment)."""
    letters = enumerate(zip(one, other, strict=False))
    start = next((at for at, (left, right) in letters if left != right), min(len(one), len(other)))
    one, other = one[start:], other[start:]
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, left in enumerate(one, start=1):
        above, before, row = before, row, [i]
        for j, right in enumerate(other, start=1):
            slips = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (left != right))
            if i > 1 and j > 1 and left == other[j - 2] and one[i - 2] == right:
                slips = min(slips, above[j - 2] + 1)
            row.append(slips)
    return row[-1]


@lru_cache(maxsize=4096)
def _bare(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
