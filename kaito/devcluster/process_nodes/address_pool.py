"""AddressPool: which pod has which address."""

from __future__ import annotations

import random
from typing import Final

from kaito.devcluster.process_nodes.addresses import POD_NETWORK

_FIRST: Final = 2
_LAST: Final = 255 * 256 + 254


class AddressPool:
    """Gives each pod an address of its own, by the pod's uid; one after the other, so that none is used again soon.

    The first is any, since another agent may run on this machine, whose pods listen at the same loopback addresses.
    """

    def __init__(self) -> None:
        self._owners: dict[str, str] = {}
        self._next = random.randint(_FIRST, _LAST)

    def take(self, uid: str, wanted: str | None = None) -> str:
        """The address of a pod: the one it had before, as far as it is free.

        Raises:
            RuntimeError: all are taken.
        """
        if wanted and wanted.startswith(f"{POD_NETWORK}.") and self._owners.get(wanted, uid) == uid:
            self._owners[wanted] = uid
            return wanted
        for _ in range(_LAST):
            address = f"{POD_NETWORK}.{self._next // 256}.{self._next % 256}"
            self._next = self._next + 1 if self._next < _LAST else _FIRST
            if address not in self._owners and not address.endswith((".0", ".255")):
                self._owners[address] = uid
                return address
        raise RuntimeError(f"all addresses of {POD_NETWORK}.0.0/16 are taken")

    def release(self, address: str) -> None:
        """Its pod is no more."""
        self._owners.pop(address, None)
