"""AddressPool: which addresses pods get."""

from __future__ import annotations

import pytest

from kaito.devcluster.process_nodes.address_pool import AddressPool
from kaito.devcluster.process_nodes.addresses import is_pod


def test_pods_of_two_agents_on_one_machine_do_not_take_each_others_addresses() -> None:
    pools = [AddressPool(), AddressPool()]
    taken = [pool.take(f"pod {number}") for pool in pools for number in range(3)]
    assert all(map(is_pod, taken))
    assert len(set(taken)) == 6


def test_a_pod_keeps_its_address_as_long_as_nobody_else_has_it() -> None:
    pool = AddressPool()
    before = pool.take("pod")
    pool.release(before)
    assert pool.take("pod", before) == before
    assert pool.take("another", before) != before


@pytest.mark.parametrize("name", ["10.244.example.com", "10.244.0.300", "10.244.1", "10.245.0.2", "::1", ""])
def test_what_is_no_address_of_a_pod_leads_nowhere(name: str) -> None:
    assert not is_pod(name)
