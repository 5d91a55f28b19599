"""Free ports."""

from __future__ import annotations

import socket
from pathlib import Path

from kaito.devcluster.ports import LOOPBACK, free_port


def test_a_free_port_can_be_listened_on_and_is_not_one_of_the_kernels_own() -> None:
    port = free_port()
    with socket.create_server((LOOPBACK, port)):
        pass
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert 20000 <= port < max(lowest, 32768)


def test_many_ports_hardly_ever_meet() -> None:
    ports = [free_port() for _ in range(40)]
    assert len(set(ports)) >= 38
