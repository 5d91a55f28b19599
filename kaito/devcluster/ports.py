"""Free ports on loopback, outside of the range from which the kernel takes ports for outgoing connections."""

from __future__ import annotations

import random
import socket
from pathlib import Path
from typing import Final

LOOPBACK: Final = "127.0.0.1"
_FIRST_PORT: Final = 20000
_DEFAULT_EPHEMERAL_START: Final = 32768
_ATTEMPTS: Final = 200


def free_port() -> int:
    """A port on which nobody listens now.

    It is chosen at random, so that two processes that ask at once hardly meet, and below the kernel's range of
    ephemeral ports, so that no outgoing connection takes it while its server is down for a restart. It can still
    be gone a moment later: who binds it must be ready to ask again.

    Raises:
        OSError: None of many candidates was free.
    """
    highest = _ephemeral_start() - 1
    for _ in range(_ATTEMPTS):
        # Not a secret, and the generator must not be one that a test has seeded.
        port = random.SystemRandom().randint(_FIRST_PORT, highest)
        if _is_free(port):
            return port
    raise OSError(f"no free port on {LOOPBACK} between {_FIRST_PORT} and {highest} in {_ATTEMPTS} attempts")


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As Go's listeners do: connections of an earlier server in TIME_WAIT do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def _ephemeral_start() -> int:
    try:
        start = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return _DEFAULT_EPHEMERAL_START
    return start if start > _FIRST_PORT + _ATTEMPTS else _DEFAULT_EPHEMERAL_START
