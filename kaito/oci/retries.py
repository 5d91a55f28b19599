"""When something is tried again, and after how long."""

from __future__ import annotations

import email.utils
import random
import time
from dataclasses import dataclass

RETRIED_STATUSES = frozenset({408, 429, 500, 502, 503, 504})
_LONGEST_WISH_S = 60.0


@dataclass(frozen=True, slots=True)
class Retries:
    """How often something is tried, and the pauses between.

    Attributes:
        attempts: in all.
        first_s: before the second one; each further pause is twice as long.
        longest_s: the longest pause, unless the server asks for a longer one.
    """

    attempts: int = 6
    first_s: float = 0.5
    longest_s: float = 15.0

    def pause_s(self, failures: int, wished_s: float | None = None) -> float:
        """The pause after so many failures: at least as long as the server wished, up to a minute."""
        pause_s = min(self.longest_s, self.first_s * 2.0 ** (failures - 1)) * random.uniform(0.75, 1.25)
        return max(pause_s, min(wished_s or 0.0, _LONGEST_WISH_S))


def retry_after_s(header: str | None) -> float | None:
    """Seconds that a `Retry-After` header asks for, which has a number or a date; None if it is neither."""
    if header is None:
        return None
    if header.strip().isdecimal():
        return float(header)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(header).timestamp() - time.time())
    except (TypeError, ValueError):
        return None
