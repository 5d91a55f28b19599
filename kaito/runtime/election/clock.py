"""The clock of leader election: it counts up, also while the machine sleeps."""

from __future__ import annotations

import time


def uptime_s() -> float:
    """Seconds since some moment of the past; never set, never running backwards.

    CLOCK_BOOTTIME where there is one (Linux): the monotonic clock of Linux stands still while the machine is suspended,
    and after that a leader would take an old lease for a fresh one. Elsewhere ``time.monotonic``.
    """
    return time.clock_gettime(_BOOT_TIME) if _BOOT_TIME is not None else time.monotonic()


def _boot_time() -> int | None:
    clock: int | None = getattr(time, "CLOCK_BOOTTIME", None)
    if clock is None:
        return None
    try:
        time.clock_gettime(clock)
    except OSError:  # a sandbox may refuse it
        return None
    return clock


_BOOT_TIME = _boot_time()
