"""Which claims go when fewer nodes are wanted, and when."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaito.api.workspace import WantedClaim
from kaito.controllers.workspace.surplus import Place, divide


def place(ordinal: int, **known: bool | str) -> Place:
    wanted = WantedClaim(ordinal=ordinal, incarnation=0, name=f"ws{ordinal}")
    return Place(wanted, **{"node": f"n{ordinal}", "works": True, "open": True, **known})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("places", "count", "kept"),
    [
        ([place(0), place(1), place(2)], 2, "ws0 ws1"),
        ([place(0), place(1), place(2, used=True)], 1, "ws2"),
        ([place(0, works=False, used=True), place(1), place(2)], 2, "ws1 ws2"),
        ([place(0, going=True), place(1), place(2)], 2, "ws1 ws2"),
        ([place(0, open=False), place(1), place(2)], 2, "ws1 ws2"),
        ([place(0, open=False, used=True), place(1), place(2)], 2, "ws0 ws1"),
        ([place(0, node="", works=False), place(1)], 1, "ws1"),
    ],
    ids=["highest go first", "a pod's node stays", "broken", "going", "cordoned", "cordoned with a pod", "no node yet"],
)
def test_the_node_that_is_worth_most_stays(places: list[Place], count: int, kept: str) -> None:
    surplus = divide(places, count, settled=True)
    assert surplus.kept == frozenset(kept.split())
    assert surplus.kept | surplus.released == {each.wanted.name for each in places}


@pytest.mark.parametrize(
    ("last", "settled"),
    [(place(1, leaving=True), True), (place(1), False), (place(1, leaving=True), False)],
    ids=["its pod is leaving", "a pod that stays has no node yet", "both"],
)
def test_a_working_node_goes_only_once_no_pod_needs_it(last: Place, settled: bool) -> None:
    surplus = divide([place(0, used=True), last], 1, settled=settled)
    assert (surplus.released, surplus.held) == (frozenset(), ("ws1",))


@pytest.mark.parametrize("change", [{"going": True}, {"node": "", "works": False}, {"works": False, "leaving": True}])
def test_what_serves_nobody_goes_at_once(change: dict[str, bool]) -> None:
    surplus = divide([place(0), place(1, **change)], 1, settled=False)
    assert surplus.released == {"ws1"}


PLACES: st.SearchStrategy[list[dict[str, bool]]] = st.lists(
    st.builds(dict, going=st.booleans(), works=st.booleans(), open=st.booleans(), used=st.booleans()), max_size=6
)


@given(PLACES, st.integers(min_value=1, max_value=6), st.booleans())
def test_as_many_stay_as_are_wanted_and_none_is_lost_from_sight(
    known: list[dict[str, bool]], count: int, settled: bool
) -> None:
    places = [place(ordinal, **each) for ordinal, each in enumerate(known)]
    surplus = divide(places, count, settled=settled)
    assert len(surplus.kept) == min(count, len(places))
    assert sorted([*surplus.kept, *surplus.released, *surplus.held]) == [each.wanted.name for each in places]
