"""Numbers on the command line: what is none, or out of its range, is told with its flag."""

import math


def seconds(flag: str, text: str, *, example: str, zero: bool = False) -> float:
    """Reads a number of seconds.

    Args:
        flag: whose value it is.
        text: the value.
        example: one that would do, for the error.
        zero: whether 0 is allowed.

    Raises:
        ValueError: it is no number, or out of its range.
    """
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not (0 < number < math.inf or (zero and number == 0)):
        allowed = "0 or more, " if zero else ""
        raise ValueError(f"{flag} is {text!r}; give a number of seconds, {allowed}such as {example}")
    return number
