"""Addresses: what the cluster calls pods and nodes, and where on this machine's loopback they really are.

The API server refuses to speak of loopback addresses, in pods and endpoints alike. So pods have addresses of a private
range in the cluster's eyes, and each stands for the loopback address with the same last three numbers; the API server
reaches them through a proxy that knows this (`--egress-selector-config-file`).
"""

from __future__ import annotations

import sys
from ipaddress import IPv4Address, IPv4Network
from typing import Final

LABEL: Final = "kaito.sh/process-node"
"""Nodes with this label, "true", are the agent's."""
POD_NETWORK: Final = "10.244"
"""A pod's address in the cluster is this and two numbers."""
_PODS: Final = IPv4Network(f"{POD_NETWORK}.0.0/16")
NODE_ADDRESS: Final = "10.240.0.1"
"""The address of every node, since all of them are this machine."""

KUBELET_PORT: Final = 10250
"""Where the API server asks a node for logs."""


def local(address: str) -> str:
    """Where a pod's processes listen: 127.244.0.5 for 10.244.0.5; 127.0.0.1 where a system has no other loopback."""
    if sys.platform != "linux":
        return "127.0.0.1"
    return "127." + address.partition(".")[2]


def is_pod(address: str) -> bool:
    """Whether an address is one that pods of process nodes have."""
    try:
        return IPv4Address(address) in _PODS
    except ValueError:
        return False  # a name, whatever it begins with, or an address of IPv6
