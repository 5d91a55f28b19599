"""Elections at large: whatever the network, the clocks and the machines do, two candidates never believe at once."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.runtime.election.simulation import Simulation

HOUR_S = 3600.0


def play(seed: int, trouble: float, *, rate_skew: float = 0.0, length_s: float = 240.0, **changes: float) -> Simulation:
    """Some minutes in which processes come, die, stop, are paused, and the Lease is deleted and written to."""
    it = Simulation(seed, trouble=trouble, rate_skew=rate_skew)
    rng = it.rng
    for _ in range(rng.randint(2, 4)):
        it.at(rng.uniform(0.0, 20.0), lambda: it.join(**changes))

    def disturb() -> None:
        living = [one for one in it.candidates if one not in it.ended()]
        leader = it.leader()
        chosen = leader if leader and rng.random() < 0.5 else (rng.choice(living) if living else None)
        match rng.choice(("kill", "pause", "pause", "stop", "delete", "touch", "nothing")):
            case "kill" if chosen:
                it.kill(chosen)
            case "pause" if chosen:
                it.pause(chosen, rng.uniform(0.0, 40.0))
            case "stop" if chosen:
                it.stop(chosen)
            case "delete":
                it.server.delete()
            case "touch":
                it.server.touch()
        while len([one for one in it.candidates if one not in it.ended()]) < 2:
            it.join(**changes)

    moment = 0.0
    while (moment := moment + rng.expovariate(0.1)) < length_s:
        it.at(moment, disturb)
    it.run(length_s)
    return it


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32), trouble=st.sampled_from((0.0, 0.05, 0.2, 0.5)))
def test_t60_two_never_believe_at_once_whatever_is_lost_late_doubled_deleted_or_paused(
    seed: int, trouble: float
) -> None:
    assert play(seed, trouble).overlaps == []


@settings(max_examples=15)
@given(seed=st.integers(0, 2**32))
def test_clocks_that_run_faster_or_slower_within_the_margin_make_no_second_leader(seed: int) -> None:
    assert play(seed, 0.2, rate_skew=0.1).overlaps == []


@settings(max_examples=10)
@given(seed=st.integers(0, 2**32), trouble=st.sampled_from((0.0, 0.2, 0.5)))
def test_once_trouble_is_over_somebody_leads(seed: int, trouble: float) -> None:
    it = play(seed, trouble)
    it.trouble = 0.0
    it.at(it.now + 60.0, lambda: it.join())  # those who lost are replaced
    it.run(it.now + 180.0)
    assert it.leader() is not None
    assert it.overlaps == []


def test_the_simulation_has_many_reigns_to_look_at() -> None:
    reigns = [len(play(seed, trouble).reigns) for seed in range(8) for trouble in (0.0, 0.2)]
    assert sum(reigns) > 30
